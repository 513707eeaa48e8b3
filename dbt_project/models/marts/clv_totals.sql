select
    cutoff_date,
    horizon_days,
    group_kind,
    group_value,
    count_customers,
    clv,
    low_80,
    high_80,
    low_95,
    high_95,
    model_version,
    run_id
from {{ source('scores', 'clv_totals') }}
