{# A condition holds in every row. #}
{% test holds(model, condition, of_this_run=false, of_changed_days=false) %}
select *
from {{ tested_rows(model, of_this_run, of_changed_days) }} as tested
where ({{ condition }}) is not true
{% endtest %}
