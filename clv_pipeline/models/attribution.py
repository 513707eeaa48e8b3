"""Exact additive attribution: what sums, products, links and swapped inputs owe to each concept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clv_pipeline.models.panel import Floats

_STEP = 1e-6


@dataclass(frozen=True, eq=False)
class Parts:
    """A quantity of each customer, taken apart: ``base`` plus the effects of the concepts.

    Attributes
    ----------
    base
        The quantity of the reference customer; the same for everyone.
    effects
        Shape (n, concepts).
    """

    base: float
    effects: Floats

    @property
    def total(self) -> Floats:
        """What base and effects add up to, shape (n,)."""
        return np.asarray(self.base + self.effects.sum(axis=1), dtype=np.float64)

    def __add__(self, other: Parts) -> Parts:
        """Add two quantities, concept by concept."""
        return Parts(self.base + other.base, self.effects + other.effects)

    def times(self, factor: float) -> Parts:
        """Scale the quantity."""
        return Parts(self.base * factor, self.effects * factor)

    def product(self, other: Parts) -> Parts:
        """Multiply two quantities; each one's change counts at the mean of the other's two ends.

        The Shapley value of a game of two factors: ab - a'b' = (a - a')(b + b')/2 +
        (b - b')(a + a')/2. Adds up exactly.
        """
        left = ((other.total + other.base) / 2)[:, None] * self.effects
        right = ((self.total + self.base) / 2)[:, None] * other.effects
        return Parts(self.base * other.base, left + right)

    def through(self, link: Callable[[Floats], Floats]) -> Parts:
        """Pass the quantity through a monotone function, at its mean slope from base to total.

        With the exponential this is the logarithmic-mean decomposition (LMDI; Ang 2005, Energy
        Policy 33): effect_i = (p - b) / (log p - log b) * log effect_i. Adds up exactly.
        """
        base = float(link(np.array([self.base]))[0])
        change = self.total - self.base
        is_near = np.abs(change) < _STEP
        near = np.array([self.base - _STEP, self.base + _STEP])
        slope_there = float(np.diff(link(near))[0]) / (2 * _STEP)
        slope = np.where(
            is_near, slope_there, (link(self.total) - base) / np.where(is_near, 1.0, change)
        )
        return Parts(base, self.effects * slope[:, None])


def mix(
    parts: Mapping[str, Parts],
    weights: Mapping[str, Floats],
    usual: Mapping[str, float],
    total: Floats,
    shares: Callable[[Floats], Floats],
) -> Parts:
    """Add up quantities that each row weighs in its own way; the base keeps the usual weights.

    That a row's weights are not the usual ones moves what it starts from, and a mean that is no sum
    lies below the sum. The difference is spread over the row's effects, so that base and effects
    add up to the row's own total.

    Parameters
    ----------
    parts
        By name; there may be more than are weighed.
    weights
        By name, shape (n,).
    usual
        By name, the weights of the reference customer.
    total
        What each row adds up to, shape (n,).
    shares
        From effects to the shares in which a remainder is spread over them, shape (n, concepts).
    """
    base = sum(usual[name] * parts[name].base for name in weights)
    effects = sum(weights[name][:, None] * parts[name].effects for name in weights)
    found = np.asarray(effects, dtype=np.float64)
    shift = total - base - found.sum(axis=1)
    return Parts(float(base), found + shift[:, None] * shares(found))


def shapley(game: Mapping[int, Floats], players: int) -> Floats:
    """Return the exact Shapley value of each player (Shapley 1953), for every row at once.

    Parameters
    ----------
    game
        By coalition, as a bit mask over the players, its worth; shape (n,).
    players
        How many there are; the game has 2 ** players coalitions.

    Returns
    -------
    array
        Shape (n, players); rows add up to the worth of everyone less that of nobody.
    """
    found = np.zeros((len(game[0]), players))
    for mask in range(2**players):
        size = mask.bit_count()
        for player in range(players):
            if mask >> player & 1:
                continue
            weight = (
                math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            )
            found[:, player] += weight * (game[mask | 1 << player] - game[mask])
    return found
