{# Incremental by user, for tables that compare a user's rows with each other: a user's rows are
   rewritten when, and only when, what they are made of changed. No watermark: whatever interrupted
   or repeated run came before, the next one is right. #}

{# What each user's rows are made of now, as one number. #}
{% macro user_states(relation) -%}
    select
        user_id,
        {{ set_state('row_state') }} as user_state
    from {{ relation }}
    where user_id is not null
    group by 1
{%- endmacro %}

{# Before: drop the rows of users who changed. Same transaction. #}
{% macro forget_changed_users(model_name) -%}
    {% if is_incremental() -%}
        delete from {{ this }}
        where user_id in (
            select held.user_id
            from (select distinct user_id, user_state from {{ this }}) as held
            left join ({{ user_states(ref(model_name)) }}) as current_states
                on held.user_id = current_states.user_id
            where current_states.user_state is distinct from held.user_state
        )
    {%- endif %}
{%- endmacro %}

{# Then: read the rows of users who are not held. #}
{% macro only_new_users(alias) -%}
    {% if is_incremental() -%}
        not exists (select 1 from {{ this }} as held where held.user_id = {{ alias }}.user_id)
    {%- else -%}
        true
    {%- endif %}
{%- endmacro %}
