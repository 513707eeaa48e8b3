{%- set windows = [7, 30, 90, 180, 365] -%}

-- noqa: disable=LT02
with spine as (
    {{ spine_of_this_run() }}
),

days as (
    {{ days_at_cutoffs(windows | max) }}
),

orders as (
    select
        cutoff_date,
        customer_id,
        max(case when count_orders > 0 then activity_date end) as last_order_date
        {%- for days in windows %}
            {%- set window = in_window('activity_date', 'cutoff_date', days) %}
            {%- set younger_half = in_window('activity_date', 'cutoff_date', days // 2) %}
            {%- set order_day = window ~ ' and count_orders > 0' %},
        sum(case when {{ window }} then count_orders end) as count_orders_{{ days }}d,
        sum(case when {{ window }} then value end) as sum_value_{{ days }}d,
        sum(case when {{ window }} then refunds end) as sum_refunds_{{ days }}d,
        sum(case when {{ younger_half }} then count_orders end) as count_late_orders_{{ days }}d,
        count(case when {{ order_day }} then 1 end) as count_order_days_{{ days }}d,
        min(case when {{ order_day }} then activity_date end) as first_order_date_{{ days }}d
        {%- endfor %}
    from days
    group by 1, 2
),

sku_days as (
    {{ known_days(
        'int_customer_day_items', ['count_lines'], by=['sku'], window_days=windows | max
    ) }}
),

last_bought as (
    select
        cutoff_date,
        customer_id,
        sku,
        max(activity_date) as last_order_date
    from sku_days
    where sku is not null and count_lines > 0
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
            'orders.first_order_date_' ~ days ~ 'd', 'orders.last_order_date'
        ) }} as double
    ) / nullif(orders.count_order_days_{{ days }}d - 1, 0) as mean_days_between_orders_{{ days }}d
    {%- endfor %}
from spine
left join orders
    on spine.cutoff_date = orders.cutoff_date and spine.customer_id = orders.customer_id
left join skus
    on spine.cutoff_date = skus.cutoff_date and spine.customer_id = skus.customer_id
