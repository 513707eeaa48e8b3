with spine as (
    select
        customer_id,
        cutoff_date
    from {{ ref('customer_spine') }}
    where {{ of_this_run('cutoff_date') }}
)

select
    spine.customer_id,
    spine.cutoff_date,
    feat_rfm.* exclude (customer_id, cutoff_date), -- noqa: RF02
    feat_windows.* exclude (customer_id, cutoff_date), -- noqa: RF02
    feat_profile.* exclude (customer_id, cutoff_date), -- noqa: RF02
    feat_engagement.* exclude (customer_id, cutoff_date) -- noqa: RF02
from spine
{% for view in ['feat_rfm', 'feat_windows', 'feat_profile', 'feat_engagement'] -%}
    inner join {{ ref(view) }} as {{ view }}
        on
            spine.customer_id = {{ view }}.customer_id
            and spine.cutoff_date = {{ view }}.cutoff_date
            and {{ of_this_run(view ~ '.cutoff_date') }}
{% endfor %}
