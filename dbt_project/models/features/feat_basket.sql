{%- set days = 365 -%}

-- noqa: disable=LT02
with spine as (
    {{ spine_of_this_run() }}
),

-- The first day is the one of the earliest line, unless lines were taken back.
first_days as (
    select
        cutoff_date,
        customer_id,
        min(activity_date) filter (where delta_count_lines > 0) as first_date,
        min(delta_count_lines) < 0 as has_lost_lines
    from ({{ seen_rows('int_customer_day_items') }}) as seen
    group by 1, 2
),

-- Lines of a day as known at the cutoff.
first_day_items as (
    select
        seen.cutoff_date,
        seen.customer_id,
        seen.activity_date,
        seen.sku,
        seen.category,
        sum(seen.delta_revenue) as revenue
    from ({{ seen_rows('int_customer_day_items') }}) as seen
    inner join first_days
        on
            seen.cutoff_date = first_days.cutoff_date
            and seen.customer_id = first_days.customer_id
            and (first_days.has_lost_lines or seen.activity_date = first_days.first_date)
    group by 1, 2, 3, 4, 5
    having sum(seen.delta_count_lines) > 0
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
                activity_date asc, revenue desc, sku asc nulls last, category asc nulls last
        ) = 1
),

-- A kind is a category, or the article where none is named.
recent as (
    select
        cutoff_date,
        customer_id,
        activity_date,
        category,
        sku,
        coalesce(category, sku) as kind,
        sum(delta_count_lines) as count_lines,
        sum(delta_count_returned_lines) as count_returned_lines,
        sum(delta_quantity) as quantity,
        sum(delta_revenue) as revenue,
        sum(delta_discountable_revenue) as discountable_revenue,
        sum(delta_discount) as discount
    from ({{ seen_rows('int_customer_day_items') }}) as seen
    where {{ in_window('activity_date', 'cutoff_date', days) }}
    group by 1, 2, 3, 4, 5
),

kinds as (
    select
        cutoff_date,
        customer_id,
        kind,
        max(category) as category,
        sum(count_lines) as count_lines,
        sum(count_returned_lines) as count_returned_lines,
        sum(quantity) as quantity,
        sum(revenue) as revenue
    from recent
    where kind is not null
    group by 1, 2, 3
),

-- What a piece of a kind costs in the shop.
prices as (
    select
        cutoff_date,
        kind,
        cast(sum(revenue) as double) / nullif(cast(sum(quantity) as double), 0) as price
    from kinds
    where count_lines > 0
    group by 1, 2
),

top_kinds as (
    select *
    from kinds
    where category is not null and count_lines > 0
    qualify
        row_number() over (
            partition by cutoff_date, customer_id
            order by count_lines desc, revenue desc, category asc
        ) = 1
),

baskets as (
    select
        kinds.cutoff_date,
        kinds.customer_id,
        count(kinds.category) filter (where kinds.count_lines > 0) as count_categories,
        cast(sum(kinds.count_lines * kinds.count_lines) as double)
        / nullif(power(sum(kinds.count_lines), 2), 0) as concentration,
        max(cast(kinds.count_returned_lines as double) / nullif(kinds.count_lines, 0))
            as max_category_return_ratio,
        {{ rounded(
            'cast(sum(kinds.revenue) filter (where prices.price > 0) as double) '
            '/ nullif(sum(cast(kinds.quantity as double) * prices.price), 0)',
            6
        ) }} as price_level
    from kinds
    left join prices
        on kinds.cutoff_date = prices.cutoff_date and kinds.kind = prices.kind
    group by 1, 2
),

item_totals as (
    select
        cutoff_date,
        customer_id,
        cast(sum(revenue) as double) / nullif(cast(sum(quantity) as double), 0) as mean_item_price,
        cast(sum(count_returned_lines) as double) / nullif(sum(count_lines), 0) as return_ratio,
        cast(sum(discount) as double)
        / nullif(cast(sum(discount) + sum(discountable_revenue) as double), 0) as share_discounted
    from recent
    group by 1, 2
),

category_days as (
    select
        cutoff_date,
        customer_id,
        activity_date,
        count(distinct category) as count_categories
    from recent
    where category is not null and count_lines > 0
    group by 1, 2, 3
),

breadths as (
    select
        cutoff_date,
        customer_id,
        cast(count(*) filter (where count_categories > 1) as double) / count(*)
            as share_mixed_order_days
    from category_days
    group by 1, 2
)

select
    spine.customer_id,
    spine.cutoff_date,
    coalesce(first_items.category, 'unknown') as first_category,
    coalesce(first_items.sku, 'unknown') as first_sku,
    coalesce(top_kinds.category, 'unknown') as top_category_{{ days }}d,
    case
        when first_items.category is not null or baskets.count_categories > 0
            then cast(coalesce(baskets.count_categories, 0) as double)
    end as count_categories_{{ days }}d,
    baskets.concentration as basket_concentration_{{ days }}d,
    breadths.share_mixed_order_days as share_mixed_category_days_{{ days }}d,
    case when item_totals.share_discounted between 0 and 1 then item_totals.share_discounted end
        as share_discounted_{{ days }}d,
    item_totals.return_ratio as return_ratio_{{ days }}d,
    cast(top_kinds.count_returned_lines as double) / nullif(top_kinds.count_lines, 0)
        as top_category_return_ratio_{{ days }}d,
    baskets.max_category_return_ratio as max_category_return_ratio_{{ days }}d,
    item_totals.mean_item_price as mean_item_price_{{ days }}d,
    baskets.price_level as price_level_{{ days }}d
from spine
left join first_items
    on spine.cutoff_date = first_items.cutoff_date and spine.customer_id = first_items.customer_id
left join top_kinds
    on spine.cutoff_date = top_kinds.cutoff_date and spine.customer_id = top_kinds.customer_id
left join baskets
    on spine.cutoff_date = baskets.cutoff_date and spine.customer_id = baskets.customer_id
left join item_totals
    on spine.cutoff_date = item_totals.cutoff_date and spine.customer_id = item_totals.customer_id
left join breadths
    on spine.cutoff_date = breadths.cutoff_date and spine.customer_id = breadths.customer_id
