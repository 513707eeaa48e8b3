"""What Python writes about customers and models into ``scores``: columns, types and meaning."""

from __future__ import annotations

from clv_pipeline.tables.columns import (
    CUSTOMER,
    CUTOFF,
    EVALUATION,
    HORIZON,
    MODEL,
    RUN,
    VERSION,
    Column,
    Table,
)


def _reasons(count: int) -> tuple[Column, ...]:
    columns: list[Column] = []
    for k in range(1, count + 1):
        size = ("Largest", "Second", "Third")[k - 1]
        columns += (
            Column(
                f"reason_{k}",
                "VARCHAR",
                f"{size} reason for the value over the longest horizon; null without one.",
            ),
            Column(
                f"reason_{k}_effect",
                "DOUBLE",
                f"What reason_{k} adds to the value of the reference customer, or takes from it, "
                "reporting currency.",
            ),
        )
    columns += (
        Column(
            "reason_rest_effect",
            "DOUBLE",
            "What everything but the three reasons adds, or takes, reporting currency.",
        ),
        Column(
            "reason_base",
            "DOUBLE",
            "Value of the reference customer over the longest horizon, reporting currency; all "
            "effects and it add up to the value of the customer.",
        ),
    )
    return tuple(columns)


def _intervals(prefix: str, what: str) -> tuple[Column, ...]:
    return tuple(
        Column(
            f"{prefix}{side}_{share}",
            "DOUBLE",
            f"{end} end of the interval that holds {what} {share} times in 100.",
        )
        for share in (80, 95)
        for side, end in (("low", "Lower"), ("high", "Upper"))
    )


SCORE_TABLES: dict[str, Table] = {
    "customer_predictions": Table(
        "What a customer is predicted to bring over one horizon after one cutoff.",
        (
            CUSTOMER,
            CUTOFF,
            HORIZON,
            Column("clv", "DOUBLE", "Expected value over the horizon, reporting currency."),
            Column("clv_p10", "DOUBLE", "Value that 10 % of the outcomes stay below."),
            Column("clv_p50", "DOUBLE", "Median of the value over the horizon."),
            Column("clv_p90", "DOUBLE", "Value that 90 % of the outcomes stay below."),
            *_intervals("clv_", "the value of customers, and as often of those who buy"),
            Column("probability_purchase", "DOUBLE", "Probability of at least one order, 0 to 1."),
            Column("expected_orders", "DOUBLE", "Expected number of orders over the horizon."),
            VERSION,
            RUN,
        ),
    ),
    "customer_standing": Table(
        "Where a customer stands at one cutoff, over all horizons.",
        (
            CUSTOMER,
            CUTOFF,
            Column(
                "p_alive",
                "DOUBLE",
                "Probability of still being a customer, 0 to 1; null where no model says so.",
            ),
            Column(
                "churn_probability",
                "DOUBLE",
                "Probability of no order over the churn horizon, 0 to 1.",
            ),
            Column(
                "days_between_orders",
                "DOUBLE",
                "Typical days between two orders; null when unknown.",
            ),
            Column(
                "expected_next_order_date",
                "DATE",
                "When the next order is expected; null when unknown.",
            ),
            Column("loyalty_score", "DOUBLE", "0 (no tie) to 100 (closest tie)."),
            Column("clv_rank", "BIGINT", "1 is the highest value over the longest horizon."),
            Column("clv_percentile", "DOUBLE", "Share of customers not above this one, 0 to 100."),
            Column("value_tier", "VARCHAR", "Tier by value over the longest horizon."),
            Column("segment", "VARCHAR", "Action segment: value against the risk of going."),
            Column("rfm_segment", "VARCHAR", "Name of the recency, frequency, money segment."),
            Column("rfm_score", "VARCHAR", "Recency, frequency and money scores, 1 to 5 each."),
            Column("confidence", "VARCHAR", "high, medium or low."),
            Column("confidence_reason", "VARCHAR", "Why the confidence is what it is."),
            *_reasons(3),
            VERSION,
            RUN,
        ),
    ),
    "clv_totals": Table(
        "What all customers, or those of a group, are predicted to bring together over one horizon "
        "after one cutoff.",
        (
            CUTOFF,
            HORIZON,
            Column("group_kind", "VARCHAR", "What the customers are grouped by; 'all' for none."),
            Column("group_value", "VARCHAR", "Which group; 'unknown' where nothing is known."),
            Column("count_customers", "BIGINT", "Customers of the group."),
            Column("clv", "DOUBLE", "Sum of their expected values, reporting currency."),
            *_intervals("", "the total, by the luck of customers and the errors of past cutoffs,"),
            VERSION,
            RUN,
        ),
    ),
    "segment_actions": Table(
        "What to do about each action segment.",
        (
            Column("segment", "VARCHAR", "Name of the action segment."),
            Column("what_to_do", "VARCHAR", "Advice in words an analyst can act on."),
        ),
    ),
    "model_leaderboard": Table(
        "How well a model did on one evaluation cutoff and horizon.",
        (
            MODEL,
            HORIZON,
            EVALUATION,
            Column("count_customers", "BIGINT", "Customers evaluated."),
            Column("normalized_gini", "DOUBLE", "Ranking by value, 1 is perfect, 0 is a constant."),
            Column("spearman", "DOUBLE", "Rank correlation of predicted and actual value."),
            Column("rmse", "DOUBLE", "Root mean squared error, reporting currency."),
            Column("mae", "DOUBLE", "Mean absolute error, reporting currency."),
            Column("total_bias", "DOUBLE", "Predicted total over actual total, minus 1."),
            Column("top_10_capture", "DOUBLE", "Share of value held by the top 10 % predicted."),
            Column("top_20_capture", "DOUBLE", "Share of value held by the top 20 % predicted."),
            Column(
                "auc",
                "DOUBLE",
                "Area under the curve of the purchase probability; null without one.",
            ),
            Column("decile_mape", "DOUBLE", "Mean absolute percentage error of decile totals."),
            Column(
                "coverage_80",
                "DOUBLE",
                "Share of customers between P10 and P90; null without intervals.",
            ),
            Column("is_champion", "BOOLEAN", "Whether this model serves."),
            Column("trained_for_date", "DATE", "The cutoff the training was for."),
            VERSION,
            RUN,
        ),
    ),
    "backtest_metrics": Table(
        "One measure of one model on one evaluation cutoff, horizon and slice of customers.",
        (
            MODEL,
            HORIZON,
            EVALUATION,
            Column(
                "slice_name",
                "VARCHAR",
                "What the customers are sliced by: segment and rfm_segment (by the rules of the "
                "columns in customer_clv, as predicted and known at the cutoff), repeat, tenure, "
                "country and the like; 'all' for none.",
            ),
            Column("slice_value", "VARCHAR", "Which slice."),
            Column("measure", "VARCHAR", "Name of the measure."),
            Column("figure", "DOUBLE", "Its value; null where it is not defined."),
            VERSION,
            RUN,
        ),
    ),
}
