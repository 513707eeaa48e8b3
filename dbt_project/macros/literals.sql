{# A text of our own as a SQL literal; null where there is none. #}
{% macro text_or_null(text) -%}
    {% if text is none -%} null {%- else -%}
        '{{ (text | string).split() | join(" ") | replace("'", "''") }}'
    {%- endif %}
{%- endmacro %}

{# A number of our own as a SQL literal; null where there is none. #}
{% macro number_or_null(number) -%}
    {% if number is none -%} null {%- else -%} {{ number }} {%- endif %}
{%- endmacro %}
