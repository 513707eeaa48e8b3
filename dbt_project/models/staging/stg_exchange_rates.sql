with rates as (
    select
        day as rate_date,
        rate,
        known_at,
        _file_id,
        _row_number,
        upper(trim(currency)) as currency,
        {{ known_date('day', 'known_at') }} as known_from_date
    from {{ source('raw', 'exchange_rates') }}
),

-- Of several rates that became known on one day, the last one counts.
newest_of_day as (
    select *
    from rates
    qualify
        row_number() over (
            partition by rate_date, currency, known_from_date
            order by known_at desc nulls last, _file_id desc nulls last, _row_number desc
        ) = 1
)

select
    rate_date,
    currency,
    rate,
    known_from_date,
    lead(known_from_date) over restatements as known_to_date,
    row_number() over restatements as rate_version
from newest_of_day
window restatements as (partition by rate_date, currency order by known_from_date)
