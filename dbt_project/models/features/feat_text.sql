{{ config(materialized=as_view()) }}

{%- set components = [1, 2, 3, 4] -%}

-- noqa: disable=LT02
with spine as (
    {{ spine_of_this_run() }}
),

texts as (
    {{ seen_rows('stg_texts') }}
),

written as (
    select
        cutoff_date,
        customer_id,
        count(*) as count_texts,
        count(*) filter (where {{ in_window('activity_date', 'cutoff_date', 90) }})
            as count_texts_90d,
        max(activity_date) as last_text_date,
        {{ exact_sum('sentiment') }} / nullif(count(sentiment), 0) as mean_sentiment,
        {{ newest('sentiment', ['happened_at', '_file_id', '_row_number']) }} as last_sentiment,
        {{ exact_mean_if('sentiment', in_window('activity_date', 'cutoff_date', 90)) }}
        - {{ exact_mean_if('sentiment', 'not ' ~ in_window('activity_date', 'cutoff_date', 90)) }}
            as sentiment_trend_90d,
        cast(count(*) filter (where is_complaint) as double) / nullif(count(is_complaint), 0)
            as share_complaints
        {%- for number in components %},
        {{ exact_mean_if('component_' ~ number, has_come('components_from_date', 'cutoff_date')) }}
            as text_component_{{ number }}
        {%- endfor %}
    from texts
    group by 1, 2
),

-- Nobody's texts at a cutoff: the shop had none yet, and a zero would say more than is known.
observed as (
    {{ cutoffs_that_saw('stg_texts') }}
)

select
    spine.customer_id,
    spine.cutoff_date,
    case
        when observed.cutoff_date is not null then cast(coalesce(written.count_texts, 0) as double)
    end as count_texts,
    case
        when observed.cutoff_date is not null
            then cast(coalesce(written.count_texts_90d, 0) as double)
    end as count_texts_90d,
    cast({{ days_between('written.last_text_date', 'spine.cutoff_date') }} as double)
        as days_since_last_text,
    written.mean_sentiment,
    written.last_sentiment,
    written.sentiment_trend_90d,
    written.share_complaints
    {%- for number in components %},
    written.text_component_{{ number }}
    {%- endfor %}
from spine
left join observed
    on spine.cutoff_date = observed.cutoff_date
left join written
    on spine.cutoff_date = written.cutoff_date and spine.customer_id = written.customer_id
