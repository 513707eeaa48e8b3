with spine as (
    select
        customer_id,
        cutoff_date
    from {{ ref('customer_spine') }}
    where {{ of_this_run('cutoff_date') }}
),

gaps as (
    select
        cutoff_date,
        customer_id,
        {{ days_between('lag(activity_date) over so_far', 'activity_date') }} as gap_days
    from ({{ days_at_cutoffs() }}) as days
    where count_orders > 0
    window so_far as (partition by cutoff_date, customer_id order by activity_date)
),

waits as (
    select
        cutoff_date,
        customer_id,
        count(gap_days) as count_gaps,
        cast(sum(gap_days) as double) as sum_gaps,
        cast(sum(gap_days * gap_days) as double) as sum_squared_gaps
    from gaps
    group by 1, 2
),

sums as (
    select
        cutoff_date,
        customer_id,
        max(activity_date) as last_activity_date,
        max(last_known_date) as last_known_date,
        min(case when count_orders > 0 then activity_date end) as first_order_date,
        max(case when count_orders > 0 then activity_date end) as last_order_date,
        nullif(count(case when count_orders > 0 then 1 end), 0) as count_order_days,
        -- Sums of decimals and integers are exact, so figures do not depend on the order of rows.
        sum(case when count_orders > 0 then value end) as sum_order_day_value,
        max(case when count_orders > 0 then value end) as max_order_day_value,
        min_by(value, case when count_orders > 0 then activity_date end)
            as first_order_day_value,
        sum(count_orders) as count_orders,
        sum(value) as sum_value,
        sum(refunds) as sum_refunds
    from ({{ days_at_cutoffs() }}) as days
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
    case
        when waits.count_gaps > 1 then sqrt(
            (waits.sum_squared_gaps - waits.sum_gaps * waits.sum_gaps / waits.count_gaps)
            / (waits.count_gaps - 1)
        )
    end as std_days_between_orders,
    cast(coalesce(sums.sum_value, 0) as double) as sum_value,
    cast(coalesce(sums.sum_refunds, 0) as double) as sum_refunds
from spine
left join sums
    on spine.cutoff_date = sums.cutoff_date and spine.customer_id = sums.customer_id
left join waits
    on spine.cutoff_date = waits.cutoff_date and spine.customer_id = waits.customer_id
