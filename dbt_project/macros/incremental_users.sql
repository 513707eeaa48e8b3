{# Incremental by user: a user's rows are rewritten when, and only when, what they are made of
   changed. No watermark: whatever interrupted or repeated run came before, the next one is right. #}

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
   `only` says which lines count. #}
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
            and {{ only_new_users('lines') }}
    ),

    changes as (
        {{ known_changes('lines') }}
    ),

    states as (
        {{ user_states(ref('stg_transactions')) }}
    ),

    days as (
        select
            {{ (keys + ['known_date'] + deltas) | join(', ') }}
        from changes
        group by {{ (keys + ['known_date']) | join(', ') }}
    )

    select
        days.*,
        states.user_state
    from days
    inner join states
        on days.user_id = states.user_id
{%- endmacro %}

{# What each user's rows are made of now, as one number. #}
{% macro user_states(relation) -%}
    select
        user_id,
        {{ set_state('row_state') }} as user_state
    from {{ relation }}
    where user_id is not null
    group by 1
{%- endmacro %}

{# Before: drop the rows of users who changed. Same transaction. #}
{% macro forget_changed_users(model_name) -%}
    {% if is_incremental() -%}
        delete from {{ this }}
        where user_id in (
            select held.user_id
            from (select distinct user_id, user_state from {{ this }}) as held
            left join ({{ user_states(ref(model_name)) }}) as current_states
                on held.user_id = current_states.user_id
            where current_states.user_state is distinct from held.user_state
        )
    {%- endif %}
{%- endmacro %}

{# Then: read the rows of users who are not held. #}
{% macro only_new_users(alias) -%}
    {% if is_incremental() -%}
        not exists (select 1 from {{ this }} as held where held.user_id = {{ alias }}.user_id)
    {%- else -%}
        true
    {%- endif %}
{%- endmacro %}
