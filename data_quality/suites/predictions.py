"""Gate 'predictions': is what the champion says possible, ordered, and of the right size?"""

from __future__ import annotations

from data_quality.rules import Rule, Suite, each_row, one_row_per
from data_quality.suites.run import Run

# Below so many customers the same answer for all of them can be right.
MIN_CUSTOMERS_TO_DIFFER = 20
MIN_DISTINCT = 10
MIN_CUSTOMERS_FOR_DISTINCT = 1000
# Values are sums of DOUBLE: what is equal may differ in the last digits.
TOLERANCE = 1e-6
_MEASURES = (
    "clv",
    "clv_p10",
    "clv_p50",
    "clv_p90",
    "clv_low_80",
    "clv_high_80",
    "clv_low_95",
    "clv_high_95",
    "probability_purchase",
    "expected_orders",
)
_PREDICTIONS = "scores.customer_predictions"
_SPINE = "as_of.customer_spine"


def suites(run: Run) -> list[Suite]:
    """List the suites of the gate."""
    return [
        predictions(run),
        coverage(run),
        *(total(run, horizon) for horizon in run.settings.value.horizons),
        spread(run),
    ]


def predictions(run: Run) -> Suite:
    """Make the suite of single predictions: finite, in range, ordered by quantile and horizon."""
    previous = "OVER (PARTITION BY customer_id ORDER BY horizon_days)"
    source = f"""(
        SELECT
            *,
            lag(clv) {previous} AS shorter_clv,
            lag(probability_purchase) {previous} AS shorter_probability,
            lag(expected_orders) {previous} AS shorter_orders,
            {_can_be_negative(run)} AS can_be_negative
        FROM {_PREDICTIONS} WHERE cutoff_date = $cutoff
    )"""
    finite = [
        each_row("finite", f"isfinite({name})", f"have no finite {name}", name)
        for name in _MEASURES
    ]
    return Suite(
        table=_PREDICTIONS,
        source=source,
        rules=(
            *finite,
            one_row_per(source, ("customer_id", "horizon_days"), "customer_id"),
            each_row(
                "quantiles_ordered",
                f"clv_p10 <= clv_p50 + {TOLERANCE} AND clv_p50 <= clv_p90 + {TOLERANCE}",
                "do not have P10 <= P50 <= P90",
                "clv_p50",
            ),
            each_row(
                "intervals_nested",
                f"clv_low_95 <= clv_low_80 + {TOLERANCE} "
                f"AND clv_low_80 <= clv_high_80 + {TOLERANCE} "
                f"AND clv_high_80 <= clv_high_95 + {TOLERANCE}",
                "do not have the interval of 80 % within that of 95 %",
                "clv_low_80",
            ),
            each_row(
                "monotone_in_horizon",
                f"can_be_negative OR shorter_clv IS NULL OR shorter_clv <= clv + {TOLERANCE}",
                "say less value over a longer horizon, although no value is negative",
                "clv",
            ),
            each_row(
                "not_negative",
                f"can_be_negative OR clv >= -{TOLERANCE}",
                "say a negative value, although no value is negative",
                "clv",
            ),
            each_row(
                "is_probability",
                "probability_purchase BETWEEN 0 AND 1",
                "have a probability outside of 0 to 1",
                "probability_purchase",
            ),
            each_row(
                "monotone_in_horizon",
                "shorter_probability IS NULL "
                f"OR shorter_probability <= probability_purchase + {TOLERANCE}",
                "say a smaller probability over a longer horizon",
                "probability_purchase",
            ),
            each_row(
                "monotone_in_horizon",
                f"shorter_orders IS NULL OR shorter_orders <= expected_orders + {TOLERANCE}",
                "say fewer orders over a longer horizon",
                "expected_orders",
            ),
            each_row(
                "not_negative",
                "expected_orders >= 0",
                "say fewer than no orders",
                "expected_orders",
            ),
            Rule(
                "one_run",
                "count(DISTINCT (run_id, model_version))",
                "rows come from {observed} runs or models instead of one",
                column="run_id",
                minimum=1,
                maximum=1,
            ),
        ),
        key="customer_id",
        needs=(_PREDICTIONS, "raw.transactions"),
        parameters=run.parameters,
    )


