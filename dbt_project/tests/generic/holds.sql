{# A condition holds in every row. #}
{% test holds(model, condition, of_this_run=false) %}
select *
from {{ tested_rows(model, of_this_run) }} as tested
where ({{ condition }}) is not true
{% endtest %}
