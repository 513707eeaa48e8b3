{# What differs between engines. To add an engine, add its versions of these to one file. #}

{% macro business_date(instant) -%}
    {{ adapter.dispatch('business_date', 'clv')(instant) }}
{%- endmacro %}

{# The day, in the business time zone, of an instant that is stored in UTC without an offset. #}
{% macro duckdb__business_date(instant) -%}
    {% if var('time_zone') == 'UTC' -%}
        cast({{ instant }} as date)
    {%- else -%}
        cast(timezone('{{ var("time_zone") }}', timezone('UTC', {{ instant }})) as date)
    {%- endif %}
{%- endmacro %}

{% macro add_days(day, days) -%}
    {{ adapter.dispatch('add_days', 'clv')(day, days) }}
{%- endmacro %}

{% macro duckdb__add_days(day, days) -%}
    ({{ day }} + cast({{ days }} as integer))
{%- endmacro %}

{% macro days_between(first_day, last_day) -%}
    {{ adapter.dispatch('days_between', 'clv')(first_day, last_day) }}
{%- endmacro %}

{% macro duckdb__days_between(first_day, last_day) -%}
    ({{ last_day }} - {{ first_day }})
{%- endmacro %}

{# Whole seconds from one instant to another. #}
{% macro seconds_between(first_instant, last_instant) -%}
    {{ adapter.dispatch('seconds_between', 'clv')(first_instant, last_instant) }}
{%- endmacro %}

{% macro duckdb__seconds_between(first_instant, last_instant) -%}
    date_diff('second', {{ first_instant }}, {{ last_instant }})
{%- endmacro %}

{# Latest of several days; a missing one is left out. #}
{% macro latest(days) -%}
    {{ adapter.dispatch('latest', 'clv')(days) }}
{%- endmacro %}

{% macro duckdb__latest(days) -%}
    greatest({{ days | join(', ') }})
{%- endmacro %}

{# Earliest of several days; a missing one is left out. #}
{% macro earliest(days) -%}
    {{ adapter.dispatch('earliest', 'clv')(days) }}
{%- endmacro %}

{% macro duckdb__earliest(days) -%}
    least({{ days | join(', ') }})
{%- endmacro %}

{# 1 for Monday to 7 for Sunday. #}
{% macro weekday(day) -%}
    {{ adapter.dispatch('weekday', 'clv')(day) }}
{%- endmacro %}

{% macro duckdb__weekday(day) -%}
    extract(isodow from {{ day }})
{%- endmacro %}

{# A number that differs when one of the columns does. #}
{% macro row_state(columns) -%}
    {{ adapter.dispatch('row_state', 'clv')(columns) }}
{%- endmacro %}

{% macro duckdb__row_state(columns) -%}
    hash({{ columns | join(', ') }})
{%- endmacro %}

{# A number that differs when the set of rows does, whatever their order. #}
{% macro set_state(state) -%}
    {{ adapter.dispatch('set_state', 'clv')(state) }}
{%- endmacro %}

{% macro duckdb__set_state(state) -%}
    bit_xor({{ state }})
{%- endmacro %}

{# Stops the run with a message. #}
{% macro refuse(message) -%}
    {{ adapter.dispatch('refuse', 'clv')(message) }}
{%- endmacro %}

{% macro duckdb__refuse(message) -%}
    error({{ message }})
{%- endmacro %}
