"""Conformal correction of predicted quantiles, on residuals that no model has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np

from clv_pipeline.models.panel import Floats

LEVELS = (0.1, 0.5, 0.9)


class ConformalBounds:
    """Shift each quantile by a multiple of the expected value until it holds on unseen rows.

    For level a the scores are (actual - quantile) / expected value, and the shift is their
    a-quantile (conformalized quantile regression, Romano, Patterson and Candes 2019, one-sided and
    scaled by the expected value, since errors grow with it).

    Attributes
    ----------
    shifts_
        One factor per level, in units of the expected value.
    floor_
        Least value that a bound may take: 0, unless refunds made values negative.
    """

    def fit(self, quantiles: Floats, value: Floats, actual: Floats) -> Self:
        """Learn the shifts.

        Parameters
        ----------
        quantiles
            Predicted, shape (n, 3).
        value
            Expected value, shape (n,), not negative.
        actual
            What came to pass, shape (n,).
        """
        self.floor_ = min(float(actual.min()), 0.0) if len(actual) else 0.0
        self.unit_ = max(float(value.mean()) * 0.05, 1e-9) if len(value) else 1.0
        shifts = []
        for k, level in enumerate(LEVELS):
            scores = (actual - quantiles[:, k]) / (value + self.unit_)
            # "higher" is the finite-sample choice: at least the level is covered.
            method: Literal["higher", "lower"] = "higher" if level >= 0.5 else "lower"
            shifts.append(float(np.quantile(scores, level, method=method)) if len(scores) else 0.0)
        self.shifts_ = tuple(shifts)
        return self

    def predict(self, quantiles: Floats, value: Floats) -> Floats:
        """Return corrected quantiles, ascending along each row, shape (n, 3)."""
        moved = quantiles + np.outer(value + self.unit_, self.shifts_)
        return np.sort(np.maximum(moved, self.floor_), axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"shifts": list(self.shifts_), "floor": self.floor_, "unit": self.unit_}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        bounds = cls()
        bounds.shifts_ = tuple(document["shifts"])
        bounds.floor_ = document["floor"]
        bounds.unit_ = document["unit"]
        return bounds
