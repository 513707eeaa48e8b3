{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ forget_changed_users('stg_transactions') }}",
) }}

with lines as (
    select
        user_id,
        activity_date,
        sku,
        known_from_date,
        known_to_date
    from {{ ref('stg_transactions') }} as lines
    where
        user_id is not null
        and sku is not null
        and not is_refund
        and not is_duplicate
        and (known_to_date is null or known_from_date < known_to_date)
        and {{ only_new_users('lines') }}
),

changes as (
    select
        user_id,
        activity_date,
        sku,
        known_from_date as known_date,
        1 as sign
    from lines
    union all
    select
        user_id,
        activity_date,
        sku,
        known_to_date as known_date,
        -1 as sign
    from lines
    where known_to_date is not null
),

states as (
    {{ user_states(ref('stg_transactions')) }}
),

days as (
    select
        user_id,
        activity_date,
        sku,
        known_date,
        cast(sum(sign) as integer) as delta_count_lines
    from changes
    group by 1, 2, 3, 4
)

select
    days.*,
    states.user_state
from days
inner join states
    on days.user_id = states.user_id
