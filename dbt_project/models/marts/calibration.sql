select
    model,
    horizon_days,
    evaluation_date,
    target,
    bin,
    count_customers,
    mean_predicted,
    mean_actual,
    rmse,
    share_of_predicted,
    share_of_actual,
    model_version,
    run_id
from {{ source('scores', 'calibration') }}
