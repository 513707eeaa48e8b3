{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ forget_changed_users('stg_transactions') }}",
) }}

with lines as (
    select
        user_id,
        activity_date,
        country,
        channel,
        known_from_date,
        known_to_date
    from {{ ref('stg_transactions') }} as lines
    where
        user_id is not null
        and is_first_line
        and not is_refund
        and not is_duplicate
        and (country <> 'unknown' or channel <> 'unknown')
        and (known_to_date is null or known_from_date < known_to_date)
        and {{ only_new_users('lines') }}
),

changes as (
    {{ known_changes('lines') }}
),

states as (
    {{ user_states(ref('stg_transactions')) }}
),

days as (
    select
        user_id,
        activity_date,
        country,
        channel,
        known_date,
        cast(sum(sign) as integer) as delta_count_orders
    from changes
    group by 1, 2, 3, 4, 5
)

select
    days.*,
    states.user_state
from days
inner join states
    on days.user_id = states.user_id
