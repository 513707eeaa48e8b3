"""Bounds of every customer's value: hurdle quantiles, corrected on rows that no model has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from clv_pipeline.models.panel import Floats

LEVELS = (0.1, 0.5, 0.9)
# One past cutoff may correct a bound by so much at most.
LARGEST_FACTOR = 5.0


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


class ConformalBounds:
    """P10, P50 and P90, each times the factor with which it holds on unseen rows.

    For each level, among unseen rows whose bound is not 0, the factor is the one at which the share
    of values not above the bound is the level: conformalized quantile regression (Romano, Patterson
    and Candes 2019), one-sided and multiplicative, since errors grow with the value. A bound of 0
    stays 0.

    Parameters
    ----------
    levels
        Levels of the buyers' quantiles that come in.

    Attributes
    ----------
    factors_
        One per bound.
    """

    def __init__(self, levels: tuple[float, ...]) -> None:
        self.levels = levels

    def fit(self, amounts: Floats, probability: Floats, actual: Floats) -> Self:
        """Learn the factors.

        Parameters
        ----------
        amounts
            Quantiles of a buyer's value, shape (n, k).
        probability
            P(value > 0), shape (n,).
        actual
            What came to pass, shape (n,).
        """
        factors = []
        for level in LEVELS:
            bound = self._raw(amounts, probability, level)
            above = bound > 0
            factor = 1.0
            if above.any():
                ratio = actual[above] / bound[above]
                # "higher" is the finite-sample choice: at least the level is covered.
                factor = float(np.quantile(ratio, level, method="higher"))
            factors.append(float(np.clip(factor, 1 / LARGEST_FACTOR, LARGEST_FACTOR)))
        self.factors_ = tuple(factors)
        return self

    def predict(self, amounts: Floats, probability: Floats) -> Floats:
        """Return the corrected bounds, ascending along each row, shape (n, 3)."""
        bounds = [
            factor * self._raw(amounts, probability, level)
            for level, factor in zip(LEVELS, self.factors_, strict=True)
        ]
        return np.sort(np.column_stack(bounds), axis=1)

    def _raw(self, amounts: Floats, probability: Floats, level: float) -> Floats:
        return mixture_quantile(amounts, np.array(self.levels), probability, level)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"levels": list(self.levels), "factors": list(self.factors_)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        bounds = cls(tuple(document["levels"]))
        bounds.factors_ = tuple(document["factors"])
        return bounds
