with events as (
    select
        user_id,
        session_id,
        ts as happened_at,
        ingested_at,
        metadata_json,
        _file_id,
        _row_number,
        {{ known_value('lower(event_name)') }} as event_name,
        {{ business_date('ts') }} as activity_date
    from {{ source('raw', 'events') }}
)

select
    user_id,
    happened_at,
    activity_date,
    event_name,
    coalesce(session_id, 'one visit a day') as session_id,
    metadata_json,
    {{ known_date('activity_date', 'ingested_at') }} as known_date,
    _file_id,
    _row_number,
    {{ row_state(['_file_id', '_row_number']) }} as row_state
from events
