-- noqa: disable=LT02
with horizons as (
    {% for days in (var('horizons') + var('auxiliary_horizons')) | unique -%}
        select cast({{ days }} as integer) as horizon_days
        {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

windows as (
    select
        cutoffs.cutoff_date,
        horizons.horizon_days
    from ({{ cutoffs() }}) as cutoffs
    cross join horizons
    where {{ is_matured('cutoffs.cutoff_date', 'horizons.horizon_days', data_through()) }}
),

spine as (
    select
        customer_id,
        cutoff_date
    from {{ ref('customer_spine') }}
    where cutoff_date in (select windows.cutoff_date from windows)
),

-- Accounts belong to whom they belonged at the cutoff: later merges move no label.
labelled as (
    {%- for part in parts_of_draw() %}
    select
        windows.cutoff_date,
        windows.horizon_days,
        coalesce(owners.customer_id, days.user_id) as customer_id,
        min(days.activity_date) as first_label_activity_date,
        max(days.activity_date) as last_label_activity_date,
        sum(days.delta_value) as label_value,
        sum(days.delta_count_orders) as label_orders
    from {{ rows_of_part('int_customer_days', part) }} as days
    inner join windows
        on {{ labelled_by(
            'days.activity_date',
            'days.known_date',
            'windows.cutoff_date',
            'windows.horizon_days',
            data_through(),
        ) }}
        and {{ is_of_part('windows.cutoff_date', part) }}
    {{ join_owners('days.user_id', 'windows.cutoff_date') }}
    group by 1, 2, 3
    {% if not loop.last %}union all{% endif %}
    {%- endfor %}
)

select
    spine.customer_id,
    spine.cutoff_date,
    windows.horizon_days,
    {{ add_days('spine.cutoff_date', 1) }} as label_start_date,
    {{ add_days('spine.cutoff_date', 'windows.horizon_days') }} as label_end_date,
    labelled.first_label_activity_date,
    labelled.last_label_activity_date,
    cast(coalesce(labelled.label_value, 0) as double) as label_value,
    cast(coalesce(labelled.label_orders, 0) as bigint) as label_orders,
    coalesce(labelled.label_orders, 0) > 0 as has_purchase
from spine
inner join windows
    on spine.cutoff_date = windows.cutoff_date
left join labelled
    on
        spine.customer_id = labelled.customer_id
        and windows.cutoff_date = labelled.cutoff_date
        and windows.horizon_days = labelled.horizon_days
