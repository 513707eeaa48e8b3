{%- set horizons = var('horizons') %}
{%- set longest = 'clv_' ~ (horizons | max) ~ 'd' -%}

-- noqa: disable=LT02
with customers as (
    select * from {{ ref('customer_clv') }}
),

totals as (
    select
        count(*) as count_customers,
        {{ exact_sum(longest) }} as sum_clv
    from customers
),

segments as (
    select
        segment,
        max(cutoff_date) as cutoff_date,
        max(run_id) as run_id,
        max(model_version) as model_version,
        count(*) as count_customers
        {%- for days in horizons %},
        {{ exact_sum('clv_' ~ days ~ 'd') }} as sum_clv_{{ days }}d
        {%- endfor %},
        {{ exact_sum('historic_value') }} as sum_historic_value,
        {{ exact_sum('churn_probability') }} / count(*) as mean_churn_probability,
        cast(sum(days_since_last_order) as double) / nullif(count(days_since_last_order), 0)
            as mean_days_since_last_order,
        cast(sum(count_orders) as double) / count(*) as mean_count_orders
    from customers
    group by 1
)

select
    segments.segment,
    segments.cutoff_date,
    segments.count_customers,
    segments.count_customers / cast(totals.count_customers as double) as share_of_customers
    {%- for days in horizons %},
    segments.sum_clv_{{ days }}d,
    segments.sum_clv_{{ days }}d / segments.count_customers as mean_clv_{{ days }}d
    {%- endfor %},
    segments.{{ 'sum_' ~ longest }} / nullif(totals.sum_clv, 0) as share_of_value,
    segments.sum_historic_value,
    segments.mean_churn_probability,
    segments.mean_days_since_last_order,
    segments.mean_count_orders,
    actions.what_to_do,
    segments.model_version,
    segments.run_id
from segments
cross join totals
left join {{ source('scores', 'segment_actions') }} as actions
    on segments.segment = actions.segment
