"""How far groups of customers go another way than the shop, as past cutoffs tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clv_pipeline.evaluation.backtest import MIN_SLICE_ROWS, FoldResult
from clv_pipeline.models.candidates import ENSEMBLE
from clv_pipeline.models.coherence import hurdle_variance

# The groups that totals are published of.
GROUP_KINDS = ("segment", "country")
# Taken for granted where nothing could be measured; counts as much as so many groups.
PRIOR_SPREAD = 0.1
PRIOR_GROUPS = 5.0
MOST_SPREAD = 0.5


def estimate_group_spread(
    results: Sequence[FoldResult], model: str, variance_ratio: float = 1.0
) -> float:
    """Return the spread of groups around the shop beyond the luck of their customers.

    Method of moments over the groups of all folds: a group's actual over predicted total, relative
    to the shop's own, is off by 1 plus an error of variance spread^2 + luck; groups count by how
    sure their luck lets one be, and the estimate is drawn towards ``PRIOR_SPREAD``.

    Parameters
    ----------
    results
        The folds of one horizon.
    model
        What serves.
    variance_ratio
        What the variance of a customer's luck (`hurdle_variance`) is multiplied by.

    Returns
    -------
    float
        Standard deviation, relative to the group's total.
    """
    squares, lucks = [], []
    for result in results:
        value, actual = result.value[model], result.target.value
        chance = result.probability.get(ENSEMBLE)
        if chance is None or value.sum() <= 0 or actual.sum() <= 0:
            continue
        level = actual.sum() / value.sum()
        luck = variance_ratio * hurdle_variance(value * level, chance)
        for kind in GROUP_KINDS:
            names = result.slices.get(kind)
            for name in [] if names is None else np.unique(names):
                mask = names == name
                expected = level * value[mask].sum()
                if mask.all() or mask.sum() < MIN_SLICE_ROWS or expected <= 0:
                    continue
                squares.append(float(actual[mask].sum() / expected - 1) ** 2)
                lucks.append(float(luck[mask].sum() / expected**2))
    if not squares:
        return PRIOR_SPREAD
    luck_of = np.array(lucks)
    weight = 1 / (PRIOR_SPREAD**2 + luck_of) ** 2
    found = max(float(np.average(np.array(squares) - luck_of, weights=weight)), 0.0)
    groups = float(weight.sum() ** 2 / (weight**2).sum())
    variance = (PRIOR_GROUPS * PRIOR_SPREAD**2 + groups * found) / (PRIOR_GROUPS + groups)
    return float(min(variance**0.5, MOST_SPREAD))
