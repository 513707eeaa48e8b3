select
    run_id,
    cutoff_date,
    checked_at,
    gate,
    table_name,
    check_name,
    column_name,
    severity,
    is_passed,
    observed,
    expected,
    count_checked,
    count_failed,
    failed_keys,
    message
from {{ source('ops', 'data_quality') }}
