"""Gate 'as_of': nothing of after t0 in what is known at t0, and only matured labels.

Checked are the cutoff of the run and the newest cutoffs that carry labels, which train. Whether a
feature peeks is also found by computing a sample anew, see ``leakage.py``.
"""

from __future__ import annotations

from data_quality.rules import Rule, Suite, each_row, one_row_per
from data_quality.suites.run import Run

MAX_LABELLED_CUTOFFS = 60
MAX_TIED_CUTOFFS = 12
_SPINE = "as_of.customer_spine"
_HISTORY = "as_of.customer_history"
_LABELS = "as_of.customer_labels"
FEATURES = "features.customer_features"
_STAGED = "staging.stg_transactions"
_LABELLED = f"SELECT DISTINCT cutoff_date FROM {_LABELS} WHERE cutoff_date < $cutoff"
_CHECKED = f"""(
    SELECT $cutoff::DATE AS cutoff_date
    UNION (({_LABELLED}) ORDER BY cutoff_date DESC LIMIT {MAX_LABELLED_CUTOFFS})
)"""


def suites(run: Run) -> list[Suite]:
    """List the suites of the gate."""
    return [
        customer_spine(run),
        customer_history(run),
        customer_features(run),
        customer_labels(run),
        label_windows(run),
        totals_at_cutoff(run),
        totals_at_earlier_cutoffs(run),
    ]


def customer_spine(run: Run) -> Suite:
    """Make the suite of who is asked about: everybody known at t0, nobody who came later."""
    source = f"(SELECT * FROM {_SPINE} WHERE cutoff_date IN {_CHECKED})"
    return Suite(
        table=_SPINE,
        source=source,
        rules=(
            Rule(
                "volume",
                "count(*) FILTER (WHERE cutoff_date = $cutoff)",
                "nobody is known at the cutoff",
                minimum=1,
            ),
            each_row(
                "everybody",
                "cutoff_date <> $cutoff OR share_of_customers = 1",
                "are of the cutoff of the run, which holds a drawn share of the customers alone",
                "share_of_customers",
            ),
            one_row_per(source, ("customer_id", "cutoff_date"), "customer_id"),
            each_row("present", "customer_id <> ''", "have no customer_id", "customer_id"),
            each_row(
                "known_at_cutoff",
                "first_known_date <= cutoff_date",
                "are of customers who became known after the cutoff",
                "first_known_date",
            ),
            each_row(
                "signed_up_before_cutoff",
                "signup_date IS NULL OR signup_date <= cutoff_date",
                "show a signup after the cutoff",
                "signup_date",
            ),
        ),
        key="customer_id",
        needs=(_SPINE, _LABELS),
        parameters=run.parameters,
    )


def customer_history(run: Run) -> Suite:
    """Make the suite of histories: no day after t0, days and counts that go together."""
    source = _joined_to_spine(_HISTORY)
    return Suite(
        table=_HISTORY,
        source=source,
        rules=(
            *_one_per_spine_row(_HISTORY),
            *(
                each_row(
                    "no_day_after_cutoff",
                    f"{column} IS NULL OR {column} <= cutoff_date",
                    f"have a {column} after the cutoff",
                    column,
                )
                for column in ("first_order_date", "last_order_date", "last_activity_date")
            ),
            each_row(
                "first_before_last",
                "first_order_date IS NULL AND last_order_date IS NULL "
                "OR first_order_date <= last_order_date",
                "have a first order after the last one",
                "first_order_date",
            ),
            each_row(
                "ages_ordered",
                "count_order_days = 0 AND recency IS NULL "
                "OR recency BETWEEN 0 AND T AND T = cutoff_date - first_order_date "
                "AND recency = last_order_date - first_order_date",
                "have a recency or T that is not that of their order days",
                "recency",
            ),
            each_row(
                "frequency_is_repeats",
                "frequency = greatest(count_order_days - 1, 0)",
                "have a frequency that is not their repeat order days",
                "frequency",
            ),
            each_row(
                "null_without_repeats",
                "(frequency = 0) = (monetary_value IS NULL)",
                "have a monetary_value without a repeat order, or none with one",
                "monetary_value",
            ),
            each_row("finite", "isfinite(sum_value)", "have no finite value", "sum_value"),
        ),
        key="customer_id",
        needs=(_HISTORY, _SPINE, _LABELS),
        parameters=run.parameters,
    )


