"""What every answer must obey, enforced in one place: order of quantiles and of horizons."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from clv_pipeline.models.panel import Floats

# Spread of the logarithm of a buyer's value where no interval could be learned.
DEFAULT_LOG_SPREAD = 1.0
QUANTILE_LEVELS = (0.1, 0.5, 0.9)


def ascending(values: Floats) -> Floats:
    """Return the nearest values that do not fall along each row (isotonic regression).

    The least-squares solution with equal weights, by its min-max formula (Barlow et al. 1972):
    violations are shared between both sides, so that totals over the columns are kept.

    Parameters
    ----------
    values
        Shape (n, k), k small.
    """
    n, k = values.shape
    sums = np.concatenate([np.zeros((n, 1)), np.cumsum(values, axis=1)], axis=1)
    found = np.empty_like(values)
    for j in range(k):
        highest = np.full(n, -np.inf)
        for start in range(j + 1):
            means = [(sums[:, end] - sums[:, start]) / (end - start) for end in range(j + 1, k + 1)]
            highest = np.maximum(highest, np.min(means, axis=0))
        found[:, j] = highest
    # Rounding may leave the last bit falling.
    return np.maximum.accumulate(found, axis=1)


def discounted(values: Floats, horizons: tuple[int, ...], yearly_rate: float) -> Floats:
    """Discount value that grows over the horizons, each increment at the middle of its span.

    Parameters
    ----------
    values
        Shape (n, horizons), undiscounted and ascending.
    horizons
        Days, ascending.
    yearly_rate
        r; value after t days counts (1 + r) ** (-t / 365).
    """
    if yearly_rate == 0:
        return values
    ends = np.array(horizons, dtype=np.float64)
    starts = np.concatenate([[0.0], ends[:-1]])
    factor = (1 + yearly_rate) ** (-(starts + ends) / 2 / 365)
    return np.cumsum(np.diff(values, axis=1, prepend=0.0) * factor, axis=1)


def hurdle_quantiles(
    value: Floats, probability: Floats, log_spread: float = DEFAULT_LOG_SPREAD
) -> Floats:
    """Return P10, P50, P90 of a value that is 0, or else lognormal, with a given mean.

    Parameters
    ----------
    value
        Mean, zeros included.
    probability
        P(value > 0).
    log_spread
        Standard deviation of the logarithm of positive values.

    Returns
    -------
    array
        Shape (n, 3).
    """
    p = np.clip(probability, 1e-9, 1.0)
    location = np.log(np.maximum(value, 1e-12) / p) - log_spread**2 / 2
    columns = []
    for level in QUANTILE_LEVELS:
        within = np.clip((level - (1 - p)) / p, 0.0, 1.0)
        positive = np.exp(location + log_spread * ndtri(np.clip(within, 1e-9, 1 - 1e-9)))
        columns.append(np.where((within > 0) & (value > 0), positive, 0.0))
    return np.column_stack(columns)


def finite(values: Floats, fallback: Floats | float, largest: float) -> Floats:
    """Return the values with anything not finite replaced, kept within +-``largest``."""
    known = np.where(np.isfinite(values), values, fallback)
    return np.asarray(np.clip(np.nan_to_num(known), -largest, largest), dtype=np.float64)
