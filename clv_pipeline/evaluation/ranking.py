"""The order of scores, ties averaged: what most measures of predictions begin with."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# A dozen measures rank the same predictions: the order of so many scores at most is kept.
MOST_KEPT = 50_000


def _group(scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the number of each score's group of equal scores, lowest first, and their sizes."""
    _, group, count = np.unique(scores, return_inverse=True, return_counts=True)
    return group, count


@lru_cache(maxsize=64)
def _group_kept(scores: bytes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    group, count = _group(np.frombuffer(scores))
    group.flags.writeable = count.flags.writeable = False
    return group, count


class Ranking:
    """The order of one array of scores, kept so that many weightings cost no further sort.

    Parameters
    ----------
    scores
        What the rows are ordered by; equal scores form one group.
    """

    def __init__(self, scores: ArrayLike) -> None:
        array = np.asarray(scores, dtype=np.float64)
        if array.size <= MOST_KEPT:
            self.group, self.count = _group_kept(array.tobytes())
        else:
            self.group, self.count = _group(array)

    def totals(self, values: Floats) -> Floats:
        """Sum ``values`` within each group of equal scores, lowest score first."""
        found = np.bincount(self.group, weights=values, minlength=len(self.count))
        return found.astype(np.float64)

    def middle_ranks(self, weights: Floats) -> Floats:
        """Return each row's average rank, as a weight below it plus half of its group's."""
        mass = self.totals(weights)
        return (np.cumsum(mass) - mass / 2)[self.group]
