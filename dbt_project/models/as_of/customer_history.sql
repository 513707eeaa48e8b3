with spine as (
    select
        customer_id,
        cutoff_date
    from {{ ref('customer_spine') }}
    where {{ of_this_run('cutoff_date') }}
),

days as (
    {{ days_at_cutoffs() }}
),

ordered_days as (
    select
        *,
        row_number() over so_far = 1 as is_first_order_day,
        {{ days_between('lag(activity_date) over so_far', 'activity_date') }} as gap_days
    from days
    where count_orders > 0
    window so_far as (partition by cutoff_date, customer_id order by activity_date)
),

orders as (
    select
        cutoff_date,
        customer_id,
        min(activity_date) as first_order_date,
        max(activity_date) as last_order_date,
        count(*) as count_order_days,
        -- Sums of decimals and integers are exact, so figures do not depend on the order of rows.
        sum(case when not is_first_order_day then sum_value end) as sum_repeat_value,
        max(sum_value) as max_order_day_value,
        count(gap_days) as count_gaps,
        cast(sum(gap_days) as double) as sum_gaps,
        cast(sum(gap_days * gap_days) as double) as sum_squared_gaps
    from ordered_days
    group by 1, 2
),

totals as (
    select
        cutoff_date,
        customer_id,
        max(activity_date) as last_activity_date,
        max(last_known_date) as last_known_date,
        sum(count_orders) as count_orders,
        sum(sum_value) as sum_value,
        sum(sum_refunds) as sum_refunds
    from days
    group by 1, 2
)

select
    spine.customer_id,
    spine.cutoff_date,
    orders.first_order_date,
    orders.last_order_date,
    totals.last_activity_date,
    totals.last_known_date,
    cast(coalesce(totals.count_orders, 0) as bigint) as count_orders,
    cast(coalesce(orders.count_order_days, 0) as bigint) as count_order_days,
    cast(coalesce(orders.count_order_days - 1, 0) as double) as frequency,
    cast({{ days_between('orders.first_order_date', 'orders.last_order_date') }} as double)
        as recency,
    cast({{ days_between('orders.first_order_date', 'spine.cutoff_date') }} as double)
        as {{ adapter.quote('T') }},
    cast(orders.sum_repeat_value as double) / nullif(orders.count_order_days - 1, 0)
        as monetary_value,
    cast(orders.max_order_day_value as double) as max_order_day_value,
    case
        when orders.count_gaps > 1 then sqrt(
            (orders.sum_squared_gaps - orders.sum_gaps * orders.sum_gaps / orders.count_gaps)
            / (orders.count_gaps - 1)
        )
    end as std_days_between_orders,
    cast(coalesce(totals.sum_value, 0) as double) as sum_value,
    cast(coalesce(totals.sum_refunds, 0) as double) as sum_refunds
from spine
left join totals
    on spine.cutoff_date = totals.cutoff_date and spine.customer_id = totals.customer_id
left join orders
    on spine.cutoff_date = orders.cutoff_date and spine.customer_id = orders.customer_id
