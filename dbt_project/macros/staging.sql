-- noqa: disable=LT02
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

{# Landed lines of transactions as staging reads them, up to what needs other lines of the order. #}
{% macro transaction_lines(slices) -%}
    select
        {{ order_key() }} as order_key,
        transaction_id,
        user_id,
        sku,
        case when discount >= 0 then discount end as discount,
        nullif(trim(category), '') as category,
        _file_id,
        _row_number,
        ts as happened_at,
        ingested_at,
        coalesce(is_refund, amount < 0) as is_refund,
        case when coalesce(is_refund, amount < 0) then -abs(amount) else amount end as amount,
        coalesce(variable_cost, 0) as variable_cost,
        coalesce(upper(trim(currency)), '{{ var("reporting_currency") }}') as currency,
        coalesce(quantity, 1) as quantity,
        {{ known_value('channel') }} as channel,
        {{ known_value('country') }} as country,
        {{ business_date('ts') }} as activity_date,
        {{ business_date('ingested_at') }} as ingested_date
        {%- if var('transaction_grain') == 'order' %},
        {{ row_state([
            'user_id', 'ts', 'amount', 'currency', 'channel', 'sku', 'category', 'quantity',
            'discount', 'country', 'is_refund', 'variable_cost', 'ingested_at',
        ]) }} as content
        {%- endif %}
    from ({{ landed_rows() }}) as landed
    where
        {{ of_first_slice(slices) }}
{%- endmacro %}

{# Landed rows with a number for their order: all, or those that `before_staging` found. The number
   is a column, for to look up an expression of a column engines would first copy all rows and
   find its distinct values. #}
{% macro landed_rows() -%}
    select
        *,
        {{ row_state(['transaction_id']) }} as order_state
    from {{ 'lines_to_stage' if is_incremental() else source('raw', 'transactions') }}
{%- endmacro %}

{# Before orders are staged, in the same transaction: find the files whose lines are not held, or
   are gone, and the rates that are new; drop the held lines of every order that they touch; note
   the days of these lines for the daily tables. The order of rows does not matter: in order, threads
   would leave half-filled groups of rows behind, to be written again. What holds is compared, not remembered: whatever
   interrupted or repeated run came before, the next one is right. #}
{% macro before_staging() -%}
    {{ return([
        "set preserve_insertion_order = false",
        "{{ make_change_log() }}",
        "{{ forget_consumed_changes() }}",
        "{{ find_changed_files() }}",
        "{{ find_touched_rows() }}",
        "{{ find_touched_orders() }}",
        "{{ find_touched_lines() }}",
        "{{ find_lines_to_stage() }}",
        "{{ note_changed_days('select user_id, activity_date from touched_lines') }}",
        "{{ forget_touched_lines() }}",
    ] if incrementally() == 'incremental' else []) }}
{%- endmacro %}

{# After: note the days of new lines, and the rates that were used. Same transaction. #}
{% macro after_staging() -%}
    {{ return(
        [
            "{{ add_other_slices(order_slices(), source('raw', 'transactions')) }}",
            "{{ note_staged_days() }}",
            "{{ note_staged_rates() }}",
            "reset preserve_insertion_order",
        ]
        if incrementally() == 'incremental' else []
    ) }}
{%- endmacro %}

{% macro find_changed_files() -%}
    {% if is_incremental() -%}
        create or replace temporary table changed_files as
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
    {%- endif %}
{%- endmacro %}

{# Held lines that are touched whatever other lines of their order say. #}
{% macro find_touched_rows() -%}
    {% if is_incremental() -%}
        create or replace temporary table touched_rows as
        select rowid as held_row
        from {{ this }}
        where _file_id in (select _file_id from changed_files)
        union
        select held.rowid as held_row
        from {{ this }} as held
        inner join (
            select
                coalesce(rates.rate_date, staged.rate_date) as rate_date,
                coalesce(rates.currency, staged.currency) as currency
            from ({{ rate_states() }}) as rates
            full join ops.staged_rates as staged
                on rates.rate_date = staged.rate_date and rates.currency = staged.currency
            where rates.rate_state is distinct from staged.rate_state
        ) as changed_rates
            on
                held.activity_date = changed_rates.rate_date
                and held.currency = changed_rates.currency
        where held.currency <> '{{ var("reporting_currency") }}'
    {%- endif %}
{%- endmacro %}

{# Orders by their ids: a row without one is an order of its own, and touched or not by itself. #}
{% macro find_touched_orders() -%}
    {% if is_incremental() -%}
        create or replace temporary table touched_orders as
        select transaction_id
        from {{ source('raw', 'transactions') }}
        where
            _file_id in (select _file_id from changed_files)
            and transaction_id is not null
        union
        select transaction_id
        from {{ this }}
        where
            rowid in (select held_row from touched_rows)
            and transaction_id is not null
    {%- endif %}
{%- endmacro %}

{# Orders are looked up where they landed, in the one column that is made for it; what landed and is
   held has the same numbers here as there. #}
{% macro find_touched_lines() -%}
    {% if is_incremental() -%}
        create or replace temporary table touched_landed as
        select _file_id, _row_number
        from {{ source('raw', 'transactions') }}
        where
            rowid in (select landed_row from raw.rows_of_orders('touched_orders'))
            and transaction_id in (select transaction_id from touched_orders);
        insert into touched_rows
        select rowid
        from {{ this }} as held
        where
            exists (
                select 1 from touched_landed as landed
                where held._file_id = landed._file_id and held._row_number = landed._row_number
            )
            and rowid not in (select held_row from touched_rows);
        create or replace temporary table touched_lines as
        select distinct
            _file_id,
            _row_number,
            user_id,
            activity_date
        from {{ this }}
        where rowid in (select held_row from touched_rows)
    {%- endif %}
{%- endmacro %}

{# Copied, so that whatever looks at them next does not go through all that has landed. #}
{% macro find_lines_to_stage() -%}
    {% if is_incremental() -%}
        create or replace temporary table lines_to_stage as
        select *
        from {{ source('raw', 'transactions') }}
        where _file_id in (select _file_id from changed_files)
        union all
        select *
        from {{ source('raw', 'transactions') }} as landed
        where
            not exists (
                select 1 from changed_files as changed
                where landed._file_id = changed._file_id
            )
            and exists (
                select 1 from touched_lines as touched
                where
                    landed._file_id = touched._file_id
                    and landed._row_number = touched._row_number
            )
    {%- endif %}
{%- endmacro %}

{% macro forget_touched_lines() -%}
    {% if is_incremental() -%}
        delete from {{ this }}
        where rowid in (select held_row from touched_rows)
    {%- endif %}
{%- endmacro %}

{% macro note_staged_days() -%}
    {% if is_incremental() -%}
        {{ note_changed_days(
            'select user_id, activity_date from ' ~ this
            ~ ' where _file_id in (select _file_id from changed_files)'
        ) }}
    {%- elif keeps_changes() -%}
        insert into ops.changed_days
        select {{ next_change() }}, null, null
    {%- endif %}
{%- endmacro %}

{% macro note_staged_rates() -%}
    {% if keeps_changes() -%}
        create or replace table ops.staged_rates as
        {{ rate_states() }}
    {%- endif %}
{%- endmacro %}
