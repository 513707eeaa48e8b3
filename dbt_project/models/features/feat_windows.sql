{%- set windows = [7, 30, 90, 180, 365] -%}

-- noqa: disable=LT02
with spine as (
    {{ spine_of_this_run() }}
),

days as (
    {{ days_at_cutoffs() }}
),

orders as (
    select
        cutoff_date,
        customer_id
        {%- for days in windows %}
            {%- set window = in_window('activity_date', 'cutoff_date', days) %}
            {%- set younger_half = in_window('activity_date', 'cutoff_date', days // 2) %}
            {%- set order_day = window ~ ' and count_orders > 0' %},
        sum(count_orders) filter (where {{ window }}) as count_orders_{{ days }}d,
        sum(sum_value) filter (where {{ window }}) as sum_value_{{ days }}d,
        sum(sum_refunds) filter (where {{ window }}) as sum_refunds_{{ days }}d,
        sum(count_orders) filter (where {{ younger_half }}) as count_late_orders_{{ days }}d,
        count(*) filter (where {{ order_day }}) as count_order_days_{{ days }}d,
        min(activity_date) filter (where {{ order_day }}) as first_order_date_{{ days }}d,
        max(activity_date) filter (where {{ order_day }}) as last_order_date_{{ days }}d
        {%- endfor %}
    from days
    where {{ in_window('activity_date', 'cutoff_date', windows | max) }}
    group by 1, 2
),

sku_days as (
    select
        cutoffs.cutoff_date,
        coalesce(owners.customer_id, days.user_id) as customer_id,
        days.sku,
        days.activity_date
    from {{ ref('int_customer_day_items') }} as days
    inner join ({{ cutoffs() }}) as cutoffs
        on
            {{ seen_at('days.activity_date', 'days.known_date', 'cutoffs.cutoff_date') }}
            and {{ in_window('days.activity_date', 'cutoffs.cutoff_date', windows | max) }}
    {{ join_owners('days.user_id', 'cutoffs.cutoff_date') }}
    where days.sku is not null
    group by 1, 2, 3, 4
    having sum(days.delta_count_lines) > 0
),

last_bought as (
    select
        cutoff_date,
        customer_id,
        sku,
        max(activity_date) as last_order_date
    from sku_days
    group by 1, 2, 3
),

skus as (
    select
        cutoff_date,
        customer_id
        {%- for days in windows %},
        count(*) filter (where {{ in_window('last_order_date', 'cutoff_date', days) }})
            as count_skus_{{ days }}d
        {%- endfor %}
    from last_bought
    group by 1, 2
)

select
    spine.customer_id,
    spine.cutoff_date
    {%- for days in windows %},
    cast(coalesce(orders.count_orders_{{ days }}d, 0) as double) as count_orders_{{ days }}d,
    cast(coalesce(orders.sum_value_{{ days }}d, 0) as double) as sum_value_{{ days }}d,
    cast(coalesce(orders.sum_refunds_{{ days }}d, 0) as double) as sum_refunds_{{ days }}d,
    cast(coalesce(skus.count_skus_{{ days }}d, 0) as double) as count_skus_{{ days }}d,
    -- Orders of the younger half against the older half of the window, from -1 to 1.
    cast(2 * coalesce(orders.count_late_orders_{{ days }}d, 0) as double)
    / nullif(orders.count_orders_{{ days }}d, 0) - 1 as order_trend_{{ days }}d,
    cast(
        {{ days_between(
            'orders.first_order_date_' ~ days ~ 'd', 'orders.last_order_date_' ~ days ~ 'd'
        ) }} as double
    ) / nullif(orders.count_order_days_{{ days }}d - 1, 0) as mean_days_between_orders_{{ days }}d
    {%- endfor %}
from spine
left join orders
    on spine.cutoff_date = orders.cutoff_date and spine.customer_id = orders.customer_id
left join skus
    on spine.cutoff_date = skus.cutoff_date and spine.customer_id = skus.customer_id
