"""What each feature brings: how much worse a model ranks customers when it is shuffled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clv_pipeline.evaluation.metrics import normalized_gini
from clv_pipeline.models.panel import Floats

Predict = Callable[[pd.DataFrame], Floats]
COLUMNS = ("name", "loss", "spread", "is_useful")
# A loss that is within so many standard errors of nothing is nothing.
STANDARD_ERRORS = 2.0
# A loss of normalized Gini that nobody would miss.
LEAST_LOSS = 0.0005


def permutation_importance(
    predict: Predict,
    rows: pd.DataFrame,
    actual: Floats,
    groups: Mapping[str, Sequence[str]],
    *,
    repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Shuffle groups of columns between customers and measure the loss of normalized Gini.

    Columns of a group are shuffled by one order, so that they stay consistent with each other
    (Breiman, Random Forests, 2001; groups as in Gregorutti et al. 2015).

    Parameters
    ----------
    predict
        Answers for raw feature rows, shape (n,).
    rows
        Feature rows of one cutoff that the model has not learned from.
    actual
        What those customers then brought, shape (n,).
    groups
        Columns by the name of their group; columns that the rows lack are passed over.
    repeats
        Shuffles per group; the spread is over them.
    seed
        Of the shuffles.

    Returns
    -------
    pandas.DataFrame
        ``name``; ``loss``, the mean loss of normalized Gini; ``spread``, its standard error over
        the shuffles; ``is_useful``, whether the loss is beyond both noise and ``LEAST_LOSS``. The
        greatest loss first. A group without a column that differs between rows loses nothing.
    """
    base = normalized_gini(actual, predict(rows))
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(rows)) for _ in range(repeats)]
    found: list[tuple[str, float, float, bool]] = []
    for name, columns in groups.items():
        moving = [c for c in columns if c in rows and rows[c].nunique(dropna=False) > 1]
        losses = np.zeros(repeats)
        if moving:
            for k, order in enumerate(orders):
                shuffled = rows.assign(**{c: _taken(rows[c], order) for c in moving})
                losses[k] = base - normalized_gini(actual, predict(shuffled))
        loss, spread = float(losses.mean()), float(losses.std(ddof=1) / np.sqrt(repeats))
        is_useful = loss > max(LEAST_LOSS, STANDARD_ERRORS * spread)
        found.append((name, loss, spread, is_useful))
    frame = pd.DataFrame(found, columns=list(COLUMNS))
    return frame.sort_values(["loss", "name"], ascending=[False, True], ignore_index=True)


def _taken(values: pd.Series[Any], order: np.ndarray[Any, np.dtype[np.int64]]) -> pd.Series[Any]:
    return pd.Series(values.array.take(order), index=values.index)
