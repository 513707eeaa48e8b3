{# Cutoffs that are only learned from hold a drawn share of the customers, one of 2 to the power of
   `drawn_halvings`, and are named by `drawn_cutoffs`. Which, says clv_pipeline/drawing.py, whose
   `ceiling_of` is the twin of the draw here; a test holds them to each other. #}

{# The cutoffs of this run that hold a drawn share. #}
{% macro drawn_cutoffs() -%}
    {%- set found = [] -%}
    {%- for day in var('cutoffs') if day in var('drawn_cutoffs') -%}
        {%- do found.append(day) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{# Whether a cutoff holds a drawn share. #}
{% macro is_of_draw(cutoff) -%}
    {% set days = [] -%}
    {% for day in drawn_cutoffs() -%}
        {% do days.append(literal_day(day)) %}
    {%- endfor %}
    {{ cutoff }} in ({{ days | join(', ') }})
{%- endmacro %}

{# The share of the customers that a cutoff holds. #}
{% macro held_share(cutoff) -%}
    {% if drawn_cutoffs() -%}
        cast(
            case when {{ is_of_draw(cutoff) }} then {{ 1 / 2 ** (var('drawn_halvings') | int) }} else 1 end
            as double
        )
    {%- else -%}
        cast(1 as double)
    {%- endif %}
{%- endmacro %}

{# Whether a cutoff holds a customer: everybody, or whom the draw takes. A hash of the id takes the
   same customers at each cutoff, and of half the share half of them. Digits of hashes are compared
   as text, which all engines do alike. #}
{% macro is_held(customer_id, cutoff) -%}
    {%- set ceiling = '%08x' | format(2 ** (32 - (var('drawn_halvings') | int))) -%}
    (not {{ is_of_draw(cutoff) }} or md5({{ customer_id }}) < '{{ ceiling }}')
{%- endmacro %}

{# The accounts of which days, events and texts are read for the drawn cutoffs, or for one of them:
   those of the spine, so that what is read is never less than what is asked for, and all that were
   ever merged. #}
{% macro drawn_accounts(cutoff=none) -%}
    select customer_id as user_id
    from {{ ref('customer_spine') }}
    where {{ is_of_draw('cutoff_date') if cutoff is none else 'cutoff_date = ' ~ cutoff }}
    union
    {{ merged_accounts() }}
{%- endmacro %}

{# The parts in which a run's cutoffs are built: together, or the drawn ones and the others. #}
{% macro parts_of_draw() -%}
    {{ return(['drawn', 'whole'] if drawn_cutoffs() else ['all']) }}
{%- endmacro %}

{# Rows of a table, by account, that the cutoffs of a part may need. #}
{% macro rows_of_part(model_name, part) -%}
    {%- if part == 'drawn' -%}
        (select * from {{ ref(model_name) }} where user_id in ({{ drawn_accounts() }}))
    {%- else -%}
        {{ ref(model_name) }}
    {%- endif -%}
{%- endmacro %}

{# Whether a cutoff is of a part. #}
{% macro is_of_part(cutoff, part) -%}
    {%- if part == 'all' -%}
        true
    {%- elif part == 'drawn' -%}
        {{ is_of_draw(cutoff) }}
    {%- else -%}
        not {{ is_of_draw(cutoff) }}
    {%- endif -%}
{%- endmacro %}
