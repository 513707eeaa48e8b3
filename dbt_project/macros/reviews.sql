{# How far orders, refunds and corrections count in the review of a prediction, with data complete
   up to `data_through`: for some days after the window ended every run looks again, since its last
   orders may come as late as runs still go on without them; 30 days after the end it is settled. A
   later day never knows less, so reviews come out the same in whatever order they are made. #}
{% macro reviewed_through(matured_date, data_through) -%}
    {% set looked_at_for = [var('max_staleness_days') | int, 30] | min -%}
    case
        when {{ has_come(add_days(matured_date, 30), data_through) }}
            then {{ add_days(matured_date, 30) }}
        else least({{ data_through }}, {{ add_days(matured_date, looked_at_for) }})
    end
{%- endmacro %}

{# Before matured predictions are reviewed: drop the reviews of predictions that were made again or
   are gone, and those that knew less than can be known now, or do not say. Same transaction. #}
{% macro forget_reviews() -%}
    {% if is_incremental() -%}
        {% set columns = adapter.get_columns_in_relation(this) | map(attribute='name') -%}
        delete from {{ this }}
        where not exists (
            select 1
            from (
                select distinct cutoff_date, horizon_days, run_id
                from {{ source('scores', 'customer_predictions') }}
            ) as scored
            where
                scored.cutoff_date = {{ this }}.cutoff_date
                and scored.horizon_days = {{ this }}.horizon_days
                and scored.run_id = {{ this }}.run_id
        )
        {% if 'known_through_date' in columns -%}
            or known_through_date < {{ reviewed_through('matured_date', data_through()) }}
        {%- else -%}
            or true
        {%- endif %}
    {%- endif %}
{%- endmacro %}
