{{ config(
    materialized=incrementally(),
    incremental_strategy='append',
    pre_hook=before_days(),
    post_hook=after_days(),
) }}

{{ customer_day_deltas(
    by=['country', 'channel'],
    counts={'count_orders': '1'},
    only="is_first_line and not is_refund and (country <> 'unknown' or channel <> 'unknown')",
) }}
