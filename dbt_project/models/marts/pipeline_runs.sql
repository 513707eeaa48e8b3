select
    run_id,
    job,
    cutoff_date,
    started_at,
    finished_at,
    -- Readers see this table only if the run that makes it gets as far as publishing it.
    case
        when status = 'running' and run_id = '{{ var("run_id") }}' then 'published' else status
    end as status,
    model_version,
    count_customers,
    count_rows_in,
    count_rows_kept,
    count_rows_guest,
    count_rows_quarantined,
    sum_amount_in,
    sum_amount_kept,
    sum_amount_guest,
    sum_amount_quarantined,
    message
from {{ source('ops', 'pipeline_runs') }}
