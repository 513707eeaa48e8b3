{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ forget_changed_users('stg_transactions') }}",
) }}

{{ customer_day_deltas(
    by=['country', 'channel'],
    counts={'count_orders': '1'},
    only="is_first_line and not is_refund and (country <> 'unknown' or channel <> 'unknown')",
) }}
