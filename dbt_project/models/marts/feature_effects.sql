select
    cutoff_date,
    horizon_days,
    segment,
    driver,
    concept,
    driver_rank,
    mean_absolute_effect,
    mean_effect,
    share,
    direction,
    correlation,
    count_customers,
    method,
    fidelity,
    model_version,
    run_id
from {{ source('scores', 'feature_effects') }}
