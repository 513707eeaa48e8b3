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
        category,
        is_refund,
        quantity,
        net_revenue,
        discount,
        known_from_date,
        known_to_date
    from {{ ref('stg_transactions') }} as lines
    where
        user_id is not null
        and (sku is not null or category is not null or discount is not null)
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
        sku,
        category,
        known_date,
        cast(coalesce(sum(sign) filter (where not is_refund), 0) as integer) as delta_count_lines,
        cast(coalesce(sum(sign) filter (where is_refund), 0) as integer)
            as delta_count_returned_lines,
        cast(coalesce(sum(sign * quantity) filter (where not is_refund), 0) as decimal(18, 4))
            as delta_quantity,
        cast(coalesce(sum(sign * net_revenue) filter (where not is_refund), 0) as decimal(18, 4))
            as delta_revenue,
        cast(coalesce(-sum(sign * net_revenue) filter (where is_refund), 0) as decimal(18, 4))
            as delta_returned_revenue,
        cast(
            coalesce(sum(sign * net_revenue) filter (
                where not is_refund and discount is not null
            ), 0) as decimal(18, 4)
        ) as delta_discountable_revenue,
        cast(coalesce(sum(sign * discount) filter (where not is_refund), 0) as decimal(18, 4))
            as delta_discount
    from changes
    group by 1, 2, 3, 4, 5
)

select
    days.*,
    states.user_state
from days
inner join states
    on days.user_id = states.user_id
