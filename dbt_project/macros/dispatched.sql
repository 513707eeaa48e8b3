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

{# Rounded half away from zero, as a double. #}
{% macro rounded(number, digits) -%}
    {{ adapter.dispatch('rounded', 'clv')(number, digits) }}
{%- endmacro %}

{% macro duckdb__rounded(number, digits) -%}
    round({{ number }}, {{ digits }})
{%- endmacro %}

{# Whether no row of a query, written in brackets, has these values in these columns. None of either
   side may be null. #}
{% macro not_among(values, query, columns) -%}
    {{ adapter.dispatch('not_among', 'clv')(values, query, columns) }}
{%- endmacro %}

{# Written as NOT EXISTS, DuckDB may take the large side for the small one and hash all of it. #}
{% macro duckdb__not_among(values, query, columns) -%}
    ({{ values | join(', ') }}) not in {{ query }}
{%- endmacro %}

{# Every column of a relation but some. #}
{% macro all_but(alias, columns) -%}
    {{ adapter.dispatch('all_but', 'clv')(alias, columns) }}
{%- endmacro %}

{% macro duckdb__all_but(alias, columns) -%}
    {{ alias }}.* exclude ({{ columns | join(', ') }})
{%- endmacro %}

{# Aggregate: the value, of rows that have one, of the row that comes last in order. #}
{% macro newest(value, order_columns) -%}
    {{ adapter.dispatch('newest', 'clv')(value, order_columns) }}
{%- endmacro %}

{% macro duckdb__newest(value, order_columns) -%}
    arg_max({{ value }}, ({{ order_columns | join(', ') }}))
{%- endmacro %}

{# Aggregate: the list, in order, of days as whole numbers since another day; missing ones are left
   out. #}
{% macro sorted_days(day, since) -%}
    {{ adapter.dispatch('sorted_days', 'clv')(day, since) }}
{%- endmacro %}

{% macro duckdb__sorted_days(day, since) -%}
    list_sort(list({{ day }} - {{ since }}) filter (where {{ day }} is not null))
{%- endmacro %}

{# The sum of the squared differences between neighbours in a list of whole numbers, as a double. #}
{% macro sum_of_squared_steps(numbers) -%}
    {{ adapter.dispatch('sum_of_squared_steps', 'clv')(numbers) }}
{%- endmacro %}

{# Written as products of lists, which take half the time of functions of their elements: of whole
   numbers they are exact. (b - a)^2 + (c - b)^2 is 2 (a a + b b + c c - a b - b c) - a a - c c. #}
{% macro duckdb__sum_of_squared_steps(numbers) -%}
    (
        2 * list_inner_product({{ numbers }}::double[], {{ numbers }}::double[])
        - 2 * list_inner_product({{ numbers }}[2:]::double[], {{ numbers }}[:-2]::double[])
        - power({{ numbers }}[1], 2) - power({{ numbers }}[-1], 2)
    )
{%- endmacro %}

{# How a model is kept that takes only what is new, where rows can be deleted. #}
{% macro incrementally() -%}
    {{ return(adapter.dispatch('incrementally', 'clv')()) }}
{%- endmacro %}

{% macro duckdb__incrementally() -%}
    {{ return('incremental') }}
{%- endmacro %}

{# How a model is kept whose rows customer_features keeps: it shows the newest run's cutoffs. #}
{% macro as_view() -%}
    {{ return(adapter.dispatch('as_view', 'clv')()) }}
{%- endmacro %}

{% macro duckdb__as_view() -%}
    {{ return('view') }}
{%- endmacro %}

{# Drops the rows of this run's cutoffs from the table of this model. #}
{% macro delete_cutoffs() -%}
    {{ adapter.dispatch('delete_cutoffs', 'clv')() }}
{%- endmacro %}

{% macro duckdb__delete_cutoffs() -%}
    delete from {{ this }}
    where {{ of_this_run('cutoff_date') }}
{%- endmacro %}


{# dbt writes new rows to a table of its own and copies them from there. Where a model reads nothing
   of what it holds, a view does, and millions of rows are written once. #}
{% macro duckdb__create_table_as(
    temporary, relation, compiled_code, language='sql', partitioned_by=none, sorted_by=none
) -%}
    {%- if temporary and (config.get('meta') or {}).get('is_written_once') -%}
        create temporary view {{ relation }} as (
            {{ compiled_code }}
        )
    {%- else -%}
        {{ dbt.duckdb__create_table_as(
            temporary, relation, compiled_code, language, partitioned_by, sorted_by
        ) }}
    {%- endif %}
{%- endmacro %}


{# ---- Spark: the same, one after the other. ---- #}

{% macro spark__business_date(instant) -%}
    {% if var('time_zone') == 'UTC' -%}
        cast({{ instant }} as date)
    {%- else -%}
        cast(convert_timezone('UTC', '{{ var("time_zone") }}', {{ instant }}) as date)
    {%- endif %}
{%- endmacro %}

{% macro spark__add_days(day, days) -%}
    date_add({{ day }}, cast({{ days }} as integer))
{%- endmacro %}

{% macro spark__days_between(first_day, last_day) -%}
    datediff({{ last_day }}, {{ first_day }})
{%- endmacro %}

{% macro spark__seconds_between(first_instant, last_instant) -%}
    timestampdiff(
        second,
        cast(date_trunc('second', {{ first_instant }}) as timestamp),
        cast(date_trunc('second', {{ last_instant }}) as timestamp)
    )
{%- endmacro %}

{% macro spark__latest(days) -%}
    greatest({{ days | join(', ') }})
{%- endmacro %}

{% macro spark__earliest(days) -%}
    least({{ days | join(', ') }})
{%- endmacro %}

{% macro spark__weekday(day) -%}
    extract(dayofweek_iso from {{ day }})
{%- endmacro %}

{# Spark's hash passes over nulls, which would make ('a', null) and (null, 'a') one. #}
{% macro spark__row_state(columns) -%}
    {%- set parts = [] -%}
    {%- for column in columns -%}
        {%- do parts.extend([column ~ ' is null', column]) -%}
    {%- endfor -%}
    xxhash64({{ parts | join(', ') }})
{%- endmacro %}

{% macro spark__set_state(state) -%}
    bit_xor({{ state }})
{%- endmacro %}

{% macro spark__refuse(message) -%}
    raise_error({{ message }})
{%- endmacro %}

{# Spark would round the shortest decimal that a double prints as; DuckDB rounds what it holds. #}
{% macro spark__rounded(number, digits) -%}
    (round(cast({{ number }} as double) * 1e{{ digits }}, 0) / 1e{{ digits }})
{%- endmacro %}

{# Of several columns, Spark compares every pair of rows for NOT IN, in case that one is null. #}
{% macro spark__not_among(values, query, columns) -%}
    {%- set same = [] -%}
    {%- for value in values -%}
        {%- do same.append(value ~ ' = held.' ~ columns[loop.index0]) -%}
    {%- endfor -%}
    not exists (select 1 from {{ query }} as held where {{ same | join(' and ') }})
{%- endmacro %}

{% macro spark__all_but(alias, columns) -%}
    {{ alias }}.* except ({{ columns | join(', ') }})
{%- endmacro %}

{% macro spark__newest(value, order_columns) -%}
    max_by({{ value }}, struct({{ order_columns | join(', ') }}))
        filter (where {{ value }} is not null)
{%- endmacro %}

{% macro spark__sorted_days(day, since) -%}
    sort_array(collect_list(datediff({{ day }}, {{ since }})))
{%- endmacro %}

{% macro spark__sum_of_squared_steps(numbers) -%}
    aggregate(
        zip_with(
            slice({{ numbers }}, 2, size({{ numbers }}) - 1),
            slice({{ numbers }}, 1, size({{ numbers }}) - 1),
            (later, earlier) -> cast(later - earlier as double) * (later - earlier)
        ),
        cast(0 as double),
        (total, squared) -> total + squared
    )
{%- endmacro %}

{# Tables of Parquet files lose rows by being written anew: what comes from raw is built in full. #}
{% macro spark__incrementally() -%}
    {{ return('table') }}
{%- endmacro %}

{# What Spark has written, DuckDB reads as files; a view has none. #}
{% macro spark__as_view() -%}
    {{ return('incremental') }}
{%- endmacro %}

{# Delta, Iceberg and Hudi delete; of Parquet, each cutoff's partition is overwritten by nothing. #}
{% macro spark__delete_cutoffs() -%}
    {%- if config.get('file_format') in ('delta', 'iceberg', 'hudi') -%}
        delete from {{ this }}
        where {{ of_this_run('cutoff_date') }}
    {%- elif execute -%}
        {%- set nothing = [] -%}
        {%- for column in adapter.get_columns_in_relation(this) if column.name != 'cutoff_date' -%}
            {%- do nothing.append('cast(null as ' ~ column.dtype ~ ')') -%}
        {%- endfor -%}
        {%- set held = run_query('show partitions ' ~ this).columns[0].values() -%}
        {%- for day in var('cutoffs') if 'cutoff_date=' ~ day in held -%}
            {%- do run_query(
                'insert overwrite table ' ~ this ~ " partition (cutoff_date = date '" ~ day
                ~ "') select " ~ nothing | join(', ') ~ ' where false'
            ) -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}

{# A contract says varchar, which Spark has only with a length. #}
{% macro spark__cast(field, type) -%}
    cast({{ field }} as {{ 'string' if type | lower == 'varchar' else type }})
{%- endmacro %}

{# Where the pipeline keeps tables as files, a table is the folder of its name. #}
{% macro spark__location_clause() -%}
    {%- set lake = env_var('CLV_SPARK_LAKE', '') -%}
    {%- if lake -%}
        location '{{ lake }}/{{ model["schema"] }}/{{ model["alias"] }}'
    {%- endif -%}
{%- endmacro %}
