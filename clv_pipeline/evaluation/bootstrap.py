"""Figures under resampled customers, for many replicates and models at once.

Customers are drawn by Poisson(1) counts, the same for every model that is compared on a cutoff:
drawing with replacement, but for the size of the sample (Chamandy et al. 2012). All replicates go
through one sort per model, and what depends on the actual values alone is done once per cutoff.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.evaluation.metrics import (
    auc,
    binned_means,
    decile_mape,
    mean_percentage_error,
    normalized_gini,
    rmse,
    spearman,
    total_bias,
)

Floats = NDArray[np.float64]
MEASURES = ("normalized_gini", "spearman", "rmse", "total_bias", "decile_mape", "auc")
# So many customers tell noise from a difference; more of them would only cost memory.
MAX_CUSTOMERS = 50_000


def measure_once(
    measure: str, actual: Floats, bought: NDArray[Any], value: Floats, probability: Floats
) -> float:
    """Return a measure with each customer counted once; total bias is absolute."""
    if measure == "normalized_gini":
        return normalized_gini(actual, value)
    if measure == "spearman":
        return spearman(actual, value)
    if measure == "rmse":
        return rmse(actual, value)
    if measure == "total_bias":
        return abs(total_bias(actual, value))
    if measure == "decile_mape":
        return decile_mape(actual, value)
    return auc(bought, probability)


class Resampled:
    """The customers of one cutoff, resampled.

    Parameters
    ----------
    actual, bought
        What came to pass, shape (n,).
    replicates, seed
        How many resamples, and of which draw.

    Attributes
    ----------
    rows
        Positions of the customers that are drawn from: all, or a sample of very many.
    counts
        How often each of them was drawn, shape (customers, replicates).
    """

    def __init__(
        self, actual: Floats, bought: NDArray[np.bool_], replicates: int, seed: list[int]
    ) -> None:
        rng = np.random.default_rng(seed)
        rows = np.arange(len(actual))
        if len(rows) > MAX_CUSTOMERS:
            rows = np.sort(rng.choice(len(actual), MAX_CUSTOMERS, replace=False))
        self.rows = rows
        self.actual = actual[rows].astype(np.float64)
        self.bought = bought[rows].astype(np.float64)
        self.counts = rng.poisson(1.0, (len(rows), replicates)).astype(np.float64)
        self.size = self.counts.sum(axis=0)

    def figures(
        self, measures: tuple[str, ...], value: Floats, probability: Floats
    ) -> dict[str, Floats]:
        """Return each measure in every replicate, shape (replicates,); total bias is absolute."""
        value, found = value[self.rows], {}
        if "rmse" in measures:
            found["rmse"] = np.sqrt(_ratio(self.counts.T @ (value - self.actual) ** 2, self.size))
        if "total_bias" in measures:
            found["total_bias"] = np.abs(_ratio(self.counts.T @ value, self._actual_total) - 1.0)
        if {"normalized_gini", "spearman", "decile_mape"} & set(measures):
            found |= self._rank_figures(value)
        if "auc" in measures:
            found["auc"] = self._auc(probability[self.rows])
        return {name: found[name] for name in measures}

    @cached_property
    def _actual_total(self) -> Floats:
        return np.asarray(self.counts.T @ self.actual)

    @cached_property
    def _of_actual(self) -> tuple[_Order, Floats, Floats]:
        """The order of the actual values, the best Gini numerator, and the norm of the ranks."""
        order = _Order(self.actual, self.counts)
        best = (order.sums(self.actual) * order.centred).sum(axis=0)
        return order, best, np.sqrt((order.mass * order.centred**2).sum(axis=0))

    def _rank_figures(self, value: Floats) -> dict[str, Floats]:
        of_actual, best, norm = self._of_actual
        order = _Order(value, self.counts)
        gini = _ratio((order.sums(self.actual) * order.centred).sum(axis=0), best)
        other_norm = np.sqrt((order.mass * order.centred**2).sum(axis=0))
        ranks = of_actual.centred[of_actual.group]
        together = (order.sums(ranks) * order.centred).sum(axis=0)
        return {
            "normalized_gini": np.nan_to_num(gini),
            "spearman": np.nan_to_num(_ratio(together, norm * other_norm)),
            "decile_mape": self._decile_mape(order, value),
        }

    def _decile_mape(self, order: _Order, value: Floats) -> Floats:
        predicted, actual = order.sums(value).T, order.sums(self.actual).T
        return np.array(
            [
                mean_percentage_error(binned_means(m, p, 10), binned_means(m, a, 10))
                for m, p, a in zip(order.mass.T, predicted, actual, strict=True)
            ]
        )

    def _auc(self, probability: Floats) -> Floats:
        order = _Order(probability, self.counts)
        positives = self.counts.T @ self.bought
        middle = order.centred + self.size / 2
        below = (order.sums(self.bought) * middle).sum(axis=0)
        return _ratio(below - positives**2 / 2, positives * (self.size - positives))


class _Order:
    """Rows in the order of one score, rows of equal score grouped, under all replicates."""

    def __init__(self, scores: Floats, counts: Floats) -> None:
        self._sort = np.argsort(scores, kind="stable")
        ordered = scores[self._sort]
        is_new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        self._starts = np.flatnonzero(is_new)
        self.group = np.empty(len(scores), dtype=np.intp)
        self.group[self._sort] = np.cumsum(is_new) - 1
        self._counts = counts[self._sort]
        self.mass: Floats = np.add.reduceat(self._counts, self._starts, axis=0)
        above = np.cumsum(self.mass, axis=0)
        # Middle ranks less their weighted mean, which is half of all the weight.
        self.centred: Floats = above - self.mass / 2 - above[-1] / 2

    def sums(self, values: NDArray[Any]) -> Floats:
        """Sum weighted values within each group; values of shape (n,) or (n, replicates)."""
        ordered = values[self._sort]
        weighted = self._counts * (ordered[:, None] if ordered.ndim == 1 else ordered)
        return np.asarray(np.add.reduceat(weighted, self._starts, axis=0), dtype=np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN where the whole is not positive."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))
