with statements as (
    select
        old_user_id,
        new_user_id,
        ts as merged_at,
        _file_id,
        _row_number,
        {{ business_date('ts') }} as valid_from_date
    from {{ source('raw', 'account_merges') }}
),

-- Of several statements about an account on one day, the last one counts.
newest_of_day as (
    select *
    from statements
    qualify
        row_number() over (
            partition by old_user_id, valid_from_date
            order by merged_at desc, _file_id desc, _row_number desc
        ) = 1
)

select
    old_user_id,
    new_user_id,
    merged_at,
    valid_from_date,
    lead(valid_from_date) over (
        partition by old_user_id order by valid_from_date
    ) as valid_to_date
from newest_of_day
