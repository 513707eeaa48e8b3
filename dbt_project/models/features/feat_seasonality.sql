{%- set before_holiday_days = 14 -%}

-- Whose days are read of cutoffs that hold a drawn share: depends_on: {{ ref('customer_spine') }}

-- noqa: disable=LT02
with spine as (
    select
        feat_profile.customer_id,
        feat_profile.cutoff_date,
        feat_profile.country,
        feat_rfm.std_days_between_orders,
        feat_rfm.mean_days_between_orders
    from {{ ref('feat_profile') }} as feat_profile
    inner join {{ ref('feat_rfm') }} as feat_rfm
        on
            feat_profile.customer_id = feat_rfm.customer_id
            and feat_profile.cutoff_date = feat_rfm.cutoff_date
            and {{ of_this_run('feat_rfm.cutoff_date') }}
    where {{ of_this_run('feat_profile.cutoff_date') }}
),

days as (
    {{ days_at_cutoffs() }}
),

-- Days with refunds alone have no order date.
order_days as (
    select
        cutoff_date,
        customer_id,
        case when count_orders > 0 then activity_date end as order_date
    from days
),

-- Days on which a holiday of the country is near: it, and the days before.
near_holidays as (
    select distinct
        holidays.country,
        {{ add_days('holidays.holiday_date', '-offsets.days') }} as near_date
    from {{ source('ops', 'holidays') }} as holidays
    cross join (
        {% for days in range(before_holiday_days + 1) -%}
            select cast({{ days }} as integer) as days
            {% if not loop.last %}union all{% endif %}
        {% endfor %}
    ) as offsets
),

next_holidays as (
    select
        cutoffs.cutoff_date,
        holidays.country,
        min(holidays.holiday_date) as holiday_date
    from {{ source('ops', 'holidays') }} as holidays
    inner join ({{ cutoffs() }}) as cutoffs
        on not {{ has_come('holidays.holiday_date', 'cutoffs.cutoff_date') }}
    group by 1, 2
),

order_days_near as (
    select
        order_days.cutoff_date,
        order_days.customer_id,
        near_holidays.near_date,
        order_days.order_date,
        {{ weekday('order_days.order_date') }} as weekday,
        extract(month from order_days.order_date) as month
    from order_days
    inner join spine
        on
            order_days.cutoff_date = spine.cutoff_date
            and order_days.customer_id = spine.customer_id
    left join near_holidays
        on
            spine.country = near_holidays.country
            and order_days.order_date = near_holidays.near_date
),

shares as (
    select
        cutoff_date,
        customer_id,
        nullif(count(order_date), 0) as count_order_days,
        count(near_date) as count_near_holidays
        {%- for day in range(1, 8) %},
        count(case when weekday = {{ day }} then 1 end) as count_weekday_{{ day }}
        {%- endfor %}
        {%- for month in range(1, 13) %},
        count(case when month = {{ month }} then 1 end) as count_month_{{ month }}
        {%- endfor %}
    from order_days_near
    group by 1, 2
)

select
    spine.customer_id,
    spine.cutoff_date
    {%- for day in range(1, 8) %},
    cast(shares.count_weekday_{{ day }} as double) / shares.count_order_days
        as share_orders_weekday_{{ day }}
    {%- endfor %}
    {%- for month in range(1, 13) %},
    cast(shares.count_month_{{ month }} as double) / shares.count_order_days
        as share_orders_month_{{ month }}
    {%- endfor %},
    case
        when next_holidays.holiday_date is not null
            then
                cast(shares.count_near_holidays as double) / shares.count_order_days
    end as share_orders_before_holidays,
    cast({{ days_between('spine.cutoff_date', 'next_holidays.holiday_date') }} as double)
        as days_to_next_holiday,
    spine.std_days_between_orders / nullif(spine.mean_days_between_orders, 0) as gap_variation
from spine
left join shares
    on spine.cutoff_date = shares.cutoff_date and spine.customer_id = shares.customer_id
left join next_holidays
    on spine.cutoff_date = next_holidays.cutoff_date and spine.country = next_holidays.country
