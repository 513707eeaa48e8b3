{# The day on which a row became known: no earlier than it happened, nor than it was ingested. #}
{% macro known_date(day, ingested_at) -%}
    {{ latest([day, business_date(ingested_at)]) }}
{%- endmacro %}

{# A text in lower case; 'unknown' where it is missing or no value of a closed list. #}
{% macro known_value(column, values=none) -%}
    {% if values is none -%}
        coalesce(nullif(trim({{ column }}), ''), 'unknown')
    {%- else -%}
        case
            when lower(trim({{ column }})) in ('{{ values | join("', '") }}')
                then lower(trim({{ column }}))
            else 'unknown'
        end
    {%- endif %}
{%- endmacro %}

{# The closed lists. A value outside of them becomes 'unknown'. #}
{% macro devices() -%}
    {{ return(['desktop', 'mobile', 'tablet', 'app', 'other']) }}
{%- endmacro %}

{% macro genders() -%}
    {{ return(['female', 'male', 'diverse', 'other']) }}
{%- endmacro %}

{# What rows of one order have in common; a row without transaction_id is an order of its own. #}
{% macro order_key() -%}
    case
        when transaction_id is not null then 'order:' || transaction_id
        else 'row:' || _file_id || ':' || _row_number
    end
{%- endmacro %}

{# One number per rate day and currency that differs when its rates were restated. #}
{% macro rate_states() -%}
    select
        rate_date,
        currency,
        {{ set_state(row_state(['rate', 'known_from_date', 'known_to_date'])) }} as rate_state
    from {{ ref('stg_exchange_rates') }}
    group by 1, 2
{%- endmacro %}

{# Before new orders are staged: drop the orders that newly landed files or rates touch, and those
   whose files are gone. The model then stages every order that it does not hold. #}
{% macro forget_changed_orders() -%}
    {% if is_incremental() -%}
        delete from {{ this }}
        where order_key in (
            with
            changed_files as (
                select coalesce(landed._file_id, held._file_id) as _file_id
                from (
                    select _file_id, count(*) as count_rows
                    from {{ source('raw', 'transactions') }}
                    group by 1
                ) as landed
                full join (
                    select _file_id, count(*) as count_rows
                    from {{ this }}
                    where rate_version = 1
                    group by 1
                ) as held
                    on landed._file_id = held._file_id
                where landed.count_rows is distinct from held.count_rows
            )

            select {{ order_key() }}
            from {{ source('raw', 'transactions') }}
            where _file_id in (select _file_id from changed_files)
            union
            select order_key
            from {{ this }}
            where _file_id in (select _file_id from changed_files)
            union
            select held.order_key
            from {{ this }} as held
            left join ({{ rate_states() }}) as rates
                on held.activity_date = rates.rate_date and held.currency = rates.currency
            where
                held.currency <> '{{ var("reporting_currency") }}'
                and held.rate_state is distinct from rates.rate_state
        )
    {%- endif %}
{%- endmacro %}
