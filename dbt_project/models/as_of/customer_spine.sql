with cutoffs as (
    {{ cutoffs() }}
),

first_orders as (
    select
        user_id,
        min({{ latest(['activity_date', 'known_date']) }}) as first_known_date
    from {{ ref('int_customer_days') }}
    group by 1
),

users as (
    select
        user_id,
        min(first_signup_date) as first_signup_date,
        -- A version tells when a person was known only where no signup does.
        min(valid_from_date) filter (where valid_from_date > cast('0001-01-01' as date))
            as first_version_date
    from {{ ref('stg_users') }}
    group by 1
),

signups as (
    select
        cutoffs.cutoff_date,
        users.user_id,
        coalesce(versions.signup_date, users.first_signup_date) as signup_date,
        coalesce(versions.signup_date, users.first_signup_date, users.first_version_date)
            as first_known_date
    from users
    cross join cutoffs
    left join {{ ref('stg_users') }} as versions
        on
            users.user_id = versions.user_id
            and {{ holds_at(
                'versions.valid_from_date', 'versions.valid_to_date', 'cutoffs.cutoff_date'
            ) }}
),

known_accounts as (
    select
        cutoffs.cutoff_date,
        first_orders.user_id,
        first_orders.first_known_date,
        cast(null as date) as signup_date
    from first_orders
    inner join cutoffs
        on {{ seen_at(
            'first_orders.first_known_date',
            'first_orders.first_known_date',
            'cutoffs.cutoff_date',
        ) }}
    union all
    select
        cutoff_date,
        user_id,
        first_known_date,
        case
            when {{ seen_at('signup_date', 'first_known_date', 'cutoff_date') }} then signup_date
        end as signup_date
    from signups
    where {{ seen_at('first_known_date', 'first_known_date', 'cutoff_date') }}
)

select
    coalesce(owners.customer_id, accounts.user_id) as customer_id,
    accounts.cutoff_date,
    min(accounts.first_known_date) as first_known_date,
    min(accounts.signup_date) as signup_date,
    {{ held_share('accounts.cutoff_date') }} as share_of_customers
from known_accounts as accounts
{{ join_owners('accounts.user_id', 'accounts.cutoff_date') }}
{% if drawn_cutoffs() -%}
    where {{ is_held('coalesce(owners.customer_id, accounts.user_id)', 'accounts.cutoff_date') }}
{%- endif %}
group by 1, 2