def coverage(run: Run) -> Suite:
    """Make the suite of who is predicted: each customer of the spine over each horizon."""
    horizons = ", ".join(f"({int(h)})" for h in run.settings.value.horizons)
    source = f"""(
        SELECT
            coalesce(asked.customer_id, said.customer_id) AS customer_id,
            asked.customer_id IS NOT NULL AS is_asked,
            said.customer_id IS NOT NULL AS is_said
        FROM (
            SELECT customer_id, horizon_days FROM {_SPINE}, (VALUES {horizons}) AS h(horizon_days)
            WHERE cutoff_date = $cutoff
        ) AS asked
        FULL JOIN (
            SELECT customer_id, horizon_days FROM {_PREDICTIONS} WHERE cutoff_date = $cutoff
        ) AS said
            ON said.customer_id = asked.customer_id AND said.horizon_days = asked.horizon_days
    )"""
    return Suite(
        table=_PREDICTIONS,
        source=source,
        rules=(
            Rule("volume", "count(*)", "nobody is predicted", minimum=1),
            each_row(
                "spine_is_predicted",
                "is_said",
                "of the spine are not predicted over each horizon",
                "customer_id",
                what="customers and horizons",
            ),
            each_row(
                "only_spine_is_predicted",
                "is_asked",
                "are predicted without being asked for",
                "customer_id",
                what="customers and horizons",
            ),
        ),
        key="customer_id",
        needs=(_PREDICTIONS, _SPINE),
        parameters=run.parameters,
    )


def total(run: Run, horizon: int) -> Suite:
    """Make the suite of a horizon's total: within a band of the last window of the same length.

    Customers' value alone, as known today; guests are nobody to predict. Where the data don't reach
    back so far, there is no such window to compare with.
    """
    band = run.settings.gates.total_band
    source = f"""(
        SELECT
            (
                SELECT sum(clv) FROM {_PREDICTIONS}
                WHERE cutoff_date = $cutoff AND horizon_days = {int(horizon)}
            ) AS predicted,
            (
                SELECT sum(value)::DOUBLE FROM staging.stg_transactions
                WHERE is_current AND NOT is_guest
                    AND activity_date > $cutoff::DATE - {int(horizon)} AND activity_date <= $cutoff
                HAVING (SELECT min(activity_date) FROM staging.stg_transactions)
                    <= $cutoff::DATE - {int(horizon) - 1}
            ) AS historic
    )"""
    return Suite(
        table=_PREDICTIONS,
        source=source,
        rules=(
            Rule(
                f"total_{int(horizon)}d",
                "CASE WHEN any_value(historic) > 0 "
                "THEN coalesce(any_value(predicted), 0) / any_value(historic) END",
                f"the predicted total over {int(horizon)} days is {{observed}} times the "
                f"customers' value of the last {int(horizon)} days, allowed is {{expected}}: "
                "if the business changed that much, raise gates.total_band",
                column="clv",
                minimum=1 / band,
                maximum=band,
                if_nothing=f"the data reach back less than {int(horizon)} days, or hold no value",
            ),
        ),
        needs=(_PREDICTIONS, "staging.stg_transactions"),
        parameters=run.parameters,
    )


def spread(run: Run) -> Suite:
    """Make the suite of collapse: different customers get different values."""
    longest = max(run.settings.value.horizons)
    return Suite(
        table=_PREDICTIONS,
        source=f"""(
            SELECT count(DISTINCT round(clv, 6)) AS count_distinct, count(*) AS customers
            FROM {_PREDICTIONS} WHERE cutoff_date = $cutoff AND horizon_days = {int(longest)}
        )""",
        rules=(
            Rule(
                "not_constant",
                f"CASE WHEN any_value(customers) >= {MIN_CUSTOMERS_TO_DIFFER} "
                "THEN any_value(count_distinct) END",
                "all customers get the same value",
                column="clv",
                minimum=2,
                if_nothing=f"there are fewer than {MIN_CUSTOMERS_TO_DIFFER} customers",
            ),
            Rule(
                "distinct_values",
                f"CASE WHEN any_value(customers) >= {MIN_CUSTOMERS_FOR_DISTINCT} "
                "THEN any_value(count_distinct) END",
                "there are only {observed} different values, usual is {expected}",
                column="clv",
                minimum=MIN_DISTINCT,
                severity="warn",
                if_nothing=f"there are fewer than {MIN_CUSTOMERS_FOR_DISTINCT} customers",
            ),
        ),
        needs=(_PREDICTIONS,),
        parameters=run.parameters,
    )


def _can_be_negative(run: Run) -> str:
    """Write the SQL of whether a customer's value can fall: refunds, or costs above the price."""
    if run.settings.value.definition == "contribution_margin":
        return "true"
    return "(SELECT coalesce(bool_or(is_refund OR amount < 0), false) FROM raw.transactions)"
