"""A stated sample of a panel that is too large: more of the rare, weighed so that sums stay right.

Customers who bring nothing are many and alike, those who bring most of the value few and unlike.
Within each cutoff, buyers are drawn with twice the share of the others and the most valuable of
them with eight times (at most all of them), and each row weighs as many as it stands for. So sums
and means over the sample are those of the panel on average (Horvitz and Thompson 1952), with less
luck than those of rows drawn alike; `benchmarks/scale_models.py` measures what the sample costs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clv_pipeline.models.panel import Floats, Target

# Of the buyers of a cutoff, the share with the highest values.
TAIL = 0.05
# How much likelier than a customer without a purchase each kind is drawn: none, a buyer, the tail.
LIKELIER = (1.0, 2.0, 8.0)


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a panel, and how many of it each stands for.

    Attributes
    ----------
    rows
        Positions, ascending.
    weight
        In units of the mean, so that they average 1; None where every row is there.
    """

    rows: NDArray[np.int64]
    weight: Floats | None = None


def stratify(cutoff_date: NDArray[np.datetime64], y: Target, most: int, seed: int) -> Sample:
    """Draw at most ``most`` rows, stratified by cutoff and by what came to pass.

    Parameters
    ----------
    cutoff_date
        Of each row, shape (n,).
    y
        What came to pass, aligned.
    most
        Rows of the sample.
    seed
        The same one draws the same rows.
    """
    n = len(y)
    if n <= most:
        return Sample(np.arange(n))
    stratum = _strata(cutoff_date, y)
    kinds, place, sizes = np.unique(stratum, return_inverse=True, return_counts=True)
    counts = _allot(sizes, np.array(LIKELIER)[kinds % len(LIKELIER)], most)
    rng = np.random.default_rng(seed)
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(sizes)
    drawn = [
        rng.choice(order[end - size : end], count, replace=False)
        for end, size, count in zip(ends, sizes, counts, strict=True)
    ]
    rows = np.sort(np.concatenate(drawn))
    weight = (sizes / np.maximum(counts, 1))[place[rows]]
    return Sample(rows, weight / weight.mean())


def _strata(cutoff_date: NDArray[np.datetime64], y: Target) -> NDArray[np.int64]:
    """Return the number of each row's stratum: its cutoff, and whether it has none, some, much."""
    days, place = np.unique(cutoff_date, return_inverse=True)
    kind = y.has_purchase.astype(np.int64)
    for k in range(len(days)):
        buyers = np.flatnonzero((place == k) & y.has_purchase)
        if len(buyers):
            most = np.quantile(y.value[buyers], 1 - TAIL)
            kind[buyers[y.value[buyers] > most]] = 2
    return place * len(LIKELIER) + kind


def _allot(sizes: NDArray[np.int64], likelier: Floats, most: int) -> NDArray[np.int64]:
    """Return how many rows each stratum gives: shares in proportion, no more than there are."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        is_within = np.floor(sizes * np.minimum(middle * likelier, 1.0)).sum() <= most
        low, high = (middle, high) if is_within else (low, middle)
    found = np.floor(sizes * np.minimum(low * likelier, 1.0)).astype(np.int64)
    # A stratum of few rows must not vanish: nothing would stand for it.
    missing = np.flatnonzero(found == 0)
    return np.where(np.isin(np.arange(len(sizes)), missing[: most - found.sum()]), 1, found)


def customer_part(customers: pd.Series, parts: int) -> NDArray[np.int64]:
    """Put each customer into one of so many groups, by a hash of the id: stable, and blind."""
    names = customers.astype(str)
    group = {
        name: hashlib.blake2b(name.encode(), digest_size=4).digest()[0] % parts
        for name in names.unique()
    }
    return names.map(group).to_numpy(dtype=np.int64)
