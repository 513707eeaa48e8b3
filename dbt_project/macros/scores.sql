{# Before scored cutoffs are written: drop those of this run (unless as-of tables hold nothing of
   them any more, so that they could not be written again), and those that were scored again or whose
   scores are gone; and the columns of horizons that are no longer asked for. Same transaction. #}
{% macro forget_changed_scores() -%}
    {% if is_incremental() -%}
        {%- for column in adapter.get_columns_in_relation(this) %}
            {%- if column.name not in model.columns %}
                alter table {{ this }} drop column {{ adapter.quote(column.name) }};
            {%- endif %}
        {%- endfor %}
        delete from {{ this }}
        where
            (
                {{ of_this_run('cutoff_date') }}
                and cutoff_date in (select cutoff_date from {{ ref('customer_history') }})
            )
            or not exists (
                select 1
                from (
                    select distinct cutoff_date, run_id
                    from {{ source('scores', 'customer_standing') }}
                ) as scored
                where
                    scored.cutoff_date = {{ this }}.cutoff_date
                    and scored.run_id = {{ this }}.run_id
            )
    {%- endif %}
{%- endmacro %}

{# A number to two significant digits. #}
{% macro two_digits(number) -%}
    case
        when {{ number }} = 0 then 0
        else
            round({{ number }} / power(10, floor(log10(abs({{ number }}))) - 1))
            * power(10, floor(log10(abs({{ number }}))) - 1)
    end
{%- endmacro %}

{# A sum of doubles that does not depend on the order of rows. #}
{% macro exact_sum(number) -%}
    cast(sum(cast({{ number }} as decimal(28, 6))) as double)
{%- endmacro %}

{# The mean of doubles where a condition holds, whatever the order of rows. #}
{% macro exact_mean_if(number, condition) -%}
    cast(sum(cast({{ number }} as decimal(28, 6))) filter (where {{ condition }}) as double)
    / nullif(count({{ number }}) filter (where {{ condition }}), 0)
{%- endmacro %}

{# A column of one horizon: clv_90d, clv_90d_p10, clv_90d_low_80, probability_purchase_90d. #}
{% macro horizon_column(measure, days) -%}
    {%- if measure.startswith('clv_') -%}
        clv_{{ days }}d_{{ measure[4:] }}
    {%- else -%}
        {{ measure }}_{{ days }}d
    {%- endif %}
{%- endmacro %}
