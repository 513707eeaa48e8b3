{# These columns have a value in every row; one row of the answer per column that lacks one. #}
{% test never_null(model, columns, of_this_run=false, of_changed_days=false) %}
with counted as (
    select
        {% for column in columns -%}
            count(*) - count({{ column }}) as {{ column }}{% if not loop.last %},{% endif %}
        {% endfor %}
    from {{ tested_rows(model, of_this_run, of_changed_days) }} as tested
)

{% for column in columns -%}
    select
        '{{ column }}' as column_name,
        {{ column }} as count_nulls
    from counted
    where {{ column }} > 0
    {% if not loop.last %}union all{% endif %}
{% endfor %}
{% endtest %}
