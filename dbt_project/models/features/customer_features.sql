{%- set views = [
    'feat_rfm', 'feat_windows', 'feat_profile', 'feat_engagement', 'feat_campaigns', 'feat_basket',
    'feat_seasonality', 'feat_text',
] -%}
{%- set first = views[0] -%}

-- noqa: disable=RF02,LT02
select
    {{ first }}.customer_id,
    {{ first }}.cutoff_date
    {%- for view in views %},
    {{ all_but(view, ['customer_id', 'cutoff_date']) }}
    {%- endfor %}
from {{ ref(first) }} as {{ first }}
{% for view in views[1:] -%}
    inner join {{ ref(view) }} as {{ view }}
        on
            {{ first }}.customer_id = {{ view }}.customer_id
            and {{ first }}.cutoff_date = {{ view }}.cutoff_date
            and {{ of_this_run(view ~ '.cutoff_date') }}
{% endfor -%}
where {{ of_this_run(first ~ '.cutoff_date') }}
