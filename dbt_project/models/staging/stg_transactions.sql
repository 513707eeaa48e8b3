{{ config(
    materialized=incrementally(),
    incremental_strategy='append',
    pre_hook=before_staging(),
    post_hook=after_staging(),
) }}

{%- set slices = order_slices() -%}
{%- set line_columns = [
    'order_key', 'transaction_id', 'user_id', 'sku', 'discount', 'category', '_file_id',
    '_row_number', 'happened_at', 'is_refund', 'amount', 'variable_cost', 'currency', 'quantity',
    'channel', 'country', 'activity_date',
] -%}
{%- set flags = [
    'is_refund_without_order', 'is_refund_before_order', 'is_refund_larger_than_order',
    'is_refund_repeated',
] %}

-- noqa: disable=LT02
-- Orders of more than one line. Only they can have versions, refunds and duplicates, so that what
-- tells these apart need not look at the others, which in most shops are nearly all.
with compound as (
    select landed.order_state
    from ({{ landed_rows() }}) as landed
    where landed.transaction_id is not null and {{ of_first_slice(slices) }}
    group by 1
    having count(*) > 1
),

single_lines as (
    {{ transaction_lines(slices) }}
        and not exists (
            select 1 from compound
            where compound.order_state = landed.order_state
        )
),

lines as (
    select
        *,
        case when is_refund then happened_at end as refunded_at,
        {% if var('transaction_grain') == 'order' -%}
            row_number() over (
                partition by _file_id, order_key, content
                order by _row_number
            ) > 1
        {%- else -%}
            false
        {%- endif %} as is_duplicate
    from (
        {{ transaction_lines(slices) }}
            and exists (
                select 1 from compound
                where compound.order_state = landed.order_state
            )
    ) as compound_lines
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
        min(version_known_date) over newer as superseded_date
    from versions
    window newer_first as (
        partition by order_key, is_refund, refunded_at
        order by ingested_at desc nulls last, _file_id desc
    ),
    newer as (
        partition by order_key, is_refund, refunded_at
        order by ingested_at desc nulls last, _file_id desc
        rows between unbounded preceding and 1 preceding
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

known_lines as (
    select
        {{ line_columns | join(', ') }},
        true as is_newest_version,
        coalesce(ingested_date, activity_date) as version_known_date,
        cast(null as date) as superseded_date,
        true as is_first_line,
        false as is_duplicate,
        is_refund as is_refund_without_order,
        false as is_refund_before_order,
        false as is_refund_larger_than_order,
        false as is_refund_repeated
    from single_lines
    union all
    select
        versioned.{{ line_columns | join(', versioned.') }},
        versioned.is_newest_version,
        versioned.version_known_date,
        versioned.superseded_date,
        versioned.is_first_line,
        versioned.is_duplicate
        {%- for flag in flags %},
        coalesce(refunds.{{ flag }}, false) as {{ flag }}
        {%- endfor %}
    from versioned
    left join refunds
        on versioned._file_id = refunds._file_id and versioned._row_number = refunds._row_number
),

converted as (
    select
        lines.*,
        coalesce(rates.rate_version, 1) as rate_version,
        rates.known_to_date is null as is_newest_rate,
        case
            when lines.currency = '{{ var("reporting_currency") }}' then 1.0
            else rates.rate
        end as rate,
        {{ latest(['lines.activity_date', 'lines.version_known_date', 'rates.known_from_date']) }}
            as known_from_date,
        {{ earliest(['lines.superseded_date', 'rates.known_to_date']) }} as known_to_date
    from known_lines as lines
    left join {{ ref('stg_exchange_rates') }} as rates
        on
            lines.activity_date = rates.rate_date
            and lines.currency = rates.currency
            and lines.currency <> '{{ var("reporting_currency") }}'
),

valued as (
    select
        *,
        cast({{ rounded('amount * rate', 4) }} as decimal(18, 4)) as net_revenue,
        cast({{ rounded('variable_cost * rate', 4) }} as decimal(18, 4)) as converted_cost,
        cast({{ rounded('discount * rate', 4) }} as decimal(18, 4)) as converted_discount
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
        _file_id,
        _row_number
        {%- for flag in flags %},
        {{ flag }}
        {%- endfor %}
    from valued
)

select * from final
