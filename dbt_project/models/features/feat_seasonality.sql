{%- set before_holiday_days = 14 -%}

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

shares as (
    select
        days.cutoff_date,
        days.customer_id,
        count(*) as count_order_days,
        count(near_holidays.near_date) as count_near_holidays
        {%- for day in range(1, 8) %},
        count(*) filter (where {{ weekday('days.activity_date') }} = {{ day }})
            as count_weekday_{{ day }}
        {%- endfor %}
        {%- for month in range(1, 13) %},
        count(*) filter (where extract(month from days.activity_date) = {{ month }})
            as count_month_{{ month }}
        {%- endfor %}
    from days
    inner join spine
        on days.cutoff_date = spine.cutoff_date and days.customer_id = spine.customer_id
    left join near_holidays
        on spine.country = near_holidays.country and days.activity_date = near_holidays.near_date
    where days.count_orders > 0
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
