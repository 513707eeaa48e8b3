"""Faults of as-of tables and of predictions."""

from __future__ import annotations

from tests.data_quality.faults import Fault, fault, warning

_SEVEN = "WHERE customer_id = '{customer}' AND cutoff_date = '2024-05-31'"


def in_spine(table: str) -> list[Fault]:
    return [
        fault(
            "as_of",
            f"DELETE FROM {table} {_SEVEN}",
            "covers_spine",
            "customers of the spine have no row",
        ),
        fault(
            "as_of",
            f"UPDATE {table} SET customer_id = 'stranger' "
            "WHERE customer_id = '{customer}' AND cutoff_date = '2024-05-31'",
            "in_spine",
            "are of customers who were not known at the cutoff",
        ),
        fault(
            "as_of",
            f"INSERT INTO {table} SELECT * FROM {table} WHERE customer_id = '{{customer}}'",
            "one_row_per_key",
            "repeat another row's customer_id and cutoff_date",
        ),
    ]


_LABEL = "WHERE customer_id = '{customer}' AND cutoff_date = '2024-05-01'"
AS_OF = [
    fault(
        "as_of",
        "DELETE FROM as_of.customer_spine WHERE cutoff_date = '2024-05-31'",
        "volume",
        "nobody is known at the cutoff",
    ),
    fault(
        "as_of",
        f"INSERT INTO as_of.customer_spine FROM as_of.customer_spine {_SEVEN}",
        "one_row_per_key",
        "repeat another row's customer_id and cutoff_date",
    ),
    *(
        fault("as_of", f"UPDATE as_of.customer_spine SET {change} {_SEVEN}", name, says)
        for change, name, says in (
            ("customer_id = ''", "present", "have no customer_id"),
            ("first_known_date = '2024-06-01'", "known_at_cutoff", "known after the cutoff"),
            ("signup_date = '2024-06-01'", "signed_up_before_cutoff", "signup after the cutoff"),
            ("share_of_customers = 0.25", "everybody", "a drawn share of the customers"),
        )
    ),
    *in_spine("as_of.customer_history"),
    *in_spine("features.customer_features"),
    *(
        fault("as_of", f"UPDATE as_of.customer_history SET {change} {_SEVEN}", name, says)
        for change, name, says in (
            ("first_order_date = '2024-06-01'", "no_day_after_cutoff", "a first_order_date after"),
            ("last_order_date = '2024-06-01'", "no_day_after_cutoff", "a last_order_date after"),
            ("last_activity_date = '2024-06-01'", "no_day_after_cutoff", "last_activity_date"),
            ("last_order_date = first_order_date - 1", "first_before_last", "after the last one"),
            ("last_order_date = NULL", "first_before_last", "a first order after the last one"),
            ("recency = T + 1", "ages_ordered", "a recency or T that is not that of their order"),
            ("T = NULL", "ages_ordered", "a recency or T that is not that of their order"),
            ("frequency = frequency + 1", "frequency_is_repeats", "not their repeat order days"),
            ("sum_value = 'inf'", "finite", "have no finite value"),
            ("sum_value = sum_value + 0.02", "total_ties_to_staging", "differs by 0.02 from what"),
        )
    ),
    fault(
        "as_of",
        "UPDATE as_of.customer_history SET monetary_value = 0 WHERE frequency = 0",
        "null_without_repeats",
        "have a monetary_value without a repeat order",
    ),
    warning(
        "as_of",
        f"UPDATE as_of.customer_history SET sum_value = sum_value - 0.02 {_LABEL}",
        "total_of_training_cutoffs_ties_to_staging",
        "knew of customers at the cutoff (rows cutoff 2024-05-01",
    ),
    fault(
        "as_of",
        f"UPDATE features.customer_features SET days_since_last_order = -1 {_SEVEN}",
        "no_day_after_cutoff",
        "have a last order after the cutoff",
    ),
    fault(
        "as_of",
        f"INSERT INTO as_of.customer_labels FROM as_of.customer_labels {_LABEL}",
        "one_row_per_key",
        "repeat another row's customer_id and cutoff_date and horizon_days",
    ),
    *(
        fault("as_of", f"UPDATE as_of.customer_labels SET {change} {_LABEL}", name, says)
        for change, name, says in (
            (
                "first_label_activity_date = cutoff_date",
                "no_day_on_or_before_cutoff",
                "label a day on or before the cutoff",
            ),
            (
                "last_label_activity_date = '2024-06-01'",
                "no_day_after_horizon",
                "label a day after the horizon",
            ),
            ("label_end_date = '2024-06-01'", "window_is_horizon", "window that is not the hor"),
            ("label_start_date = cutoff_date", "window_is_horizon", "window that is not the hor"),
            ("has_purchase = NOT has_purchase", "purchase_is_orders", "a purchase without an or"),
            ("label_value = NULL", "finite", "have no finite value"),
            ("customer_id = 'stranger'", "one_label_per_spine_row", "without being in the spine"),
        )
    ),
    fault(
        "as_of",
        "UPDATE as_of.customer_labels SET horizon_days = 60, label_end_date = cutoff_date + 60 "
        "WHERE cutoff_date = '2024-05-01'",
        "matured",
        "are of a window that is not over yet",
    ),
    fault(
        "as_of",
        f"DELETE FROM as_of.customer_labels {_LABEL}",
        "one_label_per_spine_row",
        "or not labelled",
    ),
]
_SCORED = "WHERE customer_id = '{customer}' AND horizon_days = 30"
PREDICTIONS = [
    *(
        fault(
            "predictions",
            f"UPDATE scores.customer_predictions SET {name} = {bad} {_SCORED}",
            "finite",
            f"have no finite {name}",
        )
        for name, bad in (
            ("clv", "'nan'"),
            ("clv", "'inf'"),
            ("clv_p10", "NULL"),
            ("clv_p50", "'nan'"),
            ("clv_p90", "'inf'"),
            ("clv_low_80", "NULL"),
            ("clv_high_95", "'inf'"),
            ("probability_purchase", "NULL"),
            ("expected_orders", "'-inf'"),
        )
    ),
    *(
        fault(
            "predictions",
            (
                "DELETE FROM raw.transactions WHERE is_refund",
                f"UPDATE scores.customer_predictions SET {change} {_SCORED}",
            ),
            name,
            says,
        )
        for change, name, says in (
            ("clv_p10 = clv_p50 + 1", "quantiles_ordered", "do not have P10 <= P50 <= P90"),
            ("clv_p90 = clv_p50 - 1", "quantiles_ordered", "do not have P10 <= P50 <= P90"),
            ("clv_low_95 = clv_low_80 + 1", "intervals_nested", "within that of 95 %"),
            ("clv = 1e5", "monotone_in_horizon", "less value over a longer horizon"),
            ("clv = -1", "not_negative", "say a negative value"),
            ("probability_purchase = 1.1", "is_probability", "a probability outside of 0 to 1"),
            ("probability_purchase = 1", "monotone_in_horizon", "a smaller probability"),
            ("expected_orders = 1000", "monotone_in_horizon", "fewer orders over a longer"),
            ("expected_orders = -1", "not_negative", "say fewer than no orders"),
            ("run_id = 'run 1'", "one_run", "rows come from 2 runs or models instead of one"),
            (
                "horizon_days = 45",
                "only_spine_is_predicted",
                "are predicted without being asked for",
            ),
            (
                "customer_id = 'stranger'",
                "only_spine_is_predicted",
                "are predicted without being asked for",
            ),
        )
    ),
    fault(
        "predictions",
        f"INSERT INTO scores.customer_predictions FROM scores.customer_predictions {_SCORED}",
        "one_row_per_key",
        "repeat another row's customer_id and horizon_days",
    ),
    fault(
        "predictions",
        f"DELETE FROM scores.customer_predictions {_SCORED}",
        "spine_is_predicted",
        "of the spine are not predicted over each horizon",
    ),
    fault(
        "predictions",
        ("DELETE FROM scores.customer_predictions", "DELETE FROM as_of.customer_spine"),
        "volume",
        "nobody is predicted",
    ),
    fault(
        "predictions",
        "UPDATE scores.customer_predictions SET clv = clv * 1000",
        "total_30d",
        "times the customers' value of the last 30 days, allowed is 0.25 to 4",
    ),
    fault(
        "predictions",
        "UPDATE scores.customer_predictions SET clv = 0 WHERE horizon_days = 60",
        "total_60d",
        "the predicted total over 60 days is 0 times the customers' value of the last 60 days",
    ),
    fault(
        "predictions",
        "UPDATE scores.customer_predictions SET clv = 30",
        "not_constant",
        "all customers get the same value",
    ),
]
