{# Before matured predictions are reviewed: drop the reviews of predictions that were made again or
   are gone, and of windows that ended just now, whose last orders may come as late as runs still go
   on without them. Same transaction. #}
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
        or (
            {{ has_come('matured_date', data_through()) }}
            and {{ in_window('matured_date', data_through(), ([var('max_staleness_days'), 30] | min) + 1) }}
        )
    {%- endif %}
{%- endmacro %}
