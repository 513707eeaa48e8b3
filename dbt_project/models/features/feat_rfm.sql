{{ config(materialized=as_view()) }}

with history as (
    select * from {{ ref('customer_history') }}
    where {{ of_this_run('cutoff_date') }}
)

select
    customer_id,
    cutoff_date,
    frequency,
    recency,
    {{ adapter.quote('T') }},
    monetary_value,
    max_order_day_value,
    std_days_between_orders,
    sum_value,
    sum_refunds,
    cast(count_orders as double) as count_orders,
    cast(count_order_days as double) as count_order_days,
    cast({{ days_between('last_order_date', 'cutoff_date') }} as double) as days_since_last_order,
    recency / nullif(frequency, 0) as mean_days_between_orders,
    -- How late the next order is, in usual waits; one waits at least a day.
    {{ days_between('last_order_date', 'cutoff_date') }} / nullif(recency / nullif(frequency, 0), 0)
        as overdue_ratio,
    (sum_value + sum_refunds) / nullif(cast(count_orders as double), 0) as mean_order_value,
    case
        when sum_value + sum_refunds > 0 then sum_refunds / (sum_value + sum_refunds)
    end as share_refunded
from history
