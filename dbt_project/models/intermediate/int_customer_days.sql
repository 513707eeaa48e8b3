{{ config(
    materialized=incrementally(),
    incremental_strategy='append',
    pre_hook=before_days(),
    post_hook=after_days(),
) }}

{{ customer_day_deltas(
    counts={
        'count_orders': 'case when is_first_line and not is_refund then 1 end',
        'count_refunds': 'case when is_first_line and is_refund then 1 end',
    },
    amounts={
        'value': 'value',
        'refunds': 'case when is_refund then -value end',
    },
) }}
