with exposures as (
    select
        user_id,
        campaign_id,
        cost,
        ts as happened_at,
        ingested_at,
        _file_id,
        _row_number,
        coalesce(nullif(lower(trim(arm)), ''), 'treated') as arm,
        {{ business_date('ts') }} as activity_date
    from {{ source('raw', 'campaign_exposures') }}
)

select
    user_id,
    happened_at,
    activity_date,
    campaign_id,
    arm,
    coalesce(cost, 0) as cost,
    {{ known_date('activity_date', 'ingested_at') }} as known_date,
    _file_id,
    _row_number
from exposures
