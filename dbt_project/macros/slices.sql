{# First builds of more rows than fit into memory at once go slice by slice. A slice is a condition
   on the rows that a model reads, and no row of it has to do with one of another slice. The
   model's own statement builds the first; the same statement with the other conditions adds the
   others, in the same transaction. #}

{# The condition of the first slice, where a model's rows are read; of all, where one is enough. #}
{% macro of_first_slice(slices) -%}
    {{ slices[0] if slices else 'true' }}
{%- endmacro %}

{# After a model is built: add its other slices, and say how far it has come. #}
{% macro add_other_slices(slices, relation) -%}
    {%- if slices | length > 1 -%}
        {%- set count = run_query('select count(*) from ' ~ relation).columns[0].values()[0] -%}
    {%- endif -%}
    {%- for condition in slices[1:] -%}
        {%- do tell_slices(slices, loop.index, count) -%}
        {%- do run_query('insert into ' ~ this ~ ' ' ~ sql | replace(slices[0], condition)) -%}
    {%- endfor -%}
    {%- if slices | length > 1 -%}
        {%- do tell_slices(slices, slices | length, count) -%}
    {%- endif -%}
{%- endmacro %}

{# Read by clv_pipeline.dbt_process, which says how much time is left. #}
{% macro tell_slices(slices, count_done, count_rows) -%}
    {%- set figures = [this.identifier, count_done, slices | length, count_rows] -%}
    {%- do log('slices ' ~ figures | join(' ')) -%}
{%- endmacro %}

{% macro is_sliced() -%}
    {{ return(
        execute and flags.WHICH in ('run', 'build') and keeps_changes() and not is_incremental()
    ) }}
{%- endmacro %}

{# How many slices keep a statement of so many bytes in memory. #}
{% macro count_slices(count_bytes) -%}
    {%- set at_once = env_var('CLV_DBT_BYTES_AT_ONCE', '4000000000') | int -%}
    {{ return((count_bytes | int + at_once - 1) // at_once) }}
{%- endmacro %}

{# Slices of landed rows: all versions, lines and refunds of an order are in one. Each row's order
   is counted, which takes some 40 bytes; rows of compound orders, of which there is a sample
   here, are sorted and joined, too. #}
{% macro order_slices() -%}
    {%- set slices = [] -%}
    {%- if is_sliced() -%}
        {%- set count_all = run_query('select count(*) from ' ~ source('raw', 'transactions')) -%}
        {%- set ns = namespace(count=0) -%}
        {%- set ns.count = count_slices(640 * count_all.columns[0].values()[0]) -%}
        {%- if ns.count > 1 -%}
            {%- set counts = run_query(
                'select coalesce(sum(count_rows), 0), '
                ~ 'coalesce(sum(case when count_rows > 1 then count_rows end), 0) '
                ~ 'from (select count(*) as count_rows from (' ~ landed_rows() ~ ') as landed '
                ~ 'where order_state % 64 = 0 and transaction_id is not null '
                ~ 'group by order_state) as orders'
            ).rows[0] -%}
            {%- set ns.count = count_slices(64 * (40 * counts[0] + 600 * counts[1])) -%}
        {%- endif -%}
        {%- for number in range(ns.count if ns.count > 1 else 0) -%}
            {%- do slices.append('(landed.order_state % ' ~ ns.count ~ ' = ' ~ number ~ ')') -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(slices) }}
{%- endmacro %}

{# Slices of staged lines: all that happened on a day is in one. A sum takes some 250 bytes. #}
{% macro day_slices() -%}
    {%- set slices, state = [], namespace(rows=0, first=none) -%}
    {%- if is_sliced() -%}
        {%- set found = run_query(
            'select activity_date, count(*) from ' ~ ref('stg_transactions')
            ~ ' group by 1 order by 1'
        ) -%}
        {%- set total = found.columns[1].values() | sum -%}
        {%- set count = count_slices(total * 250) -%}
        {%- if count > 1 -%}
            {%- for row in found.rows -%}
                {%- if state.first is none or state.rows * count >= total -%}
                    {%- if state.first is not none -%}
                        {%- do slices.append(
                            "(lines.activity_date >= cast('" ~ state.first ~ "' as date) "
                            ~ "and lines.activity_date < cast('" ~ row[0] ~ "' as date))"
                        ) -%}
                    {%- endif -%}
                    {%- set state.first = row[0] -%}
                    {%- set state.rows = 0 -%}
                {%- endif -%}
                {%- set state.rows = state.rows + row[1] -%}
            {%- endfor -%}
            {%- do slices.append("(lines.activity_date >= cast('" ~ state.first ~ "' as date))") -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(slices if slices | length > 1 else []) }}
{%- endmacro %}
