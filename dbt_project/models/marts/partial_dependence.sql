select
    cutoff_date,
    horizon_days,
    driver,
    point,
    driver_value,
    mean_predicted,
    count_customers,
    model_version,
    run_id
from {{ source('scores', 'partial_dependence') }}
