"""Of customers with the same value, those likelier to order go first.

A value is a chance times an amount, and amounts are the less certain of the two: few orders say
what a customer spends, and experts believe them too much. So a value is multiplied by what the
customer's chance is over the usual chance at that value, to a small power. Over the 14 cutoffs of
``benchmarks.accuracy`` that ranks better, and costs neither totals nor squared error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from clv_pipeline.models.panel import Floats

POWER = 0.2
# So many groups of customers of similar value tell the usual chance, each of so many at least.
GROUPS, FEWEST_IN_GROUP = 50, 20
FEWEST_GROUPS = 20
# Nobody's value is moved by more than this factor, either way.
MOST = 1.5
_LEAST_VALUE, _LEAST_CHANCE = 1e-9, 1e-6


class Tilt:
    """What values are multiplied by for how likely an order is.

    Parameters
    ----------
    power
        Of the chance over the usual chance at that value; 0 leaves values as they are.

    Attributes
    ----------
    values_, chances_
        Logarithms: of the mean value of each group, and of the usual chance there, which nowhere
        falls; empty where there are too few customers to tell.
    """

    def __init__(self, power: float = POWER) -> None:
        self.power = power

    def fit(self, value: Floats, chance: Floats) -> Self:
        """Learn the usual chance at each value.

        Parameters
        ----------
        value, chance
            Of the same customers, shape (n,).
        """
        self.values_, self.chances_ = np.zeros(0), np.zeros(0)
        known = np.flatnonzero(value > 0)
        count = min(GROUPS, len(known) // FEWEST_IN_GROUP)
        if count < FEWEST_GROUPS:
            return self
        logs, chances = _logs(value[known], chance[known])
        groups = np.array_split(np.argsort(logs, kind="stable"), count)
        self.values_ = np.array([logs[group].mean() for group in groups])
        usual = [chances[group].mean() for group in groups]
        self.chances_ = np.maximum.accumulate(usual)
        return self

    def factor(self, value: Floats, chance: Floats) -> Floats:
        """Return what each value is multiplied by, shape (n,)."""
        if not len(self.values_):
            return np.ones(len(value))
        logs, chances = _logs(value, chance)
        usual = np.interp(logs, self.values_, self.chances_)
        most = np.log(MOST)
        found = np.exp(np.clip(self.power * (chances - usual), -most, most))
        return np.asarray(found, dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "power": self.power,
            "values": self.values_.tolist(),
            "chances": self.chances_.tolist(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        tilt = cls(document["power"])
        tilt.values_, tilt.chances_ = np.array(document["values"]), np.array(document["chances"])
        return tilt

    @classmethod
    def none(cls) -> Self:
        """Return what leaves every value as it is."""
        return cls(0.0).fit(np.zeros(0), np.zeros(0))


def _logs(value: Floats, chance: Floats) -> tuple[Floats, Floats]:
    return np.log(np.maximum(value, _LEAST_VALUE)), np.log(np.maximum(chance, _LEAST_CHANCE))