def customer_features(run: Run) -> Suite:
    """Make the suite of the feature table: a row for each of the spine, no age below zero."""
    return Suite(
        table=FEATURES,
        source=_joined_to_spine(FEATURES),
        rules=(
            *_one_per_spine_row(FEATURES),
            each_row(
                "no_day_after_cutoff",
                "days_since_last_order IS NULL OR days_since_last_order >= 0",
                "have a last order after the cutoff",
                "days_since_last_order",
            ),
        ),
        key="customer_id",
        needs=(FEATURES, _SPINE, _LABELS),
        parameters=run.parameters,
    )


def customer_labels(run: Run) -> Suite:
    """Make the suite of labels: days after t0 and within H alone, matured, consistent.

    A label is matured when its window ends no later than the last complete day of data. That is the
    run's cutoff, or the newest cutoff of the spine where a later run came before this one.
    """
    source = f"(SELECT * FROM {_LABELS} WHERE cutoff_date IN {_CHECKED})"
    return Suite(
        table=_LABELS,
        source=source,
        rules=(
            one_row_per(source, ("customer_id", "cutoff_date", "horizon_days"), "customer_id"),
            each_row(
                "no_day_on_or_before_cutoff",
                "label_start_date > cutoff_date AND (first_label_activity_date IS NULL "
                "OR first_label_activity_date > cutoff_date)",
                "label a day on or before the cutoff",
                "first_label_activity_date",
            ),
            each_row(
                "no_day_after_horizon",
                "last_label_activity_date IS NULL "
                "OR last_label_activity_date <= cutoff_date + horizon_days::INTEGER",
                "label a day after the horizon",
                "last_label_activity_date",
            ),
            each_row(
                "window_is_horizon",
                "label_start_date = cutoff_date + 1 "
                "AND label_end_date = cutoff_date + horizon_days::INTEGER",
                "have a window that is not the horizon after the cutoff",
                "label_end_date",
            ),
            each_row(
                "matured",
                "cutoff_date + horizon_days::INTEGER <= greatest("
                f"$cutoff::DATE, (SELECT max(cutoff_date) FROM {_SPINE}))",
                "are of a window that is not over yet",
                "label_end_date",
            ),
            each_row(
                "purchase_is_orders",
                "has_purchase = (label_orders > 0) AND label_orders >= 0",
                "say a purchase without an order, or none with one",
                "has_purchase",
            ),
            each_row("finite", "isfinite(label_value)", "have no finite value", "label_value"),
        ),
        key="customer_id",
        needs=(_LABELS, _SPINE),
        parameters=run.parameters,
    )


def label_windows(run: Run) -> Suite:
    """Make the suite of whole labels: each of the spine has one in each window, zeros included."""
    return Suite(
        table=_LABELS,
        source=f"""(
            SELECT
                coalesce(asked.customer_id, labelled.customer_id) AS customer_id,
                asked.customer_id IS NOT NULL AND labelled.customer_id IS NOT NULL AS is_in_both
            FROM (
                SELECT spine.customer_id, spine.cutoff_date, windows.horizon_days
                FROM {_SPINE} AS spine
                INNER JOIN (SELECT DISTINCT cutoff_date, horizon_days FROM {_LABELS}) AS windows
                    USING (cutoff_date)
                WHERE spine.cutoff_date IN {_CHECKED}
            ) AS asked
            FULL JOIN (
                SELECT customer_id, cutoff_date, horizon_days FROM {_LABELS}
                WHERE cutoff_date IN {_CHECKED}
            ) AS labelled
                ON asked.customer_id = labelled.customer_id
                AND asked.cutoff_date = labelled.cutoff_date
                AND asked.horizon_days = labelled.horizon_days
        )""",
        rules=(
            each_row(
                "one_label_per_spine_row",
                "is_in_both",
                "are labelled without being in the spine, or not labelled",
                "customer_id",
                what="customers and windows",
            ),
        ),
        key="customer_id",
        needs=(_LABELS, _SPINE),
        parameters=run.parameters,
    )


