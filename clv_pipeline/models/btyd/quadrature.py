"""Two integrals in log space, in place of hypergeometric functions that overflow or cancel."""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, log_expit

from clv_pipeline.models.btyd.fitting import FloatArray

# An integrand e^45 below its start adds nothing to a float64 sum.
NEGLIGIBLE = 45.0
# 32 nodes integrate exp(-45 y) on [0, 1] to within rounding.
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)
PANEL_NODES, PANEL_WEIGHTS = np.polynomial.legendre.leggauss(16)
COUNT_PANELS = 24
# Few enough that the working arrays stay in the cache of a core.
ROWS_AT_ONCE = 1_024


def log_power_integral(
    p: FloatArray,
    q: float,
    alpha: float,
    beta: float,
    low: FloatArray,
    high: FloatArray,
    moments: bool = False,
) -> tuple[FloatArray, FloatArray]:
    r"""Return :math:`\log \int_{low}^{high} (\alpha+u)^{-p} (\beta+u)^{-q} du`.

    The Pareto/NBD likelihood is usually written as a difference of two Gaussian hypergeometric
    functions (Fader and Hardie 2005), which overflow and cancel for frequencies in the
    hundreds. The integral behind them has a positive integrand. With :math:`u + \min(\alpha,
    \beta)` growing exponentially in a new variable, the integrand is smooth on a scale of one and
    falls log-convexly, so it can be cut where it is negligible and summed by Gauss-Legendre.

    Parameters
    ----------
    p, low, high
        One value per row; ``low <= high``. Equal bounds give minus infinity.
    q, alpha, beta
        Positive numbers.
    moments
        Also return the means, under the normalised integrand, of log(alpha+u), 1/(alpha+u),
        log(beta+u) and 1/(beta+u): the gradient is made of them.

    Returns
    -------
    The log integral (rows,), and the means (4, rows), or (0, rows) when not asked for.
    """
    result = np.empty(low.size)
    means = np.empty((4 if moments else 0, low.size))
    for begin in range(0, low.size, ROWS_AT_ONCE):
        rows = slice(begin, begin + ROWS_AT_ONCE)
        result[rows], means[:, rows] = _log_power_integral(
            p[rows], q, alpha, beta, low[rows], high[rows], moments
        )
    return result, means


def _log_power_integral(
    p: FloatArray,
    q: float,
    alpha: float,
    beta: float,
    low: FloatArray,
    high: FloatArray,
    moments: bool,
) -> tuple[FloatArray, FloatArray]:
    shift = min(alpha, beta)
    base = low + shift
    length = _negligible_from(
        p, q, alpha - shift, beta - shift, base, np.log1p((high - low) / base)
    )
    exponent = length[:, None] * (NODES[None, :] + 1.0) / 2.0
    moved = base[:, None] * np.exp(exponent)
    first, second = moved + (alpha - shift), moved + (beta - shift)
    log_first, log_second = np.log(first), np.log(second)
    log_integrand = exponent - p[:, None] * log_first - q * log_second
    peak = log_integrand.max(axis=1)
    mass = np.exp(log_integrand - peak[:, None]) * NODE_WEIGHTS
    total = mass.sum(axis=1)
    with np.errstate(divide="ignore"):  # equal bounds: the logarithm of an empty integral
        log_integral = peak + np.log(total) + np.log(base * length / 2.0)
    if not moments:
        return log_integral, np.empty((0, low.size))
    parts = (log_first, 1.0 / first, log_second, 1.0 / second)
    return log_integral, np.stack([(mass * part).sum(axis=1) / total for part in parts])


def _negligible_from(
    p: FloatArray, q: float, gap_first: float, gap_second: float, base: FloatArray, end: FloatArray
) -> FloatArray:
    """Return where the integrand has become negligible, or ``end`` where it never does.

    The fall is convex in the new variable, so Newton's method from the right never undershoots.
    """
    log_first, log_second = np.log(base + gap_first), np.log(base + gap_second)
    reach = end.copy()
    for _ in range(10):
        moved = base * np.exp(reach)
        first, second = moved + gap_first, moved + gap_second
        fall = p * (np.log(first) - log_first) + q * (np.log(second) - log_second) - reach
        slope = p * moved / first + q * moved / second - 1.0
        is_beyond = (fall > NEGLIGIBLE) & (slope > 0.0)
        if not is_beyond.any():
            break
        reach[is_beyond] -= (fall[is_beyond] - NEGLIGIBLE) / slope[is_beyond]
    return reach


def beta_quadrature(a: float, b: float, finest: float) -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights for the mean of a function of a Beta(a, b) variable.

    The nodes are spread evenly over the log-odds, in panels of Gauss-Legendre nodes, over the
    range where the density matters. Beyond it one node on each side carries the remaining mass:
    with small a or b a good part of it lies at log-odds in the hundreds, where any function with
    the given resolution is constant.

    Parameters
    ----------
    a, b
        Parameters of the beta distribution, positive.
    finest
        Scale of the function near zero: it may vary on p of the order of ``1 / finest``.

    Returns
    -------
    Nodes in (0, 1] and weights that sum to one.
    """
    left = max(-_reach(b, a), -39.0 - float(np.log(max(finest, b, 1.0))))
    right = min(_reach(a, b), 39.0 + float(np.log(max(a, 1.0))))
    edges = np.linspace(left, right, COUNT_PANELS + 1)
    half = (right - left) / (2.0 * COUNT_PANELS)
    log_odds = (edges[:-1, None] + half * (PANEL_NODES + 1.0)).ravel()
    log_density = a * log_expit(log_odds) + b * log_expit(-log_odds) - betaln(a, b)
    weights = np.exp(log_density) * np.tile(PANEL_WEIGHTS * half, COUNT_PANELS)
    ends = np.array([left, right])
    beyond = np.exp(a * log_expit(ends) + b * log_expit(-ends) - betaln(a, b)) / np.array([a, b])
    nodes = np.exp(log_expit(np.concatenate([[left], log_odds, [right]])))
    mass = np.concatenate([beyond[:1], weights, beyond[1:]])
    return nodes, np.asarray(mass / mass.sum(), dtype=np.float64)


def _reach(a: float, b: float) -> float:
    """Return the log-odds right of the mode where the density has become negligible."""
    peak = a * np.log(a / (a + b)) + b * np.log(b / (a + b))
    # The density lies below exp(-b * log_odds), so this start is beyond the point sought.
    reach = (NEGLIGIBLE - peak) / b
    for _ in range(100):
        excess = peak - a * log_expit(reach) - b * log_expit(-reach) - NEGLIGIBLE
        slope = b - (a + b) * np.exp(log_expit(-reach))
        if excess < 1e-9 or slope <= 0.0:
            break
        reach -= excess / slope
    return float(reach)
