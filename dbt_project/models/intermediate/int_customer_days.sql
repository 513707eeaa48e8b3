{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ forget_changed_users('stg_transactions') }}",
) }}

with lines as (
    select
        user_id,
        activity_date,
        known_from_date,
        known_to_date,
        value,
        is_refund,
        cast(is_first_line and not is_refund as integer) as count_orders,
        cast(is_first_line and is_refund as integer) as count_refunds
    from {{ ref('stg_transactions') }} as lines
    where
        user_id is not null
        and not is_duplicate
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
        known_date,
        cast(sum(sign * count_orders) as integer) as delta_count_orders,
        cast(sum(sign * count_refunds) as integer) as delta_count_refunds,
        cast(sum(sign * value) as decimal(18, 4)) as delta_value,
        cast(sum(case when is_refund then -sign * value else 0 end) as decimal(18, 4))
            as delta_refunds
    from changes
    group by 1, 2, 3
)

select
    days.*,
    states.user_state
from days
inner join states
    on days.user_id = states.user_id
