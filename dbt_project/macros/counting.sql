{#- How often each of several whole numbers occurs in a group, counted in few sums: one after the
    other in the digits of a bigint, four to a sum. A count of each costs a sum of each. -#}

{#- No customer has more days of one kind than this, so no count runs into the next. -#}
{% macro counts_per_digit() -%} {{ return(32768) }} {%- endmacro %}


{#- Yield columns `<column>_counts_<first>`, each with the counts of four numbers from `first` on. -#}
{% macro packed_counts(column, last) -%}
    {%- for first in range(1, last + 1, 4) %}
    cast(
        sum(
            case {{ column }}
                {%- for number in range(first, [first + 4, last + 1] | min) %}
                when {{ number }} then cast({{ counts_per_digit() ** (number - first) }} as bigint)
                {%- endfor %}
                else 0
            end
        ) as bigint
    ) as {{ column }}_counts_{{ first }}
    {%- if not loop.last %},{% endif %}
    {%- endfor %}
{%- endmacro %}


{#- Yield how often one number occurred, as a double, from the columns of packed_counts. -#}
{% macro unpacked_count(column, number) -%}
    {%- set digit = (number - 1) % 4 -%}
    {%- set packed = column ~ '_counts_' ~ (number - digit) -%}
    {%- set unit = counts_per_digit() ** digit -%}
    cast(
        mod({{ packed }}, {{ unit * counts_per_digit() }}) - mod({{ packed }}, {{ unit }}) as double
    ) / {{ unit }}
{%- endmacro %}
