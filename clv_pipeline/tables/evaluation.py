"""The tables that say whether the model is any good, and why: columns, types and meaning."""

from __future__ import annotations

from clv_pipeline.tables.columns import (
    CUTOFF,
    EVALUATION,
    HORIZON,
    MODEL,
    RUN,
    VERSION,
    Column,
    Table,
)

_SIZE = (
    Column("driver_rank", "INTEGER", "1 is the driver with the largest mean effect."),
    Column(
        "mean_absolute_effect",
        "DOUBLE",
        "Mean size of the effect on a customer's value, reporting currency.",
    ),
)
_JUDGED = (
    Column("share", "DOUBLE", "Share of the sizes of all drivers' effects, 0 to 1."),
    Column(
        "direction",
        "VARCHAR",
        "up: more of it, more value; down: the reverse; mixed: neither, or no number.",
    ),
    Column(
        "correlation",
        "DOUBLE",
        "Rank correlation of the feature with its effect; null where it is not defined.",
    ),
    Column("count_customers", "BIGINT", "Customers whose effects were taken, a sample."),
    Column("method", "VARCHAR", "shapley (exact) or surrogate_trees."),
    Column(
        "fidelity",
        "DOUBLE",
        "R squared between the logarithms of the surrogate's and the model's values on "
        "held-out customers; 1 is exact.",
    ),
)

EVALUATION_TABLES: dict[str, Table] = {
    "calibration": Table(
        "Predicted against actual in tenths of the customers, by prediction.",
        (
            MODEL,
            HORIZON,
            EVALUATION,
            Column("target", "VARCHAR", "'value', or 'purchase': at least one order."),
            Column("bin", "INTEGER", "1 holds the lowest predictions, 10 the highest."),
            Column("count_customers", "BIGINT", "Customers in the bin."),
            Column("mean_predicted", "DOUBLE", "Mean predicted value, or probability."),
            Column("mean_actual", "DOUBLE", "Mean actual value, or share with an order."),
            Column("rmse", "DOUBLE", "Root mean squared error within the bin."),
            Column("share_of_predicted", "DOUBLE", "Share of the predicted total in the bin."),
            Column("share_of_actual", "DOUBLE", "Share of the actual total; null without any."),
            VERSION,
            RUN,
        ),
    ),
    "model_comparisons": Table(
        "Whether what serves a horizon beats another model, by a paired bootstrap.",
        (
            HORIZON,
            Column("model", "VARCHAR", "What serves the horizon."),
            Column("other_model", "VARCHAR", "What it is compared with."),
            Column("measure", "VARCHAR", "Name of the measure; total_bias is absolute here."),
            Column("count_cutoffs", "BIGINT", "Cutoffs on which both were asked."),
            Column("count_cutoffs_better", "BIGINT", "Those on which what serves is better."),
            Column("figure", "DOUBLE", "Mean over the cutoffs of what serves."),
            Column("other_figure", "DOUBLE", "Mean over the cutoffs of the other model."),
            Column(
                "advantage",
                "DOUBLE",
                "How much better what serves is (positive is better); RMSE's is relative.",
            ),
            Column("advantage_low", "DOUBLE", "Lower end of the 95 % interval over customers."),
            Column("advantage_high", "DOUBLE", "Upper end of the 95 % interval over customers."),
            Column(
                "advantage_low_cutoffs",
                "DOUBLE",
                "Lower end when cutoffs are drawn, too: what to expect of another cutoff.",
            ),
            Column("advantage_high_cutoffs", "DOUBLE", "Upper end when cutoffs are drawn, too."),
            Column(
                "probability_better",
                "DOUBLE",
                "Share of the resamples of customers and cutoffs in which what serves is better.",
            ),
            Column(
                "verdict",
                "VARCHAR",
                "better or worse: the interval over customers excludes 0 and the difference is "
                "worth something; same otherwise.",
            ),
            VERSION,
            RUN,
        ),
    ),
    "model_effects": Table(
        "What drives a model that only trees which stand in for it can take apart (svm, mlp, ziln, "
        "gru), on one evaluation cutoff: the features with the largest effects.",
        (
            MODEL,
            HORIZON,
            EVALUATION,
            Column("driver", "VARCHAR", "The feature."),
            *_SIZE,
            *_JUDGED,
            VERSION,
            RUN,
        ),
    ),
    "feature_effects": Table(
        "What drives the predicted values: the effects of one driver over one horizon on the "
        "customers of a segment.",
        (
            CUTOFF,
            HORIZON,
            Column("segment", "VARCHAR", "The action segment; 'all' for every customer."),
            Column(
                "level",
                "VARCHAR",
                "concept: what customers' reasons are about, taken apart exactly; feature: single "
                "features, told apart by trees that stand in for the model.",
            ),
            Column("driver", "VARCHAR", "The concept or the feature."),
            Column("concept", "VARCHAR", "What it is about: recency, frequency, spend, ..."),
            *_SIZE,
            Column(
                "mean_effect",
                "DOUBLE",
                "Mean effect against the reference customer, reporting currency.",
            ),
            *_JUDGED,
            VERSION,
            RUN,
        ),
    ),
    "partial_dependence": Table(
        "How the mean predicted value moves with one feature, everything else as it is.",
        (
            CUTOFF,
            HORIZON,
            Column("driver", "VARCHAR", "The feature."),
            Column("point", "INTEGER", "Position on the grid, lowest value first."),
            Column("driver_value", "DOUBLE", "The value that the feature was set to."),
            Column("mean_predicted", "DOUBLE", "Mean predicted value then, reporting currency."),
            Column("count_customers", "BIGINT", "Customers that were asked about, a sample."),
            VERSION,
            RUN,
        ),
    ),
}
