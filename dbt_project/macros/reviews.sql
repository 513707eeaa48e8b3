{# Before matured predictions are reviewed: drop the reviews of predictions that were made again or
   are gone. Same transaction. #}
{% macro forget_reviews() -%}
    {% if is_incremental() -%}
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
    {%- endif %}
{%- endmacro %}
