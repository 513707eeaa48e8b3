with history as (
    select * from {{ ref('customer_clv_history') }}
),

newest as (
    select *
    from history
    where cutoff_date = (select max(h.cutoff_date) from history as h)
),

-- The last cutoff at which something material was different, and the first one after it.
last_different as (
    select
        history.customer_id,
        max(history.cutoff_date) as cutoff_date
    from history
    inner join newest
        on history.customer_id = newest.customer_id
    where history.material_state <> newest.material_state
    group by 1
),

unchanged_since as (
    select
        history.customer_id,
        min(history.cutoff_date) as updated_at
    from history
    left join last_different
        on history.customer_id = last_different.customer_id
    where last_different.cutoff_date is null or history.cutoff_date > last_different.cutoff_date
    group by 1
)

select
    newest.* exclude (material_state), -- noqa: RF02
    unchanged_since.updated_at
from newest
inner join unchanged_since
    on newest.customer_id = unchanged_since.customer_id
