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
    decile_mape,
    mean_percentage_error,
    means_between,
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
    def _of_actual(self) -> tuple[Floats, Floats, Floats]:
        """The ranks of the actual values, the best Gini numerator, and the norm of the ranks."""
        order = _Order(self.actual, self.counts)
        return order.ranks(), order.sum_by_rank(self.actual), order.norm()

    def _rank_figures(self, value: Floats) -> dict[str, Floats]:
        of_actual, best, norm = self._of_actual
        order = _Order(value, self.counts)
        gini = _ratio(order.sum_by_rank(self.actual), best)
        together = order.sum_by_rank(of_actual)
        return {
            "normalized_gini": np.nan_to_num(gini),
            "spearman": np.nan_to_num(_ratio(together, norm * order.norm())),
            "decile_mape": self._decile_mape(order, value),
        }

    def _decile_mape(self, order: _Order, value: Floats) -> Floats:
        sums = (order.reached, order.cumulate(value), order.cumulate(self.actual))
        return np.array(
            [
                mean_percentage_error(
                    means_between(reached, predicted, 10), means_between(reached, actual, 10)
                )
                for reached, predicted, actual in zip(*(part.T for part in sums), strict=True)
            ]
        )

    def _auc(self, probability: Floats) -> Floats:
        order = _Order(probability, self.counts)
        positives = self.counts.T @ self.bought
        below = order.sum_by_rank(self.bought) + positives * self.size / 2
        return _ratio(below - positives**2 / 2, positives * (self.size - positives))


class _Order:
    """Rows in the order of one score under all replicates; rows of equal score rank alike.

    Attributes
    ----------
    reached
        Weight up to the end of each group of equal scores, from nothing on, shape (groups + 1,
        replicates).
    """

    def __init__(self, scores: Floats, counts: Floats) -> None:
        self._sort = np.argsort(scores, kind="stable")
        ordered = scores[self._sort]
        self._is_last = np.concatenate([ordered[1:] != ordered[:-1], [True]])
        self._counts = counts[self._sort]
        self.reached = self._at_ends(self._counts)
        # Middle ranks less their weighted mean, which is half of all the weight.
        centred = (self.reached[1:] + self.reached[:-1] - self.reached[-1]) / 2
        group = np.cumsum(self._is_last) - self._is_last
        self._ranks: Floats = centred if len(centred) == len(scores) else centred[group]
        self._weighted: Floats = self._counts * self._ranks

    def _at_ends(self, parts: Floats) -> Floats:
        total = np.cumsum(parts, axis=0)
        ends = total if self._is_last.all() else total[self._is_last]
        return np.concatenate([np.zeros((1, total.shape[1])), ends])

    def cumulate(self, values: Floats) -> Floats:
        """Return weighted sums of values of shape (n,), as ``reached`` is of weights."""
        return self._at_ends(self._counts * values[self._sort][:, None])

    def ranks(self) -> Floats:
        """Return each row's rank in every replicate, in the order of the rows."""
        found = np.empty_like(self._ranks)
        found[self._sort] = self._ranks
        return found

    def sum_by_rank(self, values: NDArray[Any]) -> Floats:
        """Sum weight times rank times values of shape (n,) or (n, replicates)."""
        ordered = values[self._sort]
        if ordered.ndim == 1:
            return np.asarray(ordered @ self._weighted)
        return np.asarray(np.einsum("nr,nr->r", ordered, self._weighted))

    def norm(self) -> Floats:
        """Return the root of the weighted sum of squared ranks."""
        return np.asarray(np.sqrt(np.einsum("nr,nr->r", self._ranks, self._weighted)))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN where the whole is not positive."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))
