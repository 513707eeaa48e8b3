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
    texts.user_id,
    texts.happened_at,
    texts.activity_date,
    texts.kind,
    texts.text,
    scores.sentiment,
    scores.is_complaint,
    scores.component_1,
    scores.component_2,
    scores.component_3,
    scores.component_4,
    basis.fitted_on as components_from_date,
    {{ known_date('texts.activity_date', 'texts.ingested_at') }} as known_date,
    texts._file_id,
    texts._row_number
from texts
left join {{ source('ops', 'text_scores') }} as scores
    on texts._file_id = scores._file_id and texts._row_number = scores._row_number
left join {{ source('ops', 'text_basis') }} as basis
    on scores.scorer = basis.scorer
