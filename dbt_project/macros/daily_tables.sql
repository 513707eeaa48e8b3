{# The daily tables of what customers did. They take only what is new: staging notes the days of
   every line that it stages or drops in ops.changed_days, and each table notes in ops.seen_changes,
   in the transaction that rewrites these days, how far it has read. A run that is killed between
   the two leaves days that the next one finds. #}

{# What lines add on the day they become known, and take away on the day they are superseded. #}
{% macro known_changes(lines) -%}
    select
        *,
        known_from_date as known_date,
        1 as sign
    from {{ lines }}
    union all
    select
        *,
        known_to_date as known_date,
        -1 as sign
    from {{ lines }}
    where known_to_date is not null
{%- endmacro %}

{# A daily table of what customers did: one row per user, day, what is in `by`, and the day on which
   that became known. A delta is what a line adds on the day it becomes known, and takes away on the
   day it is superseded. `counts` and `amounts` say, by name, what one line adds (null: nothing);
   `only` says which lines count. Of a day of which nothing became known later there is one row of
   each key, which holds at every cutoff that sees the day; `is_known_late` tells the others. #}
{% macro customer_day_deltas(counts, amounts={}, by=[], only='true') -%}
    {%- set added, deltas = [], [] -%}
    {%- for names, type in [(counts, 'integer'), (amounts, 'decimal(18, 4)')] -%}
        {%- for name, expression in names.items() -%}
            {%- do added.append(expression ~ ' as ' ~ name) -%}
            {%- do deltas.append(
                'cast(coalesce(sum(sign * ' ~ name ~ '), 0) as ' ~ type ~ ') as delta_' ~ name
            ) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set keys = ['user_id', 'activity_date'] + by -%}
    with lines as (
        select
            {{ (keys + ['known_from_date', 'known_to_date'] + added) | join(', ') }}
        from {{ ref('stg_transactions') }} as lines
        where
            user_id is not null
            and not is_duplicate
            and (known_to_date is null or known_from_date < known_to_date)
            and {{ only }}
            and {{ on_changed_days('lines') if is_incremental() else of_first_slice(day_slices()) }}
    ),

    changes as (
        {{ known_changes('lines') }}
    ),

    days as (
        select
            {{ (keys + ['known_date'] + deltas) | join(', ') }}
        from changes
        group by {{ (keys + ['known_date']) | join(', ') }}
    ),

    -- Found once here, not at every cutoff.
    late_days as (
        select distinct
            user_id,
            activity_date
        from lines
        where known_from_date <> activity_date or known_to_date is not null
    )

    select
        days.*,
        late_days.user_id is not null as is_known_late
    from days
    left join late_days
        on days.user_id = late_days.user_id and days.activity_date = late_days.activity_date
    {% if keeps_changes() and not is_incremental() -%}
        -- So that sums by account find the rows of each together.
        order by days.user_id, days.activity_date
    {%- endif %}
{%- endmacro %}

{# Whether this engine can take only what is new. Where not, these tables are built in full. #}
{% macro keeps_changes() -%}
    {{ return(incrementally() == 'incremental') }}
{%- endmacro %}

{# Before a daily table is built: drop the days that changed. Same transaction. #}
{% macro before_days() -%}
    {{ return(
        ["{{ make_change_log() }}", "{{ forget_changed_days() }}"]
        if incrementally() == 'incremental' else []
    ) }}
{%- endmacro %}

{# After: note how far changes are in it. Same transaction. #}
{% macro after_days() -%}
    {{ return(
        [
            "{{ add_other_slices(day_slices(), ref('stg_transactions')) }}",
            "{{ forget_seen_changes() }}",
            "{{ note_seen_changes() }}",
        ]
        if incrementally() == 'incremental' else []
    ) }}
{%- endmacro %}

{# Which lines a daily table reads: all, or those of the days that changed since it last did. #}
{% macro on_changed_days(alias) -%}
    {%- if is_incremental() -%}
        {{ on_days_of(alias, unseen_changes()) }}
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}

{# Which rows lie on days that are still noted: those that the newest build changed. #}
{% macro on_noted_days(alias) -%}
    {{ on_days_of(alias, 'select user_id, activity_date from ops.changed_days') }}
{%- endmacro %}

{# Which rows lie on these days; every row, where one without a date says that all changed. #}
{% macro on_days_of(alias, changes) -%}
    {%- set dates = dates_of(changes) -%}
    {%- if dates is none -%}
        true
    {%- else -%}
        {{ among_dates(alias ~ '.activity_date', dates) }}
        and exists (
            select 1 from ({{ changes }}) as changed
            where
                {{ alias }}.user_id = changed.user_id
                and {{ alias }}.activity_date = changed.activity_date
        )
    {%- endif -%}
{%- endmacro %}

{% macro dates_of(changes) -%}
    {%- if not execute or incrementally() != 'incremental' -%}
        {{ return(none) }}
    {%- endif -%}
    {%- do run_query(make_change_log()) -%}
    {%- set found = run_query(
        'select distinct activity_date from (' ~ changes ~ ') as changed order by 1'
    ) -%}
    {%- set dates = found.columns[0].values() | list -%}
    {{ return(none if none in dates else dates) }}
{%- endmacro %}

{% macro forget_changed_days() -%}
    {% if is_incremental() -%}
        delete from {{ this }} as held
        where {{ on_changed_days('held') }}
    {%- endif %}
{%- endmacro %}

{# The days that changed since this table last looked; one without a date means all of them. #}
{% macro unseen_changes() -%}
    select distinct
        user_id,
        activity_date
    from ops.changed_days
    where change_number > coalesce((
        select max(change_number) from ops.seen_changes where model_name = '{{ this.identifier }}'
    ), 0)
{%- endmacro %}

{# Says which dates are meant in a way that skips the parts of a table that hold none of them. #}
{% macro among_dates(day, days) -%}
    {%- if not days -%}
        false
    {%- else -%}
        {{ day }} between cast('{{ days | first }}' as date) and cast('{{ days | last }}' as date)
        {%- if days | length <= 400 %}
            and {{ day }} in (cast('{{ days | join("' as date), cast('") }}' as date))
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{% macro make_change_log() -%}
    {% if keeps_changes() -%}
        create table if not exists ops.changed_days (
            change_number bigint, user_id varchar, activity_date date
        );
        create table if not exists ops.seen_changes (model_name varchar, change_number bigint);
        create table if not exists ops.staged_rates (
            rate_date date, currency varchar, rate_state ubigint
        )
    {%- endif %}
{%- endmacro %}

{# What every daily table has seen need not be kept. #}
{% macro forget_consumed_changes() -%}
    {% if keeps_changes() -%}
        delete from ops.changed_days
        where change_number <= (select min(change_number) from ops.seen_changes)
    {%- endif %}
{%- endmacro %}

{% macro next_change() -%}
    (
        select coalesce(max(change_number), 0) + 1
        from (
            select change_number from ops.changed_days
            union all
            select change_number from ops.seen_changes
        ) as changes
    )
{%- endmacro %}

{% macro note_changed_days(days) -%}
    {% if is_incremental() -%}
        insert into ops.changed_days
        select distinct
            {{ next_change() }},
            changed.user_id,
            changed.activity_date
        from ({{ days }}) as changed
        where changed.user_id is not null
    {%- endif %}
{%- endmacro %}

{% macro forget_seen_changes() -%}
    {% if keeps_changes() -%}
        delete from ops.seen_changes where model_name = '{{ this.identifier }}'
    {%- endif %}
{%- endmacro %}

{% macro note_seen_changes() -%}
    {% if keeps_changes() -%}
        insert into ops.seen_changes
        select '{{ this.identifier }}', {{ next_change() }} - 1
    {%- endif %}
{%- endmacro %}
