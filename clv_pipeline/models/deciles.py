"""Calibration of deciles: a monotone map of the blended value, learned on unseen rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from clv_pipeline.models.panel import Floats

BINS = 10
# So many equal buyers of a bin make half of its factor believed.
HALF_BELIEVED = 100.0
# Between bins the value rises at least so much per step of the prediction, on the log scale.
LEAST_SLOPE = 0.25
LEAST_ROWS = 200
# A decile that brought nothing counts as this share of what was expected of it.
LEAST_RATIO = 0.05


class DecileCalibration:
    """Factors by decile of the prediction, shrunk towards 1 and joined on the log scale.

    A decile's factor is what its rows brought over what was predicted of them, in units of the mean
    over the deciles, drawn towards 1 by
    how many equal buyers stand behind it: the square of the values' sum over the sum of their
    squares, so that one giant is hardly more than one buyer. Beyond the middle of the outer deciles
    the factor stays, so that giants keep their distances; the map is strictly rising, so that no
    rank changes; and the total of the rows it was learned on is kept, since the level has a
    forecast of its own.

    Attributes
    ----------
    points_, factors_
        Logarithms of predictions, ascending, and of the factors there; empty for the identity.
    """

    def __init__(self) -> None:
        self.points_: Floats = np.zeros(0)
        self.factors_: Floats = np.zeros(0)

    def fit(self, predicted: Floats, actual: Floats) -> Self:
        """Learn the map.

        Parameters
        ----------
        predicted
            Positive where anything is expected, shape (n,).
        actual
            What came to pass, shape (n,).
        """
        self.points_, self.factors_ = np.zeros(0), np.zeros(0)
        kept = predicted > 0
        value, came = predicted[kept], np.maximum(actual[kept], 0.0)
        if len(value) < LEAST_ROWS or came.sum() <= 0:
            return self
        points, ratios, believed, expected = (np.zeros(BINS) for _ in range(4))
        for k, part in enumerate(np.array_split(np.argsort(value, kind="stable"), BINS)):
            expected[k], total = value[part].sum(), float(came[part].sum())
            equal_buyers = total**2 / float(np.sum(came[part] ** 2)) if total > 0 else 0.0
            believed[k] = equal_buyers / (equal_buyers + HALF_BELIEVED)
            points[k] = np.log(expected[k] / len(part))
            ratios[k] = np.log(max(total, LEAST_RATIO * expected[k]) / expected[k])
        # The mean of logarithms: one giant's decile does not make the others look too low.
        usual = float(np.average(ratios, weights=expected))
        found = _rising(points, believed * (ratios - usual))
        self.points_, self.factors_ = found
        kept_total = float(value.sum()) / float(self.predict(value).sum())
        self.factors_ = self.factors_ + np.log(kept_total)
        return self

    def predict(self, predicted: Floats) -> Floats:
        """Return calibrated values; 0 stays 0."""
        if not len(self.points_):
            return predicted
        place = np.log(np.maximum(predicted, 1e-12))
        return np.asarray(predicted * np.exp(np.interp(place, self.points_, self.factors_)))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"points": self.points_.tolist(), "factors": self.factors_.tolist()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        found = cls()
        found.points_ = np.array(document["points"], dtype=np.float64)
        found.factors_ = np.array(document["factors"], dtype=np.float64)
        return found


def _rising(points: Floats, factors: Floats) -> tuple[Floats, Floats]:
    """Return distinct points, and factors under which the calibrated value rises everywhere."""
    points, first = np.unique(points, return_index=True)
    level = points + factors[first]
    for k in range(1, len(points)):
        level[k] = max(level[k], level[k - 1] + LEAST_SLOPE * (points[k] - points[k - 1]))
    return points, level - points
