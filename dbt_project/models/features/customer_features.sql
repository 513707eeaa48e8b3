{%- set views = [
    'feat_rfm', 'feat_windows', 'feat_profile', 'feat_engagement', 'feat_campaigns', 'feat_basket',
    'feat_seasonality', 'feat_text',
] -%}

-- noqa: disable=RF02,LT02
with spine as (
    {{ spine_of_this_run() }}
)

select
    spine.customer_id,
    spine.cutoff_date
    {%- for view in views %},
    {{ all_but(view, ['customer_id', 'cutoff_date']) }}
    {%- endfor %}
from spine
{% for view in views -%}
    inner join {{ ref(view) }} as {{ view }}
        on
            spine.customer_id = {{ view }}.customer_id
            and spine.cutoff_date = {{ view }}.cutoff_date
            and {{ of_this_run(view ~ '.cutoff_date') }}
{% endfor %}
