with versions as (
    select
        user_id,
        updated_at,
        _file_id,
        _row_number,
        attributes_json,
        has_email_consent,
        has_profiling_consent,
        {{ business_date('signup_ts') }} as signup_date,
        {{ known_value('country') }} as country,
        {{ known_value('device', devices()) }} as device,
        {{ known_value('acquisition_source') }} as acquisition_source,
        {{ known_value('gender', genders()) }} as gender,
        cast(birth_year as integer) as birth_year,
        -- A version without any date has always held.
        coalesce(
            {{ business_date('updated_at') }},
            {{ business_date('signup_ts') }},
            cast('0001-01-01' as date)
        ) as valid_from_date
    from {{ source('raw', 'users') }}
),

-- Of several versions from one day, the last one counts.
newest_of_day as (
    select *
    from versions
    qualify
        row_number() over (
            partition by user_id, valid_from_date
            order by updated_at desc nulls last, _file_id desc, _row_number desc
        ) = 1
)

select
    user_id,
    valid_from_date,
    lead(valid_from_date) over (partition by user_id order by valid_from_date) as valid_to_date,
    signup_date,
    first_value(signup_date) over (
        partition by user_id
        order by signup_date is null, valid_from_date
    ) as first_signup_date,
    country,
    device,
    acquisition_source,
    gender,
    birth_year,
    has_email_consent,
    has_profiling_consent,
    attributes_json
from newest_of_day
