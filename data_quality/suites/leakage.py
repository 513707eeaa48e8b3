"""Gate 'as_of', second part: does a feature hold what could not be known at t0?"""

from __future__ import annotations

from data_quality.rules import Rule, Suite, each_row
from data_quality.suites.as_of import FEATURES
from data_quality.suites.run import Run

MAX_LABEL_CORRELATION = 0.95


def recomputed(run: Run, source: str, *, is_training_cutoff: bool) -> Suite:
    """Make the suite of a sample of features, stored against computed anew from landed rows.

    Parameters
    ----------
    source
        View with customer_id, feature, stored, computed, and is_history_same: whether the totals
        of the customer's whole history agree.
    is_training_cutoff
        A cutoff that trains may have been built before rows arrived that don't say when they were
        known. Customers whose history differs are then only warned of; the others must agree.
    """
    same = (
        "stored IS NOT DISTINCT FROM computed OR stored IS NULL AND isnan(computed) "
        "OR isnan(stored) AND isnan(computed) "
        "OR abs(stored - computed) <= 0.005 + 1e-9 * abs(computed)"
    )
    where = "at a training cutoff" if is_training_cutoff else "at the cutoff"
    words = f"of a sample differ from what the landed rows say as known {where}"
    peeks = f"{same} OR NOT is_history_same" if is_training_cutoff else same
    suffix = "_for_training" if is_training_cutoff else ""
    rules = [each_row(f"no_peeking{suffix}", peeks, words, what="features")]
    if is_training_cutoff:
        rules.append(
            each_row(
                "history_rebuilt",
                "is_history_same",
                "are of customers whose rows came after the training cutoff was built",
                severity="warn",
                what="features",
            )
        )
    return Suite(
        table=FEATURES,
        source=source,
        rules=tuple(rules),
        key="customer_id",
        parameters=run.parameters,
    )


def label_correlations(run: Run, source: str) -> Suite:
    """Make the suite of features that know the answer.

    Parameters
    ----------
    source
        View with feature and correlation.
    """
    return Suite(
        table=FEATURES,
        source=source,
        rules=(
            Rule(
                "no_feature_knows_the_label",
                "max(correlation)",
                "a feature orders customers as what they bought next does (rank correlation "
                "{observed}, possible is {expected}), so it was computed from days after the "
                "cutoff",
                maximum=MAX_LABEL_CORRELATION,
                breaks=f"correlation > {MAX_LABEL_CORRELATION}",
                if_nothing="no label is matured yet, or too few customers bought",
            ),
        ),
        key="feature",
        is_key_personal=False,
        parameters=run.parameters,
    )
