{%- set windows = [7, 30, 90] -%}
{%- set measures = ['sessions', 'page_views', 'cart_additions', 'abandoned_carts'] -%}

-- noqa: disable=LT02
with spine as (
    select
        customer_id,
        cutoff_date
    from {{ ref('customer_spine') }}
    where {{ of_this_run('cutoff_date') }}
),

days as (
    select
        cutoffs.cutoff_date,
        coalesce(owners.customer_id, days.user_id) as customer_id,
        days.*
    from {{ ref('int_event_days') }} as days
    inner join ({{ cutoffs() }}) as cutoffs
        on {{ seen_at('days.activity_date', 'days.known_date', 'cutoffs.cutoff_date') }}
    {{ join_owners('days.user_id', 'cutoffs.cutoff_date') }}
),

visits as (
    select
        cutoff_date,
        customer_id,
        max(activity_date) as last_visit_date
        {%- for days in windows %}
            {%- for measure in measures %},
        sum(delta_count_{{ measure }}) filter (
            where {{ in_window('activity_date', 'cutoff_date', days) }}
        ) as count_{{ measure }}_{{ days }}d
            {%- endfor %}
        {%- endfor %}
    from days
    group by 1, 2
),

-- Nobody's events at a cutoff: the shop had none yet, and a zero would say more than is known.
observed as (
    select distinct cutoff_date
    from visits
)

select
    spine.customer_id,
    spine.cutoff_date,
    cast({{ days_between('visits.last_visit_date', 'spine.cutoff_date') }} as double)
        as days_since_last_visit
    {%- for days in windows %}
        {%- for measure in measures %},
    case
        when observed.cutoff_date is not null
            then cast(coalesce(visits.count_{{ measure }}_{{ days }}d, 0) as double)
    end as count_{{ measure }}_{{ days }}d
        {%- endfor %},
    cast(visits.count_abandoned_carts_{{ days }}d as double)
    / nullif(visits.count_sessions_{{ days }}d, 0) as share_abandoned_{{ days }}d
    {%- endfor %}
from spine
left join observed
    on spine.cutoff_date = observed.cutoff_date
left join visits
    on spine.cutoff_date = visits.cutoff_date and spine.customer_id = visits.customer_id
