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


def hurdle_intervals(
    value: Floats,
    probability: Floats,
    coverages: tuple[float, ...] = (0.8, 0.95),
    log_spread: float = DEFAULT_LOG_SPREAD,
) -> Floats:
    """Return intervals of a value that is 0, or else lognormal, where none could be learned.

    0 belongs to an interval unless P(value > 0) is above its coverage; the upper end is then the
    buyers' quantile at the coverage. The order is that of ``intervals.INTERVALS``.

    Returns
    -------
    array
        Shape (n, 2 * coverages), ascending along each row.
    """
    p = np.clip(probability, 1e-9, 1.0)
    location = np.log(np.maximum(value, 1e-12) / p) - log_spread**2 / 2
    lows, highs = [], []
    for coverage in sorted(coverages):
        likely, tail = p > coverage, (1 - coverage) / 2
        upper = np.where(likely, ndtri(1 - tail), ndtri(coverage))
        low = np.where(likely, np.exp(location + log_spread * ndtri(tail)), 0.0)
        lows.append(np.where(value > 0, low, 0.0))
        highs.append(np.where(value > 0, np.exp(location + log_spread * upper), 0.0))
    lowest = np.minimum.accumulate(np.column_stack(lows), axis=1)[:, ::-1]
    highest = np.maximum.accumulate(np.column_stack(highs), axis=1)
    return np.maximum.accumulate(np.hstack([lowest, highest]), axis=1)


def hurdle_variance(
    value: Floats, probability: Floats, log_spread: float = DEFAULT_LOG_SPREAD
) -> Floats:
    """Return the variance of a value that is 0, or else lognormal: E[y]^2 (exp(s^2) / p - 1)."""
    p = np.clip(probability, 1e-3, 1.0)
    return np.asarray(value**2 * (np.exp(log_spread**2) / p - 1), dtype=np.float64)


def finite(values: Floats, fallback: Floats | float, largest: float) -> Floats:
    """Return the values with anything not finite replaced, kept within +-``largest``."""
    known = np.where(np.isfinite(values), values, fallback)
    return np.asarray(np.clip(np.nan_to_num(known), -largest, largest), dtype=np.float64)
