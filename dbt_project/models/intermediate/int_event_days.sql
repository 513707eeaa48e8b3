{{ config(
    materialized=incrementally(),
    incremental_strategy='append',
    pre_hook="{{ forget_changed_users('stg_events') }}",
) }}

with visits as (
    select
        user_id,
        activity_date,
        known_date,
        session_id,
        min(happened_at) as first_at,
        max(happened_at) as last_at,
        count(*) as count_events,
        count(*) filter (where event_name = 'page_view') as count_page_views,
        count(*) filter (where event_name = 'search') as count_searches,
        count(*) filter (where event_name = 'add_to_cart') as count_cart_additions,
        count(*) filter (where event_name = 'campaign_click') as count_clicks,
        count(*) filter (where event_name = 'purchase') as count_purchases
    from {{ ref('stg_events') }} as events
    where {{ only_new_users('events') }}
    group by 1, 2, 3, 4
),

-- Late events may complete a visit: it turns out longer, and a cart that looked abandoned bought.
visits_as_known as (
    select
        *,
        row_number() over so_far = 1 as is_first_known,
        sum(count_cart_additions) over so_far > 0
        and sum(count_purchases) over so_far = 0 as is_abandoned,
        {{ seconds_between('min(first_at) over so_far', 'max(last_at) over so_far') }} as seconds
    from visits
    window so_far as (
        partition by user_id, activity_date, session_id
        order by known_date
        rows unbounded preceding
    )
),

changes as (
    select
        *,
        seconds - coalesce(lag(seconds) over versions, 0) as delta_seconds,
        cast(is_abandoned as integer)
        - coalesce(lag(cast(is_abandoned as integer)) over versions, 0) as delta_abandoned_carts
    from visits_as_known
    window versions as (partition by user_id, activity_date, session_id order by known_date)
),

states as (
    {{ user_states(ref('stg_events')) }}
),

days as (
    select
        user_id,
        activity_date,
        known_date,
        cast(sum(cast(is_first_known as integer)) as integer) as delta_count_sessions,
        cast(sum(count_events) as integer) as delta_count_events,
        cast(sum(delta_seconds) as bigint) as delta_session_seconds,
        cast(sum(count_page_views) as integer) as delta_count_page_views,
        cast(sum(count_searches) as integer) as delta_count_searches,
        cast(sum(count_cart_additions) as integer) as delta_count_cart_additions,
        cast(sum(delta_abandoned_carts) as integer) as delta_count_abandoned_carts,
        cast(sum(count_clicks) as integer) as delta_count_clicks
    from changes
    group by 1, 2, 3
)

select
    days.*,
    states.user_state
from days
inner join states
    on days.user_id = states.user_id
