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

{# The cutoffs that this run builds, one row each. #}
{% macro cutoffs() -%}
    {% for day in var('cutoffs') -%}
        select cast('{{ day }}' as date) as cutoff_date {% if not loop.last %}union all{% endif %}
    {% endfor %}
{%- endmacro %}

{# Whether a cutoff is one that this run builds. #}
{% macro of_this_run(cutoff) -%}
    {% set days = [] -%}
    {% for day in var('cutoffs') -%}
        {% do days.append("cast('" ~ day ~ "' as date)") %}
    {%- endfor %}
    {{ cutoff }} in ({{ days | join(', ') }})
{%- endmacro %}

{# The last complete day of data. #}
{% macro data_through() -%}
    cast('{{ var("data_through") }}' as date)
{%- endmacro %}

{# Before the cutoffs of this run are written: drop what is held of them. #}
{% macro forget_cutoffs() -%}
    {% if is_incremental() -%}
        {{ delete_cutoffs() }}
    {%- endif %}
{%- endmacro %}

{# Customer days as they were known at each cutoff: one row per cutoff, customer and day. #}
{% macro days_at_cutoffs() -%}
    select
        cutoffs.cutoff_date,
        coalesce(owners.customer_id, days.user_id) as customer_id,
        days.activity_date,
        max(days.known_date) as last_known_date,
        cast(sum(days.delta_count_orders) as integer) as count_orders,
        cast(sum(days.delta_value) as decimal(18, 4)) as sum_value,
        cast(sum(days.delta_refunds) as decimal(18, 4)) as sum_refunds
    from {{ ref('int_customer_days') }} as days
    inner join ({{ cutoffs() }}) as cutoffs
        on {{ seen_at('days.activity_date', 'days.known_date', 'cutoffs.cutoff_date') }}
    {{ join_owners('days.user_id', 'cutoffs.cutoff_date') }}
    group by 1, 2, 3
{%- endmacro %}

{# Rows of a daily or staging table as they were known at each cutoff, each with its customer. #}
{% macro seen_rows(model_name) -%}
    select
        cutoffs.cutoff_date,
        coalesce(owners.customer_id, seen.user_id) as customer_id,
        seen.*
    from {{ ref(model_name) }} as seen
    inner join ({{ cutoffs() }}) as cutoffs
        on {{ seen_at('seen.activity_date', 'seen.known_date', 'cutoffs.cutoff_date') }}
    {{ join_owners('seen.user_id', 'cutoffs.cutoff_date') }}
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
