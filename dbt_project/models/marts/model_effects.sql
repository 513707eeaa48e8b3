select
    model,
    horizon_days,
    evaluation_date,
    driver,
    driver_rank,
    mean_absolute_effect,
    share,
    direction,
    correlation,
    count_customers,
    method,
    fidelity,
    model_version,
    run_id
from {{ source('scores', 'model_effects') }}
