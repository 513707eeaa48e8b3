{# No two rows share the values of these columns. #}
{% test unique_together(model, columns, of_this_run=false, of_changed_days=false) %}
select
    {{ columns | join(', ') }},
    count(*) as count_rows
from {{ tested_rows(model, of_this_run, of_changed_days) }} as tested
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}
