"""Rows that train and rows that judge, for a search: by time, or by cohorts of customers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from clv_pipeline.models.fold import Workbench
from clv_pipeline.models.panel import Target
from clv_pipeline.timeline import Cutoff, Fold

COHORT_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Split:
    """Rows that train and rows that judge.

    Attributes
    ----------
    name
        In words.
    train, train_target
        Raw rows with the forecasts made at their cutoffs, and their labels.
    test, test_target
        Rows whose outcomes no part of a fit has seen.
    """

    name: str
    train: pd.DataFrame
    train_target: Target
    test: pd.DataFrame
    test_target: Target


def splits_by_time(bench: Workbench, folds: Sequence[Fold]) -> list[Split]:
    """Split by time: each fold trains on what had matured at its evaluation cutoff."""
    return [
        Split(
            f"{fold.evaluation} after {len(fold.training)} cutoffs up to {fold.training[-1]}",
            *_rows(bench, fold.training),
            *_rows(bench, (fold.evaluation,)),
        )
        for fold in folds
    ]


def splits_by_cohort(
    bench: Workbench, cutoffs: Sequence[Cutoff], folds: int = COHORT_FOLDS
) -> list[Split]:
    """Split by customers: whoever first ordered in one month is in one part (GroupKFold).

    It says how well cohorts that were not learned from are predicted over the same time. What the
    next months bring is not held out: beside, not instead of, a split by time.
    """
    rows, y = _rows(bench, cutoffs)
    cohort = cohort_months(rows)
    count = min(folds, len(np.unique(cohort)))
    if count < 2:
        return []
    found = []
    for k, (train, test) in enumerate(GroupKFold(count).split(rows, groups=cohort), 1):
        months = len(np.unique(cohort[test]))
        found.append(
            Split(
                f"cohorts part {k} of {count}: {months} months held out",
                rows.iloc[train],
                y.take(train),
                rows.iloc[test],
                y.take(test),
            )
        )
    return found


def cohort_months(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return the month of each customer's first order as YYYY-MM; 'none' without an order."""
    age = pd.to_timedelta(rows["T"].astype("float64"), unit="D")
    first = pd.to_datetime(rows["cutoff_date"]) - age
    return first.dt.strftime("%Y-%m").fillna("none").to_numpy(dtype=object)


def _rows(bench: Workbench, cutoffs: Sequence[Cutoff]) -> tuple[pd.DataFrame, Target]:
    rows, y = bench.panel.matrix(bench.options.horizon_days, cutoffs)
    rows = rows.reset_index(drop=True)
    return rows.assign(**bench.histories.columns(rows, bench.options.horizon_days)), y
