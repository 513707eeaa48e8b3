"""Giants in training: a label beyond anything that the shop knows counts as less, answers do not.

Capping at the 99.5 % quantile throws away what real giants bring (the ranking holds, the squared
error grows by a fifth where a few wholesalers are the shop). One order of ten million in a shop of
fifties is another matter: left as it is, it multiplies what everybody else is predicted. So the cap
lies at a multiple of that quantile which real giants do not reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.models.panel import Floats, Target

HIGH_QUANTILE = 0.995


def cap_giants(values: Floats, multiple: float) -> Floats:
    """Return values capped at a multiple of the high quantile of the positive ones.

    The quantile is an observed value, the next lower one, so that a lone giant is never its own
    yardstick.
    """
    return np.minimum(values, find_cap(values, multiple))


def find_cap(values: Floats, multiple: float) -> float:
    """Return where values are capped; infinite where too few of them are positive."""
    positive = values[values > 0]
    if len(positive) < 3:
        return float(np.inf)
    return multiple * float(np.quantile(positive, HIGH_QUANTILE, method="lower"))


def tame(y: Target, windows: NDArray[Any], multiple: float) -> Target:
    """Return the labels with giants capped, window by window.

    Parameters
    ----------
    y
        Labels.
    windows
        Which window each row is of, such as its cutoff; shape (n,).
    multiple
        Of the high quantile.
    """
    value = y.value.copy()
    for window in np.unique(windows):
        rows = windows == window
        value[rows] = cap_giants(value[rows], multiple)
    return Target(value, y.orders, y.has_purchase)
