{%- set days = 365 -%}

-- noqa: disable=LT02
with spine as (
    {{ spine_of_this_run() }}
),

first_day_items as (
    {{ rows_of_day(
        'min', 'int_customer_day_items', 'count_lines', ['revenue'], by=['sku', 'category']
    ) }}
),

first_items as (
    select
        cutoff_date,
        customer_id,
        sku,
        category
    from first_day_items
    qualify
        row_number() over (
            partition by cutoff_date, customer_id
            order by
                count_lines > 0 desc, revenue desc, sku asc nulls last, category asc nulls last
        ) = 1
),

recent as (
    {{ known_days(
        'int_customer_day_items',
        ['count_lines', 'count_returned_lines'],
        ['quantity', 'revenue', 'discountable_revenue', 'discount'],
        by=['sku', 'category'],
        window_days=days,
    ) }}
),

-- A kind is a category, or the article where none is named; what has neither is of no kind.
kinds as (
    select
        cutoff_date,
        customer_id,
        coalesce(category, sku) as kind,
        count(category) > 0 as is_category,
        sum(count_lines) as count_lines,
        sum(count_returned_lines) as count_returned_lines,
        sum(quantity) as quantity,
        sum(revenue) as revenue,
        sum(discountable_revenue) as discountable_revenue,
        sum(discount) as discount
    from recent
    group by 1, 2, 3
),

{% if drawn_cutoffs() -%}
    -- Prices are those of everybody, whoever was drawn.
    shop_kinds as (
        select
            cutoff_date,
            customer_id,
            coalesce(category, sku) as kind,
            sum(count_lines) as count_lines,
            sum(quantity) as quantity,
            sum(revenue) as revenue
        from (
            {{ known_days(
                'int_customer_day_items',
                ['count_lines'],
                ['quantity', 'revenue'],
                by=['sku', 'category'],
                window_days=days,
                of_all=true,
            ) }}
        ) as items
        group by 1, 2, 3
    ),

{% endif -%}
-- What a piece of a kind costs in the shop.
prices as (
    select
        cutoff_date,
        kind,
        cast(sum(revenue) as double) / nullif(cast(sum(quantity) as double), 0) as price
    from {{ 'shop_kinds' if drawn_cutoffs() else 'kinds' }}
    where kind is not null and count_lines > 0
    group by 1, 2
),

top_kinds as (
    select *
    from kinds
    where is_category and count_lines > 0
    qualify
        row_number() over (
            partition by cutoff_date, customer_id
            order by count_lines desc, revenue desc, kind asc
        ) = 1
),

baskets as (
    select
        kinds.cutoff_date,
        kinds.customer_id,
        count(case when kinds.is_category and kinds.count_lines > 0 then 1 end) as count_categories,
        cast(
            sum(case when kinds.kind is not null then kinds.count_lines * kinds.count_lines end)
            as double
        ) / nullif(power(sum(case when kinds.kind is not null then kinds.count_lines end), 2), 0)
            as concentration,
        max(
            case
                when kinds.kind is not null
                    then
                        cast(kinds.count_returned_lines as double) / nullif(kinds.count_lines, 0)
            end
        ) as max_category_return_ratio,
        {{ rounded(
            'cast(sum(case when prices.price > 0 then kinds.revenue end) as double) / nullif('
            'sum(case when prices.price > 0 then cast(kinds.quantity as double) * prices.price end)'
            ', 0)',
            6
        ) }} as price_level,
        cast(sum(case when kinds.kind is not null then kinds.revenue end) as double)
        / nullif(cast(sum(case when kinds.kind is not null then kinds.quantity end) as double), 0)
            as mean_item_price,
        cast(sum(case when kinds.kind is not null then kinds.count_returned_lines end) as double)
        / nullif(sum(case when kinds.kind is not null then kinds.count_lines end), 0)
            as return_ratio,
        cast(sum(kinds.discount) as double)
        / nullif(cast(sum(kinds.discount) + sum(kinds.discountable_revenue) as double), 0)
            as share_discounted
    from kinds
    left join prices
        on kinds.cutoff_date = prices.cutoff_date and kinds.kind = prices.kind
    group by 1, 2
),

-- Numbers are compared for less than names.
categories as (
    select
        category,
        cast(row_number() over (order by category) as integer) as category_number
    from {{ ref('int_customer_day_items') }}
    where category is not null
    group by 1
),

category_days as (
    select
        bought.cutoff_date,
        bought.customer_id,
        bought.activity_date,
        min(categories.category_number) <> max(categories.category_number) as is_mixed
    from (
        {{ known_days(
            'int_customer_day_items', ['count_lines'], by=['category'], window_days=days
        ) }}
    ) as bought
    inner join categories
        on bought.category = categories.category
    where bought.count_lines > 0
    group by 1, 2, 3
),

breadths as (
    select
        cutoff_date,
        customer_id,
        cast(count(case when is_mixed then 1 end) as double) / count(*)
            as share_mixed_order_days
    from category_days
    group by 1, 2
)

select
    spine.customer_id,
    spine.cutoff_date,
    coalesce(first_items.category, 'unknown') as first_category,
    coalesce(first_items.sku, 'unknown') as first_sku,
    coalesce(top_kinds.kind, 'unknown') as top_category_{{ days }}d,
    case
        when first_items.category is not null or baskets.count_categories > 0
            then cast(coalesce(baskets.count_categories, 0) as double)
    end as count_categories_{{ days }}d,
    baskets.concentration as basket_concentration_{{ days }}d,
    breadths.share_mixed_order_days as share_mixed_category_days_{{ days }}d,
    case when baskets.share_discounted between 0 and 1 then baskets.share_discounted end
        as share_discounted_{{ days }}d,
    baskets.return_ratio as return_ratio_{{ days }}d,
    cast(top_kinds.count_returned_lines as double) / nullif(top_kinds.count_lines, 0)
        as top_category_return_ratio_{{ days }}d,
    baskets.max_category_return_ratio as max_category_return_ratio_{{ days }}d,
    baskets.mean_item_price as mean_item_price_{{ days }}d,
    baskets.price_level as price_level_{{ days }}d
from spine
left join first_items
    on spine.cutoff_date = first_items.cutoff_date and spine.customer_id = first_items.customer_id
left join top_kinds
    on spine.cutoff_date = top_kinds.cutoff_date and spine.customer_id = top_kinds.customer_id
left join baskets
    on spine.cutoff_date = baskets.cutoff_date and spine.customer_id = baskets.customer_id
left join breadths
    on spine.cutoff_date = breadths.cutoff_date and spine.customer_id = breadths.customer_id
