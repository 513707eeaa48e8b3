with texts as (
    select
        user_id,
        ts as happened_at,
        ingested_at,
        text,
        _file_id,
        _row_number,
        {{ known_value('lower(kind)') }} as kind,
        {{ business_date('ts') }} as activity_date
    from {{ source('raw', 'texts') }}
)

select
    user_id,
    happened_at,
    activity_date,
    kind,
    text,
    {{ known_date('activity_date', 'ingested_at') }} as known_date,
    _file_id,
    _row_number
from texts
