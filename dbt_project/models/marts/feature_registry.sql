-- noqa: disable=LT02,AL05
-- Written from the yml beside the feat_* models; nothing is said twice.
{%- set entries = [] -%}
{%- if execute -%}
    {%- for node in graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') -%}
        {%- if node.name.startswith('feat_') -%}
            {%- for column in node.columns.values() -%}
                {%- set entry = column.config.meta.get('feature') -%}
                {%- if entry -%}
                    {%- do entries.append((node.name, column, entry)) -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endfor -%}
{%- endif %}

select
    cast(feature_name as varchar) as feature_name,
    cast(feature_view as varchar) as feature_view,
    cast(entity as varchar) as entity,
    cast(owner as varchar) as owner,
    cast(version as integer) as version,
    cast(kind as varchar) as kind,
    cast(data_type as varchar) as data_type,
    cast(description as varchar) as description,
    cast(window_days as integer) as window_days,
    cast(minimum as double) as minimum,
    cast(maximum as double) as maximum,
    cast(null_meaning as varchar) as null_meaning,
    cast(tags as varchar) as tags,
    cast(inputs as varchar) as inputs,
    cast(is_model_input as boolean) as is_model_input,
    cast('{{ var("run_id") }}' as varchar) as run_id,
    {{ data_through() }} as cutoff_date
from (
    values
    {%- for view, column, entry in entries %}
        (
            {{ text_or_null(column.name) }}, '{{ view }}', {{ text_or_null(entry.entity) }},
            {{ text_or_null(entry.owner) }}, {{ entry.version }}, '{{ entry.kind }}',
            '{{ column.data_type }}', {{ text_or_null(column.description) }},
            {{ number_or_null(entry.get('window_days')) }}, {{ number_or_null(entry.get('min')) }},
            {{ number_or_null(entry.get('max')) }}, {{ text_or_null(entry.get('null_meaning')) }},
            {{ text_or_null(entry.get('tags', []) | sort | join(', ')) }},
            {{ text_or_null(entry.get('inputs', []) | join(', ')) }},
            {{ entry.get('input', true) }}
        ){{ ',' if not loop.last }}
    {%- else %}
        (
            null, null, null, null, null, null, null, null, null, null, null, null, null, null,
            null
        )
    {%- endfor %}
) as entries (
    feature_name, feature_view, entity, owner, version, kind, data_type, description, window_days,
    minimum, maximum, null_meaning, tags, inputs, is_model_input
)
where feature_name is not null
