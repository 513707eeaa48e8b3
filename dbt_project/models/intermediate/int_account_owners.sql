with recursive
statements as (
    select * from {{ ref('stg_account_merges') }}
),

accounts as (
    select old_user_id as user_id from statements
    union
    select new_user_id as user_id from statements
),

-- Who an account points to, day by day: itself before its first merge.
pointers as (
    select
        old_user_id as user_id,
        new_user_id as points_to,
        valid_from_date,
        coalesce(valid_to_date, cast('9999-12-31' as date)) as valid_to_date
    from statements
    union all
    select
        accounts.user_id,
        accounts.user_id as points_to,
        cast('0001-01-01' as date) as valid_from_date,
        coalesce(min(statements.valid_from_date), cast('9999-12-31' as date)) as valid_to_date
    from accounts
    left join statements
        on accounts.user_id = statements.old_user_id
    group by 1
),

-- Follow the pointers, each step over the days on which both hold. A path that meets an account
-- again is a cycle and stops the run.
chains as (
    select
        user_id,
        points_to,
        valid_from_date,
        valid_to_date,
        '|' || user_id || '|' as path,
        user_id || ' -> ' || points_to as path_in_words,
        user_id = points_to as is_resolved
    from pointers
    union all
    select
        chains.user_id,
        pointers.points_to,
        {{ latest(['chains.valid_from_date', 'pointers.valid_from_date']) }} as valid_from_date,
        {{ earliest(['chains.valid_to_date', 'pointers.valid_to_date']) }} as valid_to_date,
        chains.path || pointers.user_id || '|' as path,
        case
            when position('|' || pointers.points_to || '|' in chains.path) > 0
                then {{ refuse(
                    "'account_merges go round in a circle: ' || chains.path_in_words || ' -> ' "
                    "|| pointers.points_to || ', from ' || cast(greatest(chains.valid_from_date, "
                    "pointers.valid_from_date) as string) || ' on. Correct one of these rows, or "
                    "end it with a row whose old and new account are the same.'"
                ) }}
            else chains.path_in_words || ' -> ' || pointers.points_to
        end as path_in_words,
        pointers.user_id = pointers.points_to as is_resolved
    from chains
    inner join pointers
        on
            chains.points_to = pointers.user_id
            and chains.valid_from_date < pointers.valid_to_date
            and chains.valid_to_date > pointers.valid_from_date
    where not chains.is_resolved
)

select
    user_id,
    points_to as customer_id,
    valid_from_date,
    nullif(valid_to_date, cast('9999-12-31' as date)) as valid_to_date
from chains
where is_resolved and valid_from_date < valid_to_date
