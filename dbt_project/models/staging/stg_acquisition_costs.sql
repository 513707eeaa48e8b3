select
    day as activity_date,
    cost,
    _file_id,
    _row_number,
    {{ known_value('acquisition_source') }} as acquisition_source
from {{ source('raw', 'acquisition_costs') }}
