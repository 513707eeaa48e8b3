{{ config(materialized=as_view()) }}

{%- set windows = [7, 30, 90] -%}
{%- set counts = ['sessions', 'page_views', 'searches', 'cart_additions', 'abandoned_carts'] -%}

-- noqa: disable=LT02
with spine as (
    {{ spine_of_this_run() }}
),

days as (
    {{ seen_rows('int_event_days') }}
),

visits as (
    select
        cutoff_date,
        customer_id,
        max(activity_date) as last_visit_date
        {%- for days in windows %}
            {%- set window = in_window('activity_date', 'cutoff_date', days) %}
            {%- set younger_half = in_window('activity_date', 'cutoff_date', days // 2) %}
            {%- for count in counts %},
        sum(delta_count_{{ count }}) filter (where {{ window }}) as count_{{ count }}_{{ days }}d
            {%- endfor %},
        sum(delta_session_seconds) filter (where {{ window }}) as session_seconds_{{ days }}d,
        sum(delta_count_sessions) filter (where {{ younger_half }})
            as count_late_sessions_{{ days }}d
        {%- endfor %}
    from days
    group by 1, 2
),

-- Nobody's events at a cutoff: the shop had none yet, and a zero would say more than is known.
observed as (
    {{ cutoffs_that_saw('int_event_days') }}
)

select
    spine.customer_id,
    spine.cutoff_date,
    cast({{ days_between('visits.last_visit_date', 'spine.cutoff_date') }} as double)
        as days_since_last_visit
    {%- for days in windows %}
        {%- for count in counts %},
    case
        when observed.cutoff_date is not null
            then cast(coalesce(visits.count_{{ count }}_{{ days }}d, 0) as double)
    end as count_{{ count }}_{{ days }}d
        {%- endfor %},
    cast(visits.count_abandoned_carts_{{ days }}d as double)
    / nullif(visits.count_sessions_{{ days }}d, 0) as share_abandoned_{{ days }}d,
    cast(visits.session_seconds_{{ days }}d as double)
    / nullif(60 * visits.count_sessions_{{ days }}d, 0) as mean_session_minutes_{{ days }}d,
    -- Visits of the younger half against the older half of the window, from -1 to 1.
    cast(2 * coalesce(visits.count_late_sessions_{{ days }}d, 0) as double)
    / nullif(visits.count_sessions_{{ days }}d, 0) - 1 as visit_trend_{{ days }}d,
    case
        when observed.cutoff_date is not null
            then
                cast(coalesce(visits.count_page_views_{{ days }}d, 0) as double)
                / nullif(feat_windows.count_orders_{{ days }}d, 0)
    end as page_views_per_order_{{ days }}d,
    feat_campaigns.count_campaign_clicks_{{ days }}d
    / nullif(feat_campaigns.count_exposures_{{ days }}d, 0) as click_through_{{ days }}d
    {%- endfor %}
from spine
{% for view in ['feat_windows', 'feat_campaigns'] -%}
    inner join {{ ref(view) }} as {{ view }}
        on
            spine.customer_id = {{ view }}.customer_id
            and spine.cutoff_date = {{ view }}.cutoff_date
            and {{ of_this_run(view ~ '.cutoff_date') }}
{% endfor -%}
left join observed
    on spine.cutoff_date = observed.cutoff_date
left join visits
    on spine.cutoff_date = visits.cutoff_date and spine.customer_id = visits.customer_id