def totals_at_cutoff(run: Run) -> Suite:
    """Make the suite of totals at the run's cutoff: histories hold what staging knew."""
    return Suite(
        table=_HISTORY,
        source=_totals("(SELECT $cutoff::DATE AS cutoff_date)"),
        rules=(_total_rule("total_ties_to_staging", "stop", "the histories' total"),),
        needs=(_HISTORY, _STAGED),
        parameters=run.parameters,
    )


def totals_at_earlier_cutoffs(run: Run) -> Suite:
    """Make the suite of totals at cutoffs that train.

    They may have been built before rows arrived late in a source that doesn't say when it knew
    them, so this warns. Those that hold a drawn share of the customers tie to nothing: their sums
    are never those of the shop.
    """
    least = "HAVING min(share_of_customers) = 1"
    whole = f"SELECT cutoff_date FROM {_SPINE} GROUP BY cutoff_date {least}"
    newest = (
        f"({_LABELLED} AND cutoff_date IN ({whole}) "
        f"ORDER BY cutoff_date DESC LIMIT {MAX_TIED_CUTOFFS})"
    )
    return Suite(
        table=_HISTORY,
        source=_totals(newest),
        rules=(
            _total_rule(
                "total_of_training_cutoffs_ties_to_staging",
                "warn",
                "the histories' total at a training cutoff",
                "no cutoff that holds everybody carries labels",
            ),
        ),
        key="'cutoff ' || cutoff_date",
        is_key_personal=False,
        needs=(_HISTORY, _STAGED, _LABELS, _SPINE),
        parameters=run.parameters,
    )


def _total_rule(name: str, severity: str, what: str, if_nothing: str | None = None) -> Rule:
    gap = "history_total - staged_total"
    allowed = "0.005 + 1e-9 * abs(staged_total)"
    return Rule(
        name,
        f"arg_max(CASE WHEN abs({gap}) <= {allowed} THEN 0 ELSE {gap} END, abs({gap}))",
        f"{what} differs by {{observed}} from what staging knew of customers at the cutoff",
        column="sum_value",
        minimum=0,
        maximum=0,
        severity="warn" if severity == "warn" else "stop",
        breaks=f"abs({gap}) > {allowed}",
        if_nothing=if_nothing,
    )


def _totals(cutoffs: str) -> str:
    return f"""(
        SELECT
            cutoffs.cutoff_date,
            coalesce((
                SELECT sum(sum_value) FROM {_HISTORY} AS history
                WHERE history.cutoff_date = cutoffs.cutoff_date
            ), 0) AS history_total,
            coalesce((
                SELECT sum(value)::DOUBLE FROM {_STAGED} AS staged
                WHERE NOT staged.is_guest AND NOT staged.is_duplicate
                    AND staged.activity_date <= cutoffs.cutoff_date
                    AND staged.known_from_date <= cutoffs.cutoff_date
                    AND (
                        staged.known_to_date IS NULL
                        OR staged.known_to_date > cutoffs.cutoff_date
                    )
            ), 0) AS staged_total
        FROM {cutoffs} AS cutoffs
    )"""


def _joined_to_spine(table: str) -> str:
    return f"""(
        SELECT rows_.*, spine.customer_id IS NOT NULL AS is_in_spine
        FROM (SELECT * FROM {table} WHERE cutoff_date IN {_CHECKED}) AS rows_
        LEFT JOIN {_SPINE} AS spine
            ON spine.customer_id = rows_.customer_id AND spine.cutoff_date = rows_.cutoff_date
    )"""


def _one_per_spine_row(table: str) -> tuple[Rule, ...]:
    spine = f"(SELECT * FROM {_SPINE} WHERE cutoff_date IN {_CHECKED}) AS spine"
    missing = (
        f"FROM {spine} ANTI JOIN {table} AS held ON held.customer_id = spine.customer_id "
        "AND held.cutoff_date = spine.cutoff_date"
    )
    return (
        one_row_per(_joined_to_spine(table), ("customer_id", "cutoff_date"), "customer_id"),
        each_row("in_spine", "is_in_spine", "are of customers who were not known at the cutoff"),
        Rule(
            "covers_spine",
            f"(SELECT count(*) {missing})",
            "{observed} customers of the spine have no row",
            column="customer_id",
            maximum=0,
            keys=f"SELECT spine.customer_id {missing}",
        ),
    )
