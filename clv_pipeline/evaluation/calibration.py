"""Where predictions are too high or too low, and how much of the value their order finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from clv_pipeline.evaluation.backtest import FoldResult
from clv_pipeline.evaluation.ranking import Floats, Ranking

BINS = 10
CALIBRATION_COLUMNS = (
    "model",
    "horizon_days",
    "evaluation_date",
    "target",
    "bin",
    "count_customers",
    "mean_predicted",
    "mean_actual",
    "rmse",
    "share_of_predicted",
    "share_of_actual",
)


def calibrate_folds(results: Iterable[FoldResult]) -> pd.DataFrame:
    """Compare predicted with actual means in tenths of the customers, for every model and fold.

    Returns
    -------
    DataFrame
        ``CALIBRATION_COLUMNS``. ``target`` is 'value', or 'purchase' where a model gives a
        probability; bin 1 holds the lowest predictions. Customers of equal prediction share their
        mean actual value, so no row depends on the order of customers.
    """
    rows: list[tuple[Any, ...]] = []
    for result in results:
        names = (result.fold.horizon_days, result.fold.evaluation.day)
        bought = result.target.has_purchase.astype(np.float64)
        for model, value in result.value.items():
            for figures in calibration_bins(result.target.value, value):
                rows.append((model, *names, "value", *figures))  # noqa: PERF401 - two targets
            if model in result.probability:
                for figures in calibration_bins(bought, result.probability[model]):
                    rows.append((model, *names, "purchase", *figures))  # noqa: PERF401
    return pd.DataFrame(rows, columns=list(CALIBRATION_COLUMNS))


def calibration_bins(
    actual: ArrayLike, predicted: ArrayLike, bins: int = BINS
) -> Iterator[tuple[float, ...]]:
    """Give each bin's number, size, means, error and shares of the totals, lowest first."""
    y, p = np.asarray(actual, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    ranking = Ranking(p)
    shared = (ranking.totals(y) / ranking.count)[ranking.group]
    squared = (ranking.totals((y - p) ** 2) / ranking.count)[ranking.group]
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    for number, part in enumerate((part for part in parts if len(part)), 1):
        yield (
            number,
            len(part),
            float(p[part].mean()),
            float(shared[part].mean()),
            float(np.sqrt(squared[part].mean())),
            _share(p[part].sum(), p.sum()),
            _share(shared[part].sum(), y.sum()),
        )


def concentration(actual: ArrayLike, scores: ArrayLike, points: int = 101) -> tuple[Floats, Floats]:
    """Return the share of value that the highest scored share of customers brings.

    The Lorenz curve read from the top (cumulative gains). Its ratio to the share of customers is
    the lift. Customers of equal score are taken in part.

    Returns
    -------
    tuple of array
        Shares of customers from 0 to 1, and the shares of value that they bring.
    """
    y = np.asarray(actual, dtype=np.float64)
    ranking = Ranking(scores)
    reached = np.concatenate([[0.0], np.cumsum(ranking.count[::-1])]) / max(len(y), 1)
    earned = np.concatenate([[0.0], np.cumsum(ranking.totals(y)[::-1])])
    shares = np.linspace(0.0, 1.0, points)
    total = earned[-1] if earned[-1] > 0 else 1.0
    return shares, np.interp(shares, reached, earned / total)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
