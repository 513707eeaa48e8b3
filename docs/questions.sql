-- Questions that an analyst asks, answered by the published tables.
-- Open them with:  clv sql "..."   or any DuckDB client:  published/clv.duckdb (read-only).
-- They name the horizons of 30, 90, 180 and 365 days: where value.horizons in clv.toml are others,
-- write yours instead.

-- name: who_are_our_best_customers
-- What are the twenty most valuable customers worth over the next year, and how sure are we?
select
    customer_id,
    clv_rank,
    round(clv_365d, 2) as clv_365d,
    round(clv_365d_p10, 2) as at_least,
    round(clv_365d_p90, 2) as at_most,
    segment,
    confidence
from clv.customer_clv
order by clv_rank
limit 20;

-- name: how_much_will_come_in
-- How much value do we expect from today's customers over each horizon?
select
    cutoff_date,
    count(*) as count_customers,
    round(sum(clv_30d)) as next_30_days,
    round(sum(clv_90d)) as next_90_days,
    round(sum(clv_180d)) as next_180_days,
    round(sum(clv_365d)) as next_365_days
from clv.customer_clv
group by cutoff_date;

-- name: whom_do_we_lose
-- Which customers of high value are about to be lost?
select
    customer_id,
    round(historic_value, 2) as historic_value,
    round(clv_365d, 2) as clv_365d,
    round(churn_probability, 3) as churn_probability,
    days_since_last_order,
    round(days_between_orders, 1) as days_between_orders
from clv.customer_clv
where value_tier in ('top', 'high') and churn_probability > 0.5
order by clv_365d desc, customer_id
limit 20;

-- name: how_concentrated_is_value
-- What share of the expected value do the best 10 % and 20 % of customers bring?
with ranked as (
    select
        clv_365d,
        clv_rank / count(*) over () as share_of_customers
    from clv.customer_clv
)

select
    round(sum(clv_365d) filter (where share_of_customers <= 0.1) / sum(clv_365d), 3) as share_top_10,
    round(sum(clv_365d) filter (where share_of_customers <= 0.2) / sum(clv_365d), 3) as share_top_20
from ranked;

-- name: what_are_the_segments_worth
-- What is each segment worth, and what should we do about it?
select
    segment,
    count_customers,
    round(sum_clv_365d) as sum_clv_365d,
    round(share_of_value, 3) as share_clv,
    round(mean_churn_probability, 3) as mean_churn_probability,
    what_to_do
from clv.segment_profile
order by sum_clv_365d desc;

-- name: who_orders_next
-- Which active customers are expected to order within the next two weeks?
select
    customer_id,
    expected_next_order_date,
    round(probability_purchase_30d, 3) as probability_purchase_30d,
    round(clv_30d, 2) as clv_30d
from clv.customer_clv
where expected_next_order_date <= cutoff_date + interval 14 day
order by expected_next_order_date, clv_rank
limit 20;

-- name: does_the_past_tell
-- How do value tiers differ in what they brought and in what they will bring?
select
    value_tier,
    count(*) as count_customers,
    round(avg(historic_value), 2) as mean_historic_value,
    round(avg(clv_365d), 2) as mean_clv_365d,
    round(avg(total_value), 2) as mean_total_value,
    round(avg(loyalty_score), 1) as mean_loyalty_score
from clv.customer_clv
group by value_tier
order by mean_clv_365d desc;

-- name: who_moved
-- Who changed segment between the last two cutoffs?
with numbered as (
    select
        customer_id,
        cutoff_date,
        segment,
        dense_rank() over (order by cutoff_date desc) as age
    from clv.customer_clv_history
)

select
    before.segment as from_segment,
    now.segment as to_segment,
    count(*) as count_customers
from numbered as now
inner join numbered as before on now.customer_id = before.customer_id and before.age = 2
where now.age = 1 and now.segment <> before.segment
group by all
order by count_customers desc, from_segment, to_segment;

-- name: can_we_trust_it
-- How good is the model that serves, beside the simple rules?
select
    horizon_days,
    evaluation_date,
    model,
    is_champion,
    round(normalized_gini, 3) as normalized_gini,
    round(spearman, 3) as spearman,
    round(rmse, 2) as rmse,
    round(total_bias, 3) as total_bias,
    round(top_10_capture, 3) as top_10_capture
