{{ config(
    materialized=incrementally(),
    incremental_strategy='append',
    pre_hook=before_days(),
    post_hook=after_days(),
) }}

{{ customer_day_deltas(
    by=['sku', 'category'],
    counts={
        'count_lines': 'case when not is_refund then 1 end',
        'count_returned_lines': 'case when is_refund then 1 end',
    },
    amounts={
        'quantity': 'case when not is_refund then quantity end',
        'revenue': 'case when not is_refund then net_revenue end',
        'returned_revenue': 'case when is_refund then -net_revenue end',
        'discountable_revenue':
            'case when not is_refund and discount is not null then net_revenue end',
        'discount': 'case when not is_refund then discount end',
    },
    only='(sku is not null or category is not null or discount is not null)',
) }}
