{%- set windows = [7, 30, 90] -%}

-- noqa: disable=LT02
with spine as (
    {{ spine_of_this_run() }}
),

exposures as (
    {{ seen_rows('stg_campaign_exposures') }}
),

contacts as (
    select
        cutoff_date,
        customer_id,
        -- A control group is drawn, but nobody in it is contacted.
        max(activity_date) filter (where arm <> 'control') as last_exposure_date,
        count(distinct campaign_id) filter (where arm <> 'control') as count_campaigns
        {%- for days in windows %},
        count(*) filter (
            where arm <> 'control' and {{ in_window('activity_date', 'cutoff_date', days) }}
        ) as count_exposures_{{ days }}d
        {%- endfor %}
    from exposures
    group by 1, 2
),

last_arms as (
    select
        cutoff_date,
        customer_id,
        arm
    from exposures
    qualify
        row_number() over (
            partition by cutoff_date, customer_id
            order by happened_at desc, _file_id desc, _row_number desc
        ) = 1
),

clicks as (
    select
        cutoff_date,
        customer_id
        {%- for days in windows %},
        sum(delta_count_clicks) filter (
            where {{ in_window('activity_date', 'cutoff_date', days) }}
        ) as count_clicks_{{ days }}d
        {%- endfor %}
    from ({{ seen_rows('int_event_days') }}) as event_days
    group by 1, 2
),

-- A zero says that nothing happened where something could have been seen.
observed as (
    select
        cutoffs.cutoff_date,
        cutoffs.cutoff_date in ({{ cutoffs_that_saw('stg_campaign_exposures') }}) as has_exposures,
        cutoffs.cutoff_date in ({{ cutoffs_that_saw('int_event_days') }}) as has_events
    from ({{ cutoffs() }}) as cutoffs
)

select
    spine.customer_id,
    spine.cutoff_date,
    coalesce(last_arms.arm, 'none') as last_campaign_arm,
    cast({{ days_between('contacts.last_exposure_date', 'spine.cutoff_date') }} as double)
        as days_since_last_exposure,
    case
        when observed.has_exposures then cast(coalesce(contacts.count_campaigns, 0) as double)
    end as count_campaigns
    {%- for days in windows %},
    case
        when observed.has_exposures
            then cast(coalesce(contacts.count_exposures_{{ days }}d, 0) as double)
    end as count_exposures_{{ days }}d,
    case
        when observed.has_events
            then cast(coalesce(clicks.count_clicks_{{ days }}d, 0) as double)
    end as count_campaign_clicks_{{ days }}d
    {%- endfor %}
from spine
inner join observed
    on spine.cutoff_date = observed.cutoff_date
left join contacts
    on spine.cutoff_date = contacts.cutoff_date and spine.customer_id = contacts.customer_id
left join last_arms
    on spine.cutoff_date = last_arms.cutoff_date and spine.customer_id = last_arms.customer_id
left join clicks
    on spine.cutoff_date = clicks.cutoff_date and spine.customer_id = clicks.customer_id
