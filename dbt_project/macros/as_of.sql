{# The only cutoff predicates. Their twin is Cutoff in clv_pipeline/timeline.py; a test holds them
   to each other. Every model that knows a cutoff goes through these. #}

{# Whether something of `day`, known on `known_date`, may be used at `cutoff`. #}
{% macro seen_at(day, known_date, cutoff) -%}
    ({{ day }} <= {{ cutoff }} and {{ known_date }} <= {{ cutoff }})
{%- endmacro %}

{# Whether something of `day` counts in the label of `cutoff` over `horizon_days`, as known on
   `data_through`. #}
{% macro labelled_by(day, known_date, cutoff, horizon_days, data_through) -%}
    (
        {{ day }} > {{ cutoff }}
        and {{ day }} <= {{ add_days(cutoff, horizon_days) }}
        and {{ seen_at(day, known_date, data_through) }}
    )
{%- endmacro %}

{# Whether the label window is fully observed in data complete up to `data_through`. #}
{% macro is_matured(cutoff, horizon_days, data_through) -%}
    ({{ add_days(cutoff, horizon_days) }} <= {{ data_through }})
{%- endmacro %}

{# Whether a version that holds from one day until before another holds at `cutoff`. #}
{% macro holds_at(from_date, to_date, cutoff) -%}
    ({{ from_date }} <= {{ cutoff }} and ({{ to_date }} is null or {{ cutoff }} < {{ to_date }}))
{%- endmacro %}

{# Whether a day that is seen at `cutoff` lies in the window of so many days that ends there. #}
{% macro in_window(day, cutoff, window_days) -%}
    ({{ day }} > {{ add_days(cutoff, -window_days) }})
{%- endmacro %}

{# Whether a day of a calendar, or one from which something holds for all, has come by `cutoff`. #}
{% macro has_come(day, cutoff) -%}
    ({{ day }} <= {{ cutoff }})
{%- endmacro %}

{# A day as SQL writes it. #}
{% macro literal_day(day) -%}
    cast('{{ day }}' as date)
{%- endmacro %}

{# The cutoffs that this run builds, one row each. #}
{% macro cutoffs() -%}
    {% for day in var('cutoffs') -%}
        select {{ literal_day(day) }} as cutoff_date {% if not loop.last %}union all{% endif %}
    {% endfor %}
{%- endmacro %}

{# Whether a cutoff is one that this run builds. #}
{% macro of_this_run(cutoff) -%}
    {% set days = [] -%}
    {% for day in var('cutoffs') -%}
        {% do days.append(literal_day(day)) %}
    {%- endfor %}
    {{ cutoff }} in ({{ days | join(', ') }})
{%- endmacro %}

{# The last complete day of data. #}
{% macro data_through() -%}
    {{ literal_day(var("data_through")) }}
{%- endmacro %}

{# Before the cutoffs of this run are written: drop what is held of them. #}
{% macro forget_cutoffs() -%}
    {% if is_incremental() -%}
        {{ delete_cutoffs() }}
    {%- endif %}
{%- endmacro %}

{# A daily table as it was known at each cutoff: the sums of its deltas by their names. One row per
   cutoff, customer, day and what is in `by`; a day may have several rows where `by` leaves out some
   of the table's key. With `window_days`, of that window alone. Cutoffs are written into the query
   one by one, so that each is a filter of a scan and rows keep the order by account in which the
   table lies: sums by customer are several times as fast in that order. Days of which something
   became known later, and those of accounts that may share a day, are summed; of all others there
   is one row, as it is. Cutoffs that hold a drawn share read the days of the drawn alone, which are
   picked out once, unless `of_all` asks for those of everybody. #}
{% macro known_days(model_name, counts, amounts=[], by=[], window_days=none, of_all=false) -%}
    {%- set drawn = [] if of_all else drawn_cutoffs() -%}
    {%- set merged = '(' ~ merged_accounts() ~ ')' -%}
    {%- set keys, held, sums = ['days.activity_date'], [], [] -%}
    {%- set read = [] -%}
    {%- for name in ['user_id', 'activity_date', 'known_date', 'is_known_late'] -%}
        {%- do read.append('days.' ~ name) -%}
    {%- endfor -%}
    {%- for name in by -%}
        {%- do keys.append('days.' ~ name) -%}
        {%- do read.append('days.' ~ name) -%}
    {%- endfor -%}
    {%- for names, type in [(counts, 'integer'), (amounts, 'decimal(18, 4)')] -%}
        {%- for name in names -%}
            {%- do held.append('days.delta_' ~ name ~ ' as ' ~ name) -%}
            {%- do sums.append('cast(sum(days.delta_' ~ name ~ ') as ' ~ type ~ ') as ' ~ name) -%}
            {%- do read.append('days.delta_' ~ name) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if drawn -%}
        {%- set reach = ['days.activity_date <= ' ~ literal_day(drawn | max)] -%}
        {%- if window_days is not none -%}
            {%- set first = literal_day(drawn | min) -%}
            {%- do reach.append(in_window('days.activity_date', first, window_days)) -%}
        {%- endif -%}
        with days_of_drawn as (
            select {{ read | join(', ') }}
            from {{ ref(model_name) }} as days
            where {{ reach | join(' and ') }} and days.user_id in ({{ drawn_accounts() }})
        )
    {% endif -%}
    {%- for day in var('cutoffs') %}
        {%- set days = 'days_of_drawn' if day in drawn else ref(model_name) -%}
        {%- set cutoff = literal_day(day) -%}
        {%- set seen = seen_at('days.activity_date', 'days.known_date', cutoff) -%}
        {%- if window_days is not none -%}
            {%- set seen = seen ~ ' and ' ~ in_window('days.activity_date', cutoff, window_days) -%}
        {%- endif %}
        select
            {{ cutoff }} as cutoff_date,
            days.user_id as customer_id,
            days.known_date as last_known_date,
            {{ (keys + held) | join(', ') }}
        from {{ days }} as days
        where
            {{ seen }}
            and days.is_known_late is not true
            and {{ not_among(['days.user_id'], merged, ['user_id']) }}
        union all
        select
            {{ cutoff }} as cutoff_date,
            coalesce(owners.customer_id, days.user_id) as customer_id,
            max(days.known_date) as last_known_date,
            {{ (keys + sums) | join(', ') }}
        from {{ days }} as days
        {{ join_owners('days.user_id', cutoff) }}
        where
            {{ seen }}
            and (days.is_known_late or days.user_id in {{ merged }})
        group by {{ ([2] + range(4, 4 + keys | length) | list) | join(', ') }}
        {% if not loop.last %}union all{% endif %}
    {%- endfor %}
{%- endmacro %}

{# The accounts that may share a day with another account. #}
{% macro merged_accounts() -%}
    select user_id
    from {{ ref('int_account_owners') }}
{%- endmacro %}

{# Customer days as they were known at each cutoff: one row per cutoff, customer and day. #}
{% macro days_at_cutoffs(window_days=none) -%}
    {{ known_days(
        'int_customer_days', ['count_orders'], ['value', 'refunds'], window_days=window_days
    ) }}
{%- endmacro %}

{# Of a daily table as it was known at each cutoff: the rows of each customer's first day (`end` is
   min) or last day (max) on which something was counted that is not taken back. Other rows of that
   day are among them. #}
{% macro rows_of_day(end, model_name, count, amounts=[], by=[]) -%}
    select held.*
    from ({{ known_days(model_name, [count], amounts, by) }}) as held
    inner join (
        select
            cutoff_date,
            customer_id,
            {{ end }}(activity_date) as activity_date
        from ({{ known_days(model_name, [count]) }}) as counted
        where {{ count }} > 0
        group by 1, 2
    ) as ends
        on
            held.cutoff_date = ends.cutoff_date
            and held.customer_id = ends.customer_id
            and held.activity_date = ends.activity_date
{%- endmacro %}

{# Rows of a daily or staging table as they were known at each cutoff, each with its customer; at
   cutoffs that hold a drawn share those of the drawn. #}
{% macro seen_rows(model_name) -%}
    {%- for day in var('cutoffs') %}
        {%- set cutoff = literal_day(day) -%}
        {%- set seen = seen_at('seen.activity_date', 'seen.known_date', cutoff) -%}
        {%- if day in drawn_cutoffs() -%}
            {%- set seen = seen ~ ' and seen.user_id in (' ~ drawn_accounts(cutoff) ~ ')' -%}
        {%- endif %}
        select
            {{ cutoff }} as cutoff_date,
            coalesce(owners.customer_id, seen.user_id) as customer_id,
            seen.*
        from {{ ref(model_name) }} as seen
        {{ join_owners('seen.user_id', cutoff) }}
        where {{ seen }}
        {% if not loop.last %}union all{% endif %}
    {%- endfor %}
{%- endmacro %}

{# The cutoffs at which the shop had any row of a daily or staging table, whoever's it was. #}
{% macro cutoffs_that_saw(model_name) -%}
    {%- for day in var('cutoffs') %}
        {%- set cutoff = literal_day(day) %}
        select {{ cutoff }} as cutoff_date
        from {{ ref(model_name) }} as seen
        where {{ seen_at('seen.activity_date', 'seen.known_date', cutoff) }}
        having count(*) > 0
        {% if not loop.last %}union all{% endif %}
    {%- endfor %}
{%- endmacro %}

{# Who the cutoffs of this run are about. #}
{% macro spine_of_this_run() -%}
    select
        customer_id,
        cutoff_date
    from {{ ref('customer_spine') }}
    where {{ of_this_run('cutoff_date') }}
{%- endmacro %}

{# Who owns an account at a cutoff; accounts that no merge names own themselves (no row). #}
{% macro join_owners(user_id, cutoff) -%}
    left join {{ ref('int_account_owners') }} as owners
        on
            {{ user_id }} = owners.user_id
            and {{ holds_at('owners.valid_from_date', 'owners.valid_to_date', cutoff) }}
{%- endmacro %}

{# The rows that a test looks at: all; those of the cutoffs of this run; or, in a table of days,
   those of the days that the newest build changed. #}
{% macro tested_rows(model, only_this_run, only_changed_days=false) -%}
    {% if only_this_run -%}
        (select * from {{ model }} where {{ of_this_run('cutoff_date') }})
    {%- elif only_changed_days -%}
        (select * from {{ model }} as held where {{ on_noted_days('held') }})
    {%- else -%}
        {{ model }}
    {%- endif %}
{%- endmacro %}
