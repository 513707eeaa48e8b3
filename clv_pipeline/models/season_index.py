"""What the calendar alone says of a window: a monthly index that is known before the shop's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Self

import numpy as np

from clv_pipeline.timeline import YEAR_DAYS, Cutoff

FLAT = (1.0,) * 12


@dataclass(frozen=True)
class SeasonIndex:
    """A shop's days, each by the index of its month.

    Buy-till-you-die takes the days that it was fitted on for usual ones. So a window is expected to
    lie above it by as much as the window's mean index is above the index of those days, of a year
    at most: over whole years every season counts alike.

    Attributes
    ----------
    monthly
        Twelve positive figures, January first; only their ratios matter.
    first_day
        The shop's first day with data; None: unknown, as if there were a whole year.
    """

    monthly: tuple[float, ...] = FLAT
    first_day: date | None = None

    def since(self, first_day: date) -> SeasonIndex:
        """Return the same index for a shop that began on a day, or on an earlier one."""
        earliest = first_day if self.first_day is None else min(first_day, self.first_day)
        return SeasonIndex(self.monthly, earliest)

    def days_known(self, cutoff: Cutoff) -> int:
        """Count the shop's days up to a cutoff, from one day to a year."""
        if self.first_day is None:
            return YEAR_DAYS
        return int(np.clip((cutoff.day - self.first_day).days + 1, 1, YEAR_DAYS))

    def log_ratio(self, cutoff: Cutoff, horizon_days: int) -> float:
        """Return the logarithm of a window's mean index over that of the days up to the cutoff."""
        if len(set(self.monthly)) == 1:
            return 0.0
        known = self.days_known(cutoff)
        ahead = self._mean(cutoff.shift(1).day, horizon_days)
        behind = self._mean(cutoff.shift(1 - known).day, known)
        return float(np.log(ahead / behind))

    def _mean(self, first: date, days: int) -> float:
        start = np.datetime64(first)
        months = np.arange(start, start + days).astype("datetime64[M]").astype(np.int64) % 12
        return float(np.mean(np.array(self.monthly)[months]))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "monthly": list(self.monthly),
            "first_day": self.first_day.isoformat() if self.first_day else None,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        first = document["first_day"]
        return cls(tuple(document["monthly"]), date.fromisoformat(first) if first else None)


# Every month is alike.
NO_SEASON = SeasonIndex()


def first_day_of(cutoff: Cutoff, longest_days: float) -> date:
    """Return the day of the oldest first order, from the largest T of a cutoff's customers."""
    return cutoff.day - timedelta(days=int(longest_days))
