with spine as (
    select *
    from {{ ref('customer_spine') }}
    where {{ of_this_run('cutoff_date') }}
),

-- The customer's own account describes the customer; failing that, one that was merged into it.
versions as (
    select
        cutoffs.cutoff_date,
        coalesce(owners.customer_id, users.user_id) as customer_id,
        users.*
    from {{ ref('stg_users') }} as users
    inner join ({{ cutoffs() }}) as cutoffs
        on {{ holds_at('users.valid_from_date', 'users.valid_to_date', 'cutoffs.cutoff_date') }}
    {{ join_owners('users.user_id', 'cutoffs.cutoff_date') }}
    qualify
        row_number() over (
            partition by cutoffs.cutoff_date, coalesce(owners.customer_id, users.user_id)
            order by
                users.user_id <> coalesce(owners.customer_id, users.user_id) asc,
                users.valid_from_date desc,
                users.user_id asc
        ) = 1
),

-- The last day is the one of the latest order, unless orders were taken back.
last_days as (
    select
        cutoff_date,
        customer_id,
        max(activity_date) filter (where delta_count_orders > 0) as last_date,
        min(delta_count_orders) < 0 as has_lost_orders
    from ({{ seen_rows('int_customer_day_places') }}) as seen
    group by 1, 2
),

places as (
    select
        seen.cutoff_date,
        seen.customer_id,
        seen.activity_date,
        seen.country,
        seen.channel,
        sum(seen.delta_count_orders) as count_orders
    from ({{ seen_rows('int_customer_day_places') }}) as seen
    inner join last_days
        on
            seen.cutoff_date = last_days.cutoff_date
            and seen.customer_id = last_days.customer_id
            and (last_days.has_lost_orders or seen.activity_date = last_days.last_date)
    group by 1, 2, 3, 4, 5
    having sum(seen.delta_count_orders) > 0
),

last_places as (
    select *
    from places
    qualify
        row_number() over (
            partition by cutoff_date, customer_id
            order by activity_date desc, count_orders desc, country asc, channel asc
        ) = 1
),

joined as (
    select
        spine.customer_id,
        spine.cutoff_date,
        coalesce(spine.signup_date, spine.first_known_date) as joined_date,
        coalesce(nullif(versions.country, 'unknown'), last_places.country, 'unknown') as country,
        coalesce(last_places.channel, 'unknown') as last_channel,
        coalesce(versions.device, 'unknown') as device,
        coalesce(versions.acquisition_source, 'unknown') as acquisition_source,
        coalesce(versions.gender, 'unknown') as gender,
        extract(year from spine.cutoff_date) - versions.birth_year as age_years,
        versions.has_email_consent,
        versions.has_profiling_consent
    from spine
    left join versions
        on spine.cutoff_date = versions.cutoff_date and spine.customer_id = versions.customer_id
    left join last_places
        on
            spine.cutoff_date = last_places.cutoff_date
            and spine.customer_id = last_places.customer_id
)

select
    customer_id,
    cutoff_date,
    country,
    last_channel,
    device,
    acquisition_source,
    gender,
    case
        when age_years between 0 and 24 then 'below 25'
        when age_years between 25 and 34 then '25 to 34'
        when age_years between 35 and 44 then '35 to 44'
        when age_years between 45 and 54 then '45 to 54'
        when age_years between 55 and 64 then '55 to 64'
        when age_years between 65 and 120 then 'from 65'
        else 'unknown'
    end as age_band,
    case
        when extract(month from joined_date) in (12, 1, 2) then 'winter'
        when extract(month from joined_date) in (3, 4, 5) then 'spring'
        when extract(month from joined_date) in (6, 7, 8) then 'summer'
        else 'autumn'
    end as signup_season,
    cast({{ days_between('joined_date', 'cutoff_date') }} as double) as tenure_days,
    has_email_consent,
    has_profiling_consent
from joined
