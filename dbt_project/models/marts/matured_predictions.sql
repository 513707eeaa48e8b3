{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook='{{ forget_reviews() }}',
) }}

-- noqa: disable=LT02
with scored as (
    select
        cutoff_date,
        horizon_days,
        {{ add_days('cutoff_date', 'horizon_days') }} as matured_date,
        {{ reviewed_through(add_days('cutoff_date', 'horizon_days'), data_through()) }}
            as known_through_date,
        max(model_version) as model_version,
        max(run_id) as run_id
    from {{ source('scores', 'customer_predictions') }} as predictions
    where
        {{ is_matured('cutoff_date', 'horizon_days', data_through()) }}
        {% if is_incremental() -%}
            and not exists (
                select 1
                from {{ this }} as held
                where
                    held.cutoff_date = predictions.cutoff_date
                    and held.horizon_days = predictions.horizon_days
            )
        {%- endif %}
    group by 1, 2
),

-- What came to pass, as it was known by days that follow from the window alone once it has settled:
-- the same answer whenever and in whatever order this is built.
actual as (
    select
        scored.cutoff_date,
        scored.horizon_days,
        coalesce(owners.customer_id, days.user_id) as customer_id,
        cast(sum(days.delta_value) as double) as sum_value,
        cast(
            sum(
                case
                    when {{ has_come('days.known_date', 'scored.matured_date') }}
                        then days.delta_value
                end
            ) as double
        ) as sum_value_when_matured,
        sum(days.delta_count_orders) as count_orders
    from {{ ref('int_customer_days') }} as days
    inner join scored
        on {{ labelled_by(
            'days.activity_date',
            'days.known_date',
            'scored.cutoff_date',
            'scored.horizon_days',
            'scored.known_through_date',
        ) }}
    {{ join_owners('days.user_id', 'scored.cutoff_date') }}
    group by 1, 2, 3
),

predicted as (
    select
        predictions.cutoff_date,
        predictions.horizon_days,
        predictions.clv,
        predictions.clv_p10,
        predictions.clv_p90,
        predictions.probability_purchase,
        coalesce(actual.sum_value, 0) as sum_actual,
        coalesce(actual.sum_value_when_matured, 0) as sum_actual_when_matured,
        cast(coalesce(actual.count_orders, 0) > 0 as integer) as has_bought,
        coalesce(
            substr(
                cast(coalesce(past.first_order_date, history.first_order_date) as varchar), 1, 7
            ),
            'no order yet'
        ) as cohort
    from {{ source('scores', 'customer_predictions') }} as predictions
    inner join scored
        on
            predictions.cutoff_date = scored.cutoff_date
            and predictions.horizon_days = scored.horizon_days
    left join actual
        on
            predictions.customer_id = actual.customer_id
            and predictions.cutoff_date = actual.cutoff_date
            and predictions.horizon_days = actual.horizon_days
    -- As-of tables drop past cutoffs, and all of them under another definition; history does not.
    left join {{ ref('customer_clv_history') }} as past
        on
            predictions.customer_id = past.customer_id
            and predictions.cutoff_date = past.cutoff_date
    left join {{ ref('customer_history') }} as history
        on
            predictions.customer_id = history.customer_id
            and predictions.cutoff_date = history.cutoff_date
),

grouped as (
    select * from predicted
    union all
    select
        * exclude (cohort),
        'all' as cohort
    from predicted
),

-- Ranks with ties averaged, less their mean: the normalized Gini is a ratio of their covariances.
ranked as (
    select
        *,
        rank() over (partition by cutoff_date, horizon_days, cohort order by clv)
        + count(*) over (partition by cutoff_date, horizon_days, cohort, clv) / 2.0
        - count(*) over (partition by cutoff_date, horizon_days, cohort) / 2.0
        - 1 as predicted_rank,
        rank() over (partition by cutoff_date, horizon_days, cohort order by sum_actual)
        + count(*) over (partition by cutoff_date, horizon_days, cohort, sum_actual) / 2.0
        - count(*) over (partition by cutoff_date, horizon_days, cohort) / 2.0
        - 1 as actual_rank
    from grouped
)

select
    ranked.cutoff_date,
    ranked.horizon_days,
    scored.matured_date,
    scored.known_through_date,
    ranked.cohort,
    count(*) as count_customers,
    {{ exact_sum('ranked.clv') }} as sum_predicted,
    {{ exact_sum('ranked.sum_actual') }} as sum_actual,
    {{ exact_sum('ranked.sum_actual_when_matured') }} as sum_actual_when_matured,
    {{ exact_sum('ranked.clv') }} / nullif(greatest({{ exact_sum('ranked.sum_actual') }}, 0), 0) - 1
        as total_bias,
    {{ exact_sum('abs(ranked.clv - ranked.sum_actual)') }} / count(*) as mean_absolute_error,
    cast(
        sum(case when ranked.sum_actual between ranked.clv_p10 and ranked.clv_p90 then 1 else 0 end)
        as double
    ) / count(*) as coverage_80,
    coalesce(
        {{ exact_sum('ranked.sum_actual * ranked.predicted_rank') }}
        / nullif({{ exact_sum('ranked.sum_actual * ranked.actual_rank') }}, 0), 0
    ) as normalized_gini,
    {{ exact_sum('ranked.probability_purchase') }} as expected_buyers,
    cast(sum(ranked.has_bought) as bigint) as actual_buyers,
    max(scored.model_version) as model_version,
    max(scored.run_id) as run_id
from ranked
inner join scored
    on ranked.cutoff_date = scored.cutoff_date and ranked.horizon_days = scored.horizon_days
group by 1, 2, 3, 4, 5
