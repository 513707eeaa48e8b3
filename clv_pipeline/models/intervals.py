"""Bounds of every customer's value: hurdle quantiles, corrected on rows that no model has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from clv_pipeline.models.panel import Floats

LEVELS = (0.1, 0.5, 0.9)
# One past cutoff may correct a bound, or the level, by so much at most.
LARGEST_FACTOR = 2.0
# Mean of the values above the highest known quantile, in units of it (lognormal of log spread 1).
TAIL_MEAN = 1.65


def mixture_quantile(amounts: Floats, levels: Floats, probability: Floats, level: float) -> Floats:
    """Return a quantile of a value that is 0 with probability 1 - p, or else as a buyer's.

    P(Y <= y) = (1 - p) + p F(y), so the quantile is 0 up to level 1 - p, and beyond it the buyer's
    at (level - (1 - p)) / p. Between the known levels it is interpolated on the log scale.

    Parameters
    ----------
    amounts
        Quantiles of a buyer's value, shape (n, k), ascending and positive.
    levels
        Their levels, shape (k,), ascending.
    probability
        P(Y > 0), shape (n,).
    level
        Between 0 and 1.

    Returns
    -------
    array
        Shape (n,).
    """
    p = np.clip(probability, 1e-9, 1.0)
    within = (level - (1 - p)) / p
    inside = np.clip(within, levels[0], levels[-1])
    right = np.clip(np.searchsorted(levels, inside), 1, len(levels) - 1)
    left = right - 1
    part = (inside - levels[left]) / (levels[right] - levels[left])
    rows = np.arange(len(amounts))
    logarithm = np.log(amounts)
    found = (1 - part) * logarithm[rows, left] + part * logarithm[rows, right]
    return np.where(within > 0, np.exp(found), 0.0)


def implied_mean(amounts: Floats, levels: Floats) -> Floats:
    """Return the mean of a distribution known by its quantiles: trapezoids, and a tail.

    Parameters
    ----------
    amounts
        Quantiles, shape (n, k), ascending and positive.
    levels
        Their levels, shape (k,), ascending.
    """
    below = amounts[:, 0] * levels[0] / 2
    between = np.trapezoid(amounts, levels, axis=1)
    above = amounts[:, -1] * TAIL_MEAN * (1 - levels[-1])
    return np.asarray(below + between + above, dtype=np.float64)


class ConformalBounds:
    """P10, P50 and P90 around an expected value, corrected on rows that no model has seen.

    A buyer's quantiles are scaled until their mean is the expected value over P(buy), so that the
    bounds always belong to the value that is served. Each bound is then multiplied by the factor
    at which, among unseen rows whose bound is not 0, the share of values not above it is its level
    (conformalized quantile regression, Romano, Patterson and Candes 2019, one-sided and
    multiplicative, since errors grow with the value). By how much the unseen total was missed says
    nothing of one customer's spread, so it is taken out before, and widens P10 and P90 after.

    Where P(buy) is below 10 %, more than nine in ten bring nothing, and P90 is 0.

    Parameters
    ----------
    levels
        Levels of the buyers' quantiles that come in.

    Attributes
    ----------
    factors_
        One per bound, widening included.
    level_
        Total of the unseen values over what was expected of them.
    """

    def __init__(self, levels: tuple[float, ...]) -> None:
        self.levels = levels

    def fit(self, amounts: Floats, probability: Floats, value: Floats, actual: Floats) -> Self:
        """Learn the factors.

        Parameters
        ----------
        amounts
            Quantiles of a buyer's value, shape (n, k).
        probability
            P(value > 0), shape (n,).
        value
            Expected value, shape (n,).
        actual
            What came to pass, shape (n,).
        """
        self.level_ = _bounded(float(actual.sum()) / max(float(value.sum()), 1e-9))
        widening = max(self.level_, 1 / self.level_)
        factors = []
        for level, bound in zip(LEVELS, self._raw(amounts, probability, value), strict=True):
            above = bound > 0
            factor = 1.0
            if above.any():
                ratio = actual[above] / (bound[above] * self.level_)
                # "higher" is the finite-sample choice: at least the level is covered.
                factor = _bounded(float(np.quantile(ratio, level, method="higher")))
            widened = {LEVELS[0]: 1 / widening, LEVELS[-1]: widening}.get(level, 1.0)
            factors.append(factor * widened)
        self.factors_ = tuple(factors)
        return self

    def predict(self, amounts: Floats, probability: Floats, value: Floats) -> Floats:
        """Return the corrected bounds, ascending along each row, shape (n, 3)."""
        raw = self._raw(amounts, probability, value)
        bounds = [factor * bound for factor, bound in zip(self.factors_, raw, strict=True)]
        return np.sort(np.column_stack(bounds), axis=1)

    def _raw(self, amounts: Floats, probability: Floats, value: Floats) -> list[Floats]:
        levels = np.array(self.levels)
        buyer = np.maximum(value, 1e-9) / np.clip(probability, 1e-9, 1.0)
        scaled = amounts * (buyer / implied_mean(amounts, levels))[:, None]
        return [mixture_quantile(scaled, levels, probability, level) for level in LEVELS]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "levels": list(self.levels),
            "factors": list(self.factors_),
            "level": self.level_,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        bounds = cls(tuple(document["levels"]))
        bounds.factors_ = tuple(document["factors"])
        bounds.level_ = document["level"]
        return bounds


def _bounded(factor: float) -> float:
    return float(np.clip(factor, 1 / LARGEST_FACTOR, LARGEST_FACTOR))
