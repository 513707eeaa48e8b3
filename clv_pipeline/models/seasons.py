"""What a shop's season does to its customers: levels of past label windows, learned and applied.

Buy-till-you-die knows no season. The *level* of a cutoff is the logarithm of what its customers
brought over the label window, over what buy-till-you-die, fitted at that cutoff, expected of them.
It holds the season of that window and the model's own error. Boosted models learn with the level
as an offset, so that a Christmas quarter among the training windows teaches them who buys more than
others, not that everybody does. What they say is then free of season, and the level that is
forecast for the window ahead (``totals``) puts it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.models.boosters import RowLevels
from clv_pipeline.models.giants import cap_giants
from clv_pipeline.models.history import FORECAST
from clv_pipeline.models.panel import Floats, Matrix, Target
from clv_pipeline.models.season_index import NO_SEASON, SeasonIndex, first_day_of
from clv_pipeline.models.totals import LevelForecast, forecast_level, season_strength
from clv_pipeline.timeline import Cutoff

KINDS = ("value", "orders", "chance")
# The last is not forecast: it is the part of the value that more buyers do not account for.
MEASURED = (*KINDS, "amount")
# So many customers who bought make half of a level believed.
HALF_BELIEVED = 20.0
LARGEST_LEVEL = float(np.log(4.0))
LEAST_CHANCE = 1e-6


@dataclass(frozen=True)
class Levels:
    """By cutoff, how far its label window lay from what buy-till-you-die expected.

    Attributes
    ----------
    horizon_days
        H of the windows.
    known
        By cutoff and in the order of ``MEASURED``: logarithm of the ratio of values, logarithm of
        the ratio of orders, shift of the log odds of an order, and logarithm of the ratio of a
        buyer's values.
    index
        What the calendar alone says of a window.
    """

    horizon_days: int
    known: Mapping[Cutoff, tuple[float, ...]]
    index: SeasonIndex = NO_SEASON

    @classmethod
    def measure(
        cls,
        X: Matrix,
        y: Target,
        horizon_days: int,
        giant_multiple: float = np.inf,
        index: SeasonIndex = NO_SEASON,
    ) -> Self:
        """Measure the levels of whole cutoffs.

        Parameters
        ----------
        X
            Every customer of each cutoff, with ``history.FORECAST`` as made at that cutoff; without
            these columns nothing is known.
        y
            What came to pass.
        horizon_days
            H of the labels.
        giant_multiple
            Expected values of giants are capped as their labels are (``giants``).
        index
            Of the months; it learns the shop's first day from the rows.
        """
        known: dict[Cutoff, tuple[float, ...]] = {}
        if FORECAST[0] not in X:
            return cls(horizon_days, known, index)
        value, chance, orders = (X.column(name) for name in FORECAST)
        for day in np.unique(X.cutoff_date):
            rows = X.cutoff_date == day
            expected = cap_giants(value[rows], giant_multiple)
            bought = float(y.has_purchase[rows].sum())
            believed = bought / (bought + HALF_BELIEVED)
            total = np.maximum(y.value[rows], 0.0).sum()
            shift = chance_shift(chance[rows], bought)
            moved = shift_chance(chance[rows], shift) / np.maximum(chance[rows], LEAST_CHANCE)
            found = (
                _log_ratio(total, expected.sum()),
                _log_ratio(y.orders[rows].sum(), orders[rows].sum()),
                shift,
                _log_ratio(total, (expected * moved).sum()),
            )
            bounded = np.clip(found, -LARGEST_LEVEL, LARGEST_LEVEL) * believed
            cutoff = _cutoff(day)
            known[cutoff] = tuple(float(level) for level in bounded)
            index = index.since(
                first_day_of(cutoff, float(np.nan_to_num(X.column("T")[rows]).max()))
            )
        return cls(horizon_days, known, index)

    def through(self, newest: Cutoff) -> Levels:
        """Return the levels of cutoffs up to one, included."""
        return replace(self, known={c: k for c, k in self.known.items() if c <= newest})

    def of_rows(self, cutoff_date: NDArray[np.datetime64]) -> RowLevels:
        """Return the levels of rows by their cutoff; 0 where unknown."""
        found = np.zeros((len(MEASURED), len(cutoff_date)))
        for day in np.unique(cutoff_date):
            levels = self.known.get(_cutoff(day), (0.0,) * len(MEASURED))
            found[:, cutoff_date == day] = np.array(levels)[:, None]
        return RowLevels(*found)

    def forecast(self, target: Cutoff) -> dict[str, LevelForecast]:
        """Forecast the levels of the window after a cutoff, from windows that had matured by then.

        Returns
        -------
        dict
            By one of ``KINDS``.
        """
        return {
            kind: forecast_level(
                {c: levels[k] for c, levels in self.known.items()},
                target,
                self.horizon_days,
                self.index,
            )
            for k, kind in enumerate(KINDS)
        }

    def season(self, target: Cutoff, horizon_days: int) -> float:
        """Return what the calendar alone says of another window after a cutoff, as a log ratio."""
        known = {c: levels[0] for c, levels in self.known.items()}
        matured = {c: v for c, v in known.items() if c.is_matured(self.horizon_days, target.day)}
        index = {c: self.index.log_ratio(c, self.horizon_days) for c in matured}
        strength = season_strength(matured, index, self.horizon_days)
        return strength * self.index.log_ratio(target, horizon_days)

    def forecast_rows(self, cutoff_date: NDArray[np.datetime64]) -> tuple[Floats, Floats, Floats]:
        """Return the forecast levels of rows, each at its own cutoff."""
        found = np.zeros((3, len(cutoff_date)))
        for day in np.unique(cutoff_date):
            levels = self.forecast(_cutoff(day))
            ahead = np.array([levels[kind].level for kind in KINDS])
            found[:, cutoff_date == day] = ahead[:, None]
        return found[0], found[1], found[2]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        known = {str(c): list(levels) for c, levels in sorted(self.known.items())}
        return {
            "horizon_days": self.horizon_days,
            "known": known,
            "index": self.index.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        known = {Cutoff.parse(c): tuple(levels) for c, levels in document["known"].items()}
        return cls(document["horizon_days"], known, SeasonIndex.from_dict(document["index"]))


def chance_shift(chance: Floats, count: float) -> float:
    """Return what must be added to all log odds for the chances to add up to a count (Newton)."""
    odds = log_odds(chance)
    target = float(np.clip(count, 0.5, len(chance) - 0.5)) if len(chance) else 0.0
    shift = 0.0
    for _ in range(50):
        p = logistic(odds + shift)
        step = (target - float(p.sum())) / max(float((p * (1 - p)).sum()), 1e-9)
        shift += float(np.clip(step, -1.0, 1.0))
        if abs(step) < 1e-10:
            break
    return float(np.clip(shift, -LARGEST_LEVEL, LARGEST_LEVEL))


def shift_chance(chance: Floats, shift: Floats | float) -> Floats:
    """Return chances with their log odds shifted; a chance of 0 stays 0."""
    moved = logistic(log_odds(chance) + shift)
    return np.where((chance > 0) & (np.asarray(shift) != 0), moved, chance)


def log_odds(chance: Floats) -> Floats:
    """Return the logarithm of the odds of chances, kept off 0 and 1."""
    p = np.clip(chance, LEAST_CHANCE, 1 - LEAST_CHANCE)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float64)


def logistic(odds: Floats) -> Floats:
    """Return the chances of log odds."""
    return np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)


def _log_ratio(actual: float, expected: float) -> float:
    if expected <= 0:
        return 0.0
    return float(np.log(max(actual, expected * 1e-3) / expected))


def _cutoff(day: np.datetime64) -> Cutoff:
    return Cutoff(day.astype("datetime64[D]").item())
