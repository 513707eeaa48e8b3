"""Weights of experts: the shop's, those of each cluster of behaviour, and those of giants."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.models.panel import Floats

Weights = dict[str, float]
# So many customers of a cluster who bought make half of the cluster's own weights believed.
HALF_BELIEVED = 200.0
# Trees level off at their largest leaf. These experts start from buy-till-you-die, and go on.
UNBOUNDED = ("btyd", "hurdle")
# From one quantile of the value to the other, giants' weights take over.
GIANTS_FROM, GIANTS_TO = 0.98, 0.998
FEWEST_OF_GIANTS = 500
# An expert's word counts as at least this share of the weighted sum.
LEAST_WORD = 0.05


class Blend:
    """Non-negative weights of experts, learned on rows that the experts have not seen.

    Every point of a grid on the simplex (weights that sum to 1) is tried; the best has the least
    sum of relative Tweedie deviance (rank and level of the many) and relative squared error (the
    giants). No start, no step size, and the same answer for the same input. One past cutoff says
    little about the next, so the best point is drawn towards equal weights: over twelve folds of
    two shops that ranks better than the best point, and is level with equal weights.

    Parameters
    ----------
    steps
        Steps of the grid between 0 and 1.
    shrinkage
        How far towards equal weights: 0 not at all, 1 all the way.
    """

    def __init__(self, steps: int = 10, shrinkage: float = 0.5) -> None:
        self.steps = steps
        self.shrinkage = shrinkage

    def fit(self, experts: Mapping[str, Floats], actual: Floats) -> Self:
        """Learn the weights.

        Parameters
        ----------
        experts
            Predictions by name, each of shape (n,).
        actual
            What came to pass, shape (n,).
        """
        everyone = np.zeros(len(actual), dtype=np.int64)
        names, points, losses = _grid_losses(experts, actual, everyone, 1, self.steps)
        best = _drawn(points[int(np.argmin(losses[:, 0]))], self.shrinkage)
        self.weights_ = _named(names, best)
        return self

    @classmethod
    def given(cls, weights: Mapping[str, float]) -> Self:
        """Return a blend of known weights."""
        blend = cls()
        blend.weights_ = dict(weights)
        return blend

    def predict(self, experts: Mapping[str, Floats]) -> Floats:
        """Return the weighted sum."""
        parts = [w * experts[name] for name, w in sorted(self.weights_.items())]
        return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


class ClusterBlend:
    """The mean of the experts on the log scale, by cluster of behaviour, and for giants.

    Experts differ by factors among those who hardly buy any more, where a weighted sum is what the
    highest of them says: buy-till-you-die and counts keep a little hope for everybody. The
    logarithm gives each its weight; a factor then makes up for what such means lack in all.

    A cluster's own best point is drawn towards the shop's, the more so the fewer of its customers
    bought, and then both towards equal weights, as in ``Blend``. The highest values are blended of
    the experts that can go beyond the largest leaf of a tree: from the 98th to the 99.8th
    percentile of the mean of all experts, those take over.

    Parameters
    ----------
    steps, shrinkage
        As of ``Blend``.

    Attributes
    ----------
    weights_
        Of the shop.
    by_cluster_
        In the order of the clusters' numbers; empty where clusters make no difference.
    giants_
        Logarithms of the values between which giants' weights take over, and these weights; None
        without an expert that goes beyond leaves, or with few customers.
    scale_
        The weighted sum over the mean on the log scale, in all.
    """

    def __init__(self, steps: int = 10, shrinkage: float = 0.75) -> None:
        self.steps = steps
        self.shrinkage = shrinkage

    def fit(
        self,
        experts: Mapping[str, Floats],
        actual: Floats,
        cluster: NDArray[np.int64],
        count: int,
    ) -> Self:
        """Learn the weights.

        Parameters
        ----------
        experts
            Predictions by name, each of shape (n,).
        actual
            What came to pass, shape (n,).
        cluster
            Number of each row's cluster, counted from 0.
        count
            How many clusters there are.
        """
        names, points, losses = _grid_losses(experts, actual, cluster, count, self.steps)
        shops = points[int(np.argmin(losses.sum(axis=1)))]
        self.weights_ = _named(names, _drawn(shops, self.shrinkage))
        buyers = np.bincount(cluster[actual > 0], minlength=count)
        self.by_cluster_ = []
        for k, bought in enumerate(buyers):
            believed = bought / (bought + HALF_BELIEVED)
            own = points[int(np.argmin(losses[:, k]))]
            weights = _drawn(believed * own + (1 - believed) * shops, self.shrinkage)
            self.by_cluster_.append(_named(names, weights))
        self.giants_: tuple[float, float, Weights] | None = None
        unbounded = [name for name in UNBOUNDED if name in experts]
        if len(unbounded) == len(UNBOUNDED) and len(actual) >= FEWEST_OF_GIANTS:
            size = _size(experts)
            low, high = (float(np.quantile(size, q)) for q in (GIANTS_FROM, GIANTS_TO))
            if high > low:
                self.giants_ = (low, high, dict.fromkeys(unbounded, 1 / len(unbounded)))
        self.scale_ = 1.0
        sums, means = self._weighted(experts, cluster).sum(), self.predict(experts, cluster).sum()
        if means > 0:
            self.scale_ = float(sums / means)
        return self

    @classmethod
    def given(cls, weights: Mapping[str, float]) -> Self:
        """Return a blend of the same known weights for everyone."""
        blend = cls()
        blend.weights_, blend.by_cluster_, blend.giants_ = dict(weights), [], None
        blend.scale_ = 1.0
        return blend

    def row_weights(
        self, experts: Mapping[str, Floats], cluster: NDArray[np.int64]
    ) -> dict[str, Floats]:
        """Return each row's weights of the experts that take part; they sum to 1."""
        n = len(cluster)
        found = {}
        for name, weight in sorted(self.weights_.items()):
            by_cluster = np.array([weights[name] for weights in self.by_cluster_])
            found[name] = by_cluster[cluster] if len(by_cluster) else np.full(n, weight)
        if self.giants_ is not None:
            low, high, weights = self.giants_
            share = np.clip((_size(experts) - low) / (high - low), 0.0, 1.0)
            for name in found:
                found[name] = (1 - share) * found[name] + share * weights.get(name, 0.0)
        return found

    def predict(self, experts: Mapping[str, Floats], cluster: NDArray[np.int64]) -> Floats:
        """Return the mean on the log scale, each row by its own weights; 0 where all say 0."""
        weights, sums = self.row_weights(experts, cluster), self._weighted(experts, cluster)
        least = np.maximum(LEAST_WORD * sums, 1e-12)
        logarithms = [
            weights[name] * np.log(np.maximum(experts[name], least)) for name in sorted(weights)
        ]
        found = np.where(sums > 0, np.exp(np.sum(logarithms, axis=0)), 0.0) * self.scale_
        return np.asarray(found, dtype=np.float64)

    def _weighted(self, experts: Mapping[str, Floats], cluster: NDArray[np.int64]) -> Floats:
        weights = self.row_weights(experts, cluster)
        parts = [weights[name] * experts[name] for name in sorted(weights)]
        return np.asarray(np.sum(parts, axis=0), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "weights": self.weights_,
            "by_cluster": self.by_cluster_,
            "giants": list(self.giants_) if self.giants_ else None,
            "scale": self.scale_,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        blend = cls.given(document["weights"])
        blend.by_cluster_ = [dict(weights) for weights in document["by_cluster"]]
        blend.scale_ = document["scale"]
        if document["giants"]:
            low, high, weights = document["giants"]
            blend.giants_ = (low, high, dict(weights))
        return blend


def _size(experts: Mapping[str, Floats]) -> Floats:
    """Return the logarithm of the mean of all experts."""
    mean = np.mean([experts[name] for name in sorted(experts)], axis=0)
    return np.asarray(np.log(np.maximum(mean, 1e-12)), dtype=np.float64)


def _drawn(weights: Floats, shrinkage: float) -> Floats:
    return (1 - shrinkage) * weights + shrinkage / len(weights)


def _named(names: list[str], weights: Floats) -> Weights:
    return {name: float(w) for name, w in zip(names, weights, strict=True)}


def _grid_losses(
    experts: Mapping[str, Floats],
    actual: Floats,
    cluster: NDArray[np.int64],
    count: int,
    steps: int,
) -> tuple[list[str], Floats, Floats]:
    """Return the experts, the points of the grid, and each point's loss, summed by cluster.

    Either loss is in units of that of equal weights over all rows.
    """
    names = sorted(experts)
    columns = np.column_stack([experts[name] for name in names])
    scale = max(float(np.mean(np.maximum(actual, 0.0))), 1e-9)
    columns, y = columns / scale, actual / scale
    equal = np.maximum(_losses(columns.mean(axis=1), y).mean(axis=1), 1e-12)[:, None]
    points = np.array(_simplex(len(names), steps)) / steps
    losses = np.array(
        [
            np.bincount(cluster, (_losses(columns @ point, y) / equal).sum(axis=0), count)
            for point in points
        ]
    )
    # Equal up to rounding is equal: the first point of the grid wins.
    return names, points, np.round(losses / max(len(y), 1), 12)


def _simplex(parts: int, total: int) -> list[tuple[int, ...]]:
    """Return every way to write ``total`` as an ordered sum of ``parts`` counts."""
    found = []
    for bars in itertools.combinations(range(total + parts - 1), parts - 1):
        edges = (-1, *bars, total + parts - 1)
        found.append(tuple(b - a - 1 for a, b in itertools.pairwise(edges)))
    return found


def _losses(predicted: Floats, actual: Floats) -> Floats:
    """Return each row's Tweedie deviance of power 1.5 and squared error, shape (2, n)."""
    p = np.maximum(predicted, 1e-6)
    y = np.maximum(actual, 0.0)
    deviance = 4 * (np.sqrt(y) - np.sqrt(p)) ** 2 / np.sqrt(p)
    return np.array([deviance, (p - actual) ** 2])
