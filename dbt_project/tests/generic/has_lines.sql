{# Every account and day of a daily table has a line that says so. Of the days that changed. #}
{% test has_lines(model, lines) %}
select distinct
    tested.user_id,
    tested.activity_date
from {{ tested_rows(model, false, true) }} as tested
where
    not exists (
        select 1
        from {{ tested_rows(lines, false, true) }} as lines
        where tested.user_id = lines.user_id and tested.activity_date = lines.activity_date
    )
{% endtest %}
