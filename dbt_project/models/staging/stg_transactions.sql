{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook='{{ forget_changed_orders() }}',
) }}

with landed as (
    select
        *,
        {{ order_key() }} as order_key
    from {{ source('raw', 'transactions') }}
),

lines as (
    select
        order_key,
        transaction_id,
        user_id,
        sku,
        case when discount >= 0 then discount end as discount,
        nullif(trim(category), '') as category,
        _file_id,
        _row_number,
        ts as happened_at,
        ingested_at,
        coalesce(is_refund, amount < 0) as is_refund,
        case when coalesce(is_refund, amount < 0) then ts end as refunded_at,
        case when coalesce(is_refund, amount < 0) then -abs(amount) else amount end as amount,
        coalesce(variable_cost, 0) as variable_cost,
        coalesce(upper(trim(currency)), '{{ var("reporting_currency") }}') as currency,
        coalesce(quantity, 1) as quantity,
        {{ known_value('channel') }} as channel,
        {{ known_value('country') }} as country,
        {{ business_date('ts') }} as activity_date,
        {{ business_date('ingested_at') }} as ingested_date,
        {% if var('transaction_grain') == 'order' -%}
            row_number() over (
                partition by
                    _file_id, order_key, user_id, ts, amount, currency, channel, sku, category,
                    quantity, discount, country, is_refund, variable_cost, ingested_at
                order by _row_number
            ) > 1
        {%- else -%}
            false
        {%- endif %} as is_duplicate
    from landed
    {% if is_incremental() %}
        where order_key not in (select held.order_key from {{ this }} as held)
    {% endif %}
),

-- A version of an order (or of one refund of it) is what one delivery said of it.
versions as (
    select
        order_key,
        is_refund,
        refunded_at,
        ingested_at,
        _file_id,
        coalesce(min(ingested_date), min(activity_date)) as version_known_date
    from lines
    group by 1, 2, 3, 4, 5
),

superseded as (
    select
        *,
        row_number() over newer_first = 1 as is_newest_version,
        min(version_known_date) over (
            newer_first rows between unbounded preceding and 1 preceding
        ) as superseded_date
    from versions
    window newer_first as (
        partition by order_key, is_refund, refunded_at
        order by ingested_at desc nulls last, _file_id desc
    )
),

versioned as (
    select
        lines.*,
        superseded.is_newest_version,
        superseded.version_known_date,
        superseded.superseded_date,
        row_number() over (
            partition by
                lines.order_key, lines.is_refund, lines.refunded_at, lines.ingested_at,
                lines._file_id, lines.user_id
            order by lines.is_duplicate, lines.happened_at, lines._row_number
        ) = 1 as is_first_line
    from lines
    inner join superseded
        on
            lines.order_key = superseded.order_key
            and lines.is_refund = superseded.is_refund
            and lines.refunded_at is not distinct from superseded.refunded_at
            and lines.ingested_at is not distinct from superseded.ingested_at
            and lines._file_id = superseded._file_id
),

-- What is known today of the orders that refunds refer to; for flags only.
orders as (
    select
        order_key,
        min(happened_at) as ordered_at,
        sum(amount) as ordered_amount
    from versioned
    where not is_refund and is_newest_version and not is_duplicate
    group by 1
),

refunds as (
    select
        versioned._file_id,
        versioned._row_number,
        orders.order_key is null as is_refund_without_order,
        coalesce(versioned.happened_at < orders.ordered_at, false) as is_refund_before_order,
        coalesce(
            sum(-versioned.amount) over (
                partition by versioned.order_key
                order by versioned.happened_at, versioned._file_id, versioned._row_number
                rows unbounded preceding
            ) > orders.ordered_amount,
            false
        ) as is_refund_larger_than_order,
        versioned.happened_at > min(versioned.happened_at) over (
            partition by versioned.order_key, versioned.sku, versioned.amount
        ) as is_refund_repeated
    from versioned
    left join orders
        on versioned.order_key = orders.order_key
    where versioned.is_refund and versioned.is_newest_version and not versioned.is_duplicate
),

rates as (
    select
        rates.*,
        states.rate_state
    from {{ ref('stg_exchange_rates') }} as rates
    inner join ({{ rate_states() }}) as states
        on rates.rate_date = states.rate_date and rates.currency = states.currency
),

converted as (
    select
        versioned.*,
        rates.rate_state,
        coalesce(rates.rate_version, 1) as rate_version,
        rates.known_to_date is null as is_newest_rate,
        case
            when versioned.currency = '{{ var("reporting_currency") }}' then 1.0
            else rates.rate
        end as rate,
        {{ latest([
            'versioned.activity_date', 'versioned.version_known_date', 'rates.known_from_date'
        ]) }} as known_from_date,
        {{ earliest(['versioned.superseded_date', 'rates.known_to_date']) }} as known_to_date
    from versioned
    left join rates
        on
            versioned.activity_date = rates.rate_date
            and versioned.currency = rates.currency
            and versioned.currency <> '{{ var("reporting_currency") }}'
),

valued as (
    select
        *,
        cast(round(amount * rate, 4) as decimal(18, 4)) as net_revenue,
        cast(round(variable_cost * rate, 4) as decimal(18, 4)) as converted_cost,
        cast(round(discount * rate, 4) as decimal(18, 4)) as converted_discount
    from converted
),

final as (
    select
        order_key,
        transaction_id,
        user_id,
        user_id is null as is_guest,
        happened_at,
        activity_date,
        known_from_date,
        known_to_date,
        is_newest_version and is_newest_rate and not is_duplicate as is_current,
        is_refund,
        is_first_line,
        is_duplicate,
        sku,
        category,
        quantity,
        channel,
        country,
        currency,
        amount,
        rate,
        net_revenue,
        converted_cost as variable_cost,
        converted_discount as discount,
        {% if var('value_definition') == 'contribution_margin' -%}
            cast(net_revenue - converted_cost as decimal(18, 4))
        {%- else -%}
            net_revenue
        {%- endif %} as value,
        rate_version,
        rate_state,
        _file_id,
        _row_number
    from valued
)

select
    final.*,
    coalesce(refunds.is_refund_without_order, false) as is_refund_without_order,
    coalesce(refunds.is_refund_before_order, false) as is_refund_before_order,
    coalesce(refunds.is_refund_larger_than_order, false) as is_refund_larger_than_order,
    coalesce(refunds.is_refund_repeated, false) as is_refund_repeated,
    {{ row_state([
        'final._file_id', 'final._row_number', 'final.rate_version', 'final.user_id',
        'final.activity_date', 'final.known_from_date', 'final.known_to_date', 'final.is_refund',
        'final.is_first_line', 'final.is_duplicate', 'final.sku', 'final.category',
        'final.quantity', 'final.channel', 'final.country', 'final.value', 'final.net_revenue',
        'final.discount',
    ]) }} as row_state
from final
left join refunds
    on final._file_id = refunds._file_id and final._row_number = refunds._row_number
