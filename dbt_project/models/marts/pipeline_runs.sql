select
    run_id,
    job,
    cutoff_date,
    started_at,
    finished_at,
    status,
    model_version,
    count_customers,
    count_rows_in,
    count_rows_kept,
    count_rows_guest,
    count_rows_quarantined,
    sum_amount_in,
    sum_amount_kept,
    sum_amount_guest,
    sum_amount_quarantined
from {{ source('ops', 'pipeline_runs') }}
