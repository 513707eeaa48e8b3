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
    {% if drawn_cutoffs() -%}
        where
            {{ is_of_part('cutoffs.cutoff_date', 'whole') }}
            or users.user_id in ({{ drawn_accounts() }})
    {%- endif %}
    qualify
        row_number() over (
            partition by cutoffs.cutoff_date, coalesce(owners.customer_id, users.user_id)
            order by
                users.user_id <> coalesce(owners.customer_id, users.user_id) asc,
                users.valid_from_date desc,
                users.user_id asc
        ) = 1
),

places as (
    {{ rows_of_day('max', 'int_customer_day_places', 'count_orders', by=['country', 'channel']) }}
),

last_places as (
    select *
    from places
    qualify
        row_number() over (
            partition by cutoff_date, customer_id
            order by count_orders desc, country asc, channel asc
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
