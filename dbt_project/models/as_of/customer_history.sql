with spine as (
    select
        customer_id,
        cutoff_date
    from {{ ref('customer_spine') }}
    where {{ of_this_run('cutoff_date') }}
),

days as (
    select
        *,
        case when count_orders > 0 then activity_date end as order_date
    from ({{ days_at_cutoffs() }}) as days
),

sums as (
    select
        cutoff_date,
        customer_id,
        max(activity_date) as last_activity_date,
        max(last_known_date) as last_known_date,
        min(order_date) as first_order_date,
        max(order_date) as last_order_date,
        nullif(count(order_date), 0) as count_order_days,
        {{ sorted_days('order_date', 'cutoff_date') }} as order_days,
        -- Sums of decimals and integers are exact, so figures do not depend on the order of rows.
        sum(case when order_date is not null then value end) as sum_order_day_value,
        max(case when order_date is not null then value end) as max_order_day_value,
        min_by(value, order_date) as first_order_day_value,
        sum(count_orders) as count_orders,
        sum(value) as sum_value,
        sum(refunds) as sum_refunds
    from days
    group by 1, 2
)

select
    spine.customer_id,
    spine.cutoff_date,
    sums.first_order_date,
    sums.last_order_date,
    sums.last_activity_date,
    sums.last_known_date,
    cast(coalesce(sums.count_orders, 0) as bigint) as count_orders,
    cast(coalesce(sums.count_order_days, 0) as bigint) as count_order_days,
    cast(coalesce(sums.count_order_days - 1, 0) as double) as frequency,
    cast({{ days_between('sums.first_order_date', 'sums.last_order_date') }} as double)
        as recency,
    cast({{ days_between('sums.first_order_date', 'spine.cutoff_date') }} as double)
        as {{ adapter.quote('T') }},
    cast(sums.sum_order_day_value - sums.first_order_day_value as double)
    / nullif(sums.count_order_days - 1, 0) as monetary_value,
    cast(sums.max_order_day_value as double) as max_order_day_value,
    -- The days between neighbouring order days add up to those from the first to the last.
    case
        when sums.count_order_days > 2 then sqrt(
            (
                {{ sum_of_squared_steps('sums.order_days') }}
                - power({{ days_between('sums.first_order_date', 'sums.last_order_date') }}, 2)
                / (sums.count_order_days - 1)
            )
            / (sums.count_order_days - 2)
        )
    end as std_days_between_orders,
    cast(coalesce(sums.sum_value, 0) as double) as sum_value,
    cast(coalesce(sums.sum_refunds, 0) as double) as sum_refunds
from spine
left join sums
    on spine.cutoff_date = sums.cutoff_date and spine.customer_id = sums.customer_id