from clv.model_leaderboard
where model_version in (select m.model_version from clv.model_leaderboard as m where m.is_champion)
order by horizon_days, evaluation_date desc, normalized_gini desc, model;

-- name: was_anything_wrong
-- How fresh are the tables, what came in, what was set aside, and which checks did not pass?
select
    run.cutoff_date,
    run.status,
    run.count_rows_in,
    run.count_rows_kept,
    run.count_rows_guest,
    run.count_rows_quarantined,
    (
        select count(*) from clv.data_quality as checked
        where checked.run_id = run.run_id and not checked.is_passed
    ) as count_checks_not_passed
from clv.pipeline_runs as run
order by run.started_at desc
limit 10;

-- name: is_it_better_beyond_noise
-- Against which models is what serves better beyond noise, and by how much?
select
    horizon_days,
    model,
    other_model,
    round(advantage, 4) as advantage,
    round(advantage_low, 4) as at_least,
    round(advantage_high, 4) as at_most,
    count_cutoffs_better || ' of ' || count_cutoffs as cutoffs_better,
    verdict
from clv.model_comparisons
where
    measure = 'normalized_gini'
    and model_version in (select m.model_version from clv.model_leaderboard as m where m.is_champion)
order by horizon_days, advantage desc;

-- name: what_drives_the_models_that_no_shap_explains
-- What do the support vector machine and the networks look at, and how well is that known?
select
    model,
    horizon_days,
    driver,
    direction,
    round(share, 2) as share,
    round(fidelity, 2) as fidelity
from clv.model_effects
where
    driver_rank <= 3
    and model_version in (select m.model_version from clv.model_leaderboard as m where m.is_champion)
qualify dense_rank() over (partition by model, horizon_days order by evaluation_date desc) = 1
order by model, horizon_days, driver_rank;

-- name: where_is_it_too_high_or_too_low
-- Is what serves calibrated, from the lowest tenth of the predictions to the highest?
select
    calibrated.horizon_days,
    calibrated.bin,
    round(avg(calibrated.mean_predicted), 2) as mean_predicted,
    round(avg(calibrated.mean_actual), 2) as mean_actual
from clv.calibration as calibrated
inner join clv.model_leaderboard as board
    on
        calibrated.model = board.model
        and calibrated.horizon_days = board.horizon_days
        and calibrated.evaluation_date = board.evaluation_date
        and calibrated.model_version = board.model_version
where board.is_champion and calibrated.target = 'value'
group by calibrated.horizon_days, calibrated.bin
order by calibrated.horizon_days, calibrated.bin;

-- name: what_is_it_worth_in_money
-- What would a budget that reaches 100 customers earn, by the model that chooses them?
select
    horizon_days,
    model,
    round(avg(figure)) as profit_at_100,
    round(max(spread_over_cutoffs)) as spread_over_cutoffs,
    max(count_cutoffs) as count_cutoffs
from clv.backtest_metrics
where
    measure = 'profit_at_100'
    and slice_name = 'all'
    and model_version in (select m.model_version from clv.model_leaderboard as m where m.is_champion)
group by horizon_days, model
order by horizon_days, profit_at_100 desc;

-- name: what_drives_the_values
-- What drives the values over the longest horizon, and in which direction?
select
    segment,
    driver_rank,
    driver,
    direction,
    round(mean_absolute_effect, 2) as mean_absolute_effect,
    round(share, 3) as share_of_effects
from clv.feature_effects
where
    level = 'concept'
    and cutoff_date = (select max(f.cutoff_date) from clv.feature_effects as f)
    and horizon_days = (
        select max(f.horizon_days) from clv.feature_effects as f
        where f.cutoff_date = feature_effects.cutoff_date
    )
order by segment, driver_rank;

-- name: how_did_it_turn_out
-- How did earlier predictions turn out, once their label had matured?
select
    horizon_days,
    cutoff_date,
    cohort,
    round(sum_predicted) as sum_predicted,
    round(sum_actual) as sum_actual,
    known_through_date,
    round(total_bias, 3) as total_bias,
    round(coverage_80, 3) as coverage_80,
    round(normalized_gini, 3) as normalized_gini
from clv.matured_predictions
order by horizon_days, cutoff_date desc, cohort;
