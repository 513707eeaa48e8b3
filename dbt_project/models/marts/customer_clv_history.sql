{{ config(
    materialized='incremental',
    incremental_strategy='append',
    full_refresh=false,
    pre_hook='{{ forget_changed_scores() }}',
) }}

{%- set horizons = var('horizons') %}
{%- set measures = [
    'clv', 'clv_p10', 'clv_p50', 'clv_p90',
    'clv_low_80', 'clv_high_80', 'clv_low_95', 'clv_high_95',
    'probability_purchase', 'expected_orders',
] %}

-- noqa: disable=LT02
-- First which cutoffs are new: of all nights that were ever scored, no other column is read.
with scored as (
    select distinct cutoff_date from {{ source('scores', 'customer_standing') }}
),

fresh as (
    select cutoff_date
    from scored
    {% if is_incremental() -%}
        where not exists (
            select 1
            from (select distinct cutoff_date from {{ this }}) as held
            where held.cutoff_date = scored.cutoff_date
        )
    {%- endif %}
),

standing as (
    select *
    from {{ source('scores', 'customer_standing') }}
    where cutoff_date in (select fresh.cutoff_date from fresh)
),

predictions as (
    select
        customer_id,
        cutoff_date
        {%- for days in horizons %}
            {%- for measure in measures %},
        max(case when horizon_days = {{ days }} then {{ measure }} end)
            as {{ horizon_column(measure, days) }}
            {%- endfor %}
        {%- endfor %}
    from {{ source('scores', 'customer_predictions') }}
    where cutoff_date in (select fresh.cutoff_date from fresh)
    group by 1, 2
)

select
    standing.customer_id,
    standing.cutoff_date
    {%- for days in horizons %}
        {%- for measure in measures %},
    predictions.{{ horizon_column(measure, days) }}
        {%- endfor %}
    {%- endfor %},
    history.sum_value as historic_value,
    history.sum_value + predictions.clv_{{ horizons | max }}d as total_value,
    history.count_orders,
    history.first_order_date,
    history.last_order_date,
    {{ days_between('history.last_order_date', 'standing.cutoff_date') }} as days_since_last_order,
    standing.p_alive,
    standing.churn_probability,
    standing.days_between_orders,
    standing.expected_next_order_date,
    standing.loyalty_score,
    standing.clv_rank,
    standing.clv_percentile,
    standing.value_tier,
    standing.segment,
    standing.rfm_segment,
    standing.rfm_score,
    standing.confidence,
    standing.confidence_reason,
    standing.reason_1,
    standing.reason_1_effect,
    standing.reason_2,
    standing.reason_2_effect,
    standing.reason_3,
    standing.reason_3_effect,
    standing.reason_rest_effect,
    standing.reason_base,
    concat_ws(
        '|',
        standing.segment,
        standing.value_tier,
        standing.confidence,
        cast({{ two_digits('predictions.clv_' ~ (horizons | max) ~ 'd') }} as varchar)
    ) as material_state,
    standing.model_version,
    standing.run_id
from standing
inner join predictions
    on
        standing.customer_id = predictions.customer_id
        and standing.cutoff_date = predictions.cutoff_date
inner join {{ ref('customer_history') }} as history
    on
        standing.customer_id = history.customer_id
        and standing.cutoff_date = history.cutoff_date
