"""Bounds of every customer's value: hurdle quantiles, corrected on rows that no model has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.models.giants import cap_giants
from clv_pipeline.models.panel import Floats
from clv_pipeline.models.seasons import chance_shift, shift_chance

# Of unseen rows: quantiles of a buyer's value, P(value > 0), expected value, what came to pass.
Residuals = tuple[Floats, Floats, Floats, Floats]

LEVELS = (0.1, 0.5, 0.9)
COVERAGES = (0.8, 0.95)
# Names of what ``ClassIntervals.predict`` returns, in its order.
INTERVALS = ("low_95", "low_80", "high_80", "high_95")
# An end is corrected by so much at most; by fewer buyers than these, as all buyers are.
LARGEST_REACH = 5.0
FEWEST_BUYERS = 50
# A window ahead is not one of those that are known: its level is missed, too. Over 17 cutoffs of
# seven shops a tenth to a fifth more buyers than was said lay above, and no more below.
UPPER_TAIL = 0.9
# One past cutoff may correct a bound, or the level, by so much at most.
LARGEST_FACTOR = 2.0
# Mean of the values above the highest known quantile, in units of it (lognormal of log spread 1).
TAIL_MEAN = 1.65


def mixture_quantile(amounts: Floats, levels: Floats, probability: Floats, level: float) -> Floats:
    """Return a quantile of a value that is 0 with probability 1 - p, or else as a buyer's.

    P(Y <= y) = (1 - p) + p F(y), so the quantile is 0 up to level 1 - p, and beyond it the buyer's
    at (level - (1 - p)) / p. Between the known levels it is interpolated on the log scale.

    Parameters
    ----------
    amounts
        Quantiles of a buyer's value, shape (n, k), ascending and positive.
    levels
        Their levels, shape (k,), ascending.
    probability
        P(Y > 0), shape (n,).
    level
        Between 0 and 1.

    Returns
    -------
    array
        Shape (n,).
    """
    p = np.clip(probability, 1e-9, 1.0)
    within = (level - (1 - p)) / p
    inside = np.clip(within, levels[0], levels[-1])
    right = np.clip(np.searchsorted(levels, inside), 1, len(levels) - 1)
    left = right - 1
    part = (inside - levels[left]) / (levels[right] - levels[left])
    rows = np.arange(len(amounts))
    logarithm = np.log(amounts)
    found = (1 - part) * logarithm[rows, left] + part * logarithm[rows, right]
    return np.where(within > 0, np.exp(found), 0.0)


def implied_mean(amounts: Floats, levels: Floats) -> Floats:
    """Return the mean of a distribution known by its quantiles: trapezoids, and a tail.

    Parameters
    ----------
    amounts
        Quantiles, shape (n, k), ascending and positive.
    levels
        Their levels, shape (k,), ascending.
    """
    below = amounts[:, 0] * levels[0] / 2
    between = np.trapezoid(amounts, levels, axis=1)
    above = amounts[:, -1] * TAIL_MEAN * (1 - levels[-1])
    return np.asarray(below + between + above, dtype=np.float64)


def pool_residuals(parts: Sequence[Residuals], giant_multiple: float = np.inf) -> Residuals:
    """Put unseen rows of several cutoffs together, each cutoff's own level taken out.

    One cutoff has few buyers, and a season of its own. By how much its total and its number of
    buyers were missed says nothing of one customer's spread, so values are scaled and log odds
    shifted until both are right, cutoff by cutoff.

    Parameters
    ----------
    parts
        By cutoff: quantiles, probability, expected value, actual value.
    giant_multiple
        Of the high quantile; what is expected of giants counts no more than that for the level.
    """
    levelled = []
    for amounts, probability, value, actual in parts:
        expected = cap_giants(value, giant_multiple)
        level = _bounded(float(actual.sum()) / max(float(expected.sum()), 1e-9))
        shift = chance_shift(probability, float((actual > 0).sum()))
        levelled.append((amounts, shift_chance(probability, shift), value * level, actual))
    columns = [np.concatenate(column) for column in zip(*levelled, strict=True)]
    return columns[0], columns[1], columns[2], columns[3]


class ConformalBounds:
    """P10, P50 and P90 around an expected value, corrected on rows that no model has seen.

    A buyer's quantiles are scaled until their mean is the expected value over P(buy), so that the
    bounds always belong to the value that is served. Each bound is then multiplied by the factor
    at which, among unseen rows whose bound is not 0, the share of values not above it is its level
    (conformalized quantile regression, Romano, Patterson and Candes 2019, one-sided and
    multiplicative, since errors grow with the value). By how much the unseen total was missed says
    nothing of one customer's spread, so it is taken out before, and widens P10 and P90 after.

    Where P(buy) is below 10 %, more than nine in ten bring nothing, and P90 is 0.

    Parameters
    ----------
    levels
        Levels of the buyers' quantiles that come in.

    Attributes
    ----------
    factors_
        One per bound, widening included.
    level_
        Total of the unseen values over what was expected of them.
    """

    def __init__(self, levels: tuple[float, ...]) -> None:
        self.levels = levels

    def fit(self, amounts: Floats, probability: Floats, value: Floats, actual: Floats) -> Self:
        """Learn the factors.

        Parameters
        ----------
        amounts
            Quantiles of a buyer's value, shape (n, k).
        probability
            P(value > 0), shape (n,).
        value
            Expected value, shape (n,).
        actual
            What came to pass, shape (n,).
        """
        self.level_ = _bounded(float(actual.sum()) / max(float(value.sum()), 1e-9))
        widening = max(self.level_, 1 / self.level_)
        factors = []
        for level, bound in zip(LEVELS, self._raw(amounts, probability, value), strict=True):
            above = bound > 0
            factor = 1.0
            if above.any():
                ratio = actual[above] / (bound[above] * self.level_)
                # "higher" is the finite-sample choice: at least the level is covered.
                factor = _bounded(float(np.quantile(ratio, level, method="higher")))
            widened = {LEVELS[0]: 1 / widening, LEVELS[-1]: widening}.get(level, 1.0)
            factors.append(factor * widened)
        self.factors_ = tuple(factors)
        return self

    def predict(self, amounts: Floats, probability: Floats, value: Floats) -> Floats:
        """Return the corrected bounds, ascending along each row, shape (n, 3)."""
        raw = self._raw(amounts, probability, value)
        bounds = [factor * bound for factor, bound in zip(self.factors_, raw, strict=True)]
        return np.sort(np.column_stack(bounds), axis=1)

    def _raw(self, amounts: Floats, probability: Floats, value: Floats) -> list[Floats]:
        levels = np.array(self.levels)
        buyer = np.maximum(value, 1e-9) / np.clip(probability, 1e-9, 1.0)
        scaled = amounts * (buyer / implied_mean(amounts, levels))[:, None]
        return [mixture_quantile(scaled, levels, probability, level) for level in LEVELS]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "levels": list(self.levels),
            "factors": list(self.factors_),
            "level": self.level_,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        bounds = cls(tuple(document["levels"]))
        bounds.factors_ = tuple(document["factors"])
        bounds.level_ = document["level"]
        return bounds


class ClassIntervals:
    """Intervals that hold for those who buy and for those who do not, each as often as they say.

    A quantile interval of a value that is mostly 0 covers nearly everyone and few of the buyers.
    These are label-conditional (Mondrian) conformal intervals (Vovk, Gammerman and Shafer 2005,
    section 4.5): 0 belongs to an interval unless P(buy) is above what ``level`` of the unseen
    non-buyers had; and among unseen buyers, on either side of that mark, ``level`` lie within, and
    a few more, since a window ahead is missed by more than known ones (``UPPER_TAIL``). So
    where 0 belongs to it, the upper end says how much a customer brings *who buys*: it is above 0
    even for somebody who will hardly do so.

    Parameters
    ----------
    levels
        Levels of the buyers' quantiles that come in.
    coverages
        Shares of customers that the intervals are to hold.

    Attributes
    ----------
    marks_
        By coverage: the greatest P(buy) at which 0 belongs to the interval; the factor of the upper
        end there; the factors of both ends above it.
    """

    def __init__(self, levels: tuple[float, ...], coverages: tuple[float, ...] = COVERAGES) -> None:
        self.levels = levels
        self.coverages = coverages

    def fit(self, amounts: Floats, probability: Floats, value: Floats, actual: Floats) -> Self:
        """Learn the marks from rows that no model has seen, each cutoff's level taken out.

        Parameters
        ----------
        amounts
            Quantiles of a buyer's value, shape (n, k).
        probability
            P(value > 0), shape (n,).
        value
            Expected value, shape (n,).
        actual
            What came to pass, shape (n,).
        """
        buys = actual > 0
        self.marks_ = {}
        for coverage in self.coverages:
            mark = 1.0
            if (~buys).any():
                mark = float(np.quantile(probability[~buys], coverage, method="higher"))
            one_sided, low, high = self._ends(amounts, probability, value, coverage)
            likely = probability > mark

            def factor(end: Floats, share: float, among: NDArray[np.bool_]) -> float:
                rows = buys & among if (buys & among).sum() >= FEWEST_BUYERS else buys
                if not rows.any():
                    return 1.0
                ratio = actual[rows] / end[rows]
                found = float(np.quantile(ratio, share, method="higher"))
                return float(np.clip(found, 1 / LARGEST_REACH, LARGEST_REACH))

            tail = (1 - coverage) / 2
            self.marks_[coverage] = (
                mark,
                factor(one_sided, 1 - UPPER_TAIL * (1 - coverage), ~likely),
                factor(low, tail, likely),
                factor(high, 1 - UPPER_TAIL * tail, likely),
            )
        return self

    def predict(self, amounts: Floats, probability: Floats, value: Floats) -> Floats:
        """Return the lower ends, widest interval first, then the upper ends, narrowest first.

        Returns
        -------
        array
            Shape (n, 2 * coverages), ascending along each row.
        """
        lows, highs = [], []
        for coverage in sorted(self.coverages):
            mark, reach, below, above = self.marks_[coverage]
            one_sided, low, high = self._ends(amounts, probability, value, coverage)
            likely = probability > mark
            lows.append(np.where(likely, below * low, 0.0))
            highs.append(np.where(likely, above * high, reach * one_sided))
        lowest = np.minimum.accumulate(np.column_stack(lows), axis=1)[:, ::-1]
        highest = np.maximum.accumulate(np.column_stack(highs), axis=1)
        return np.maximum.accumulate(np.hstack([lowest, highest]), axis=1)

    def _ends(
        self, amounts: Floats, probability: Floats, value: Floats, coverage: float
    ) -> tuple[Floats, Floats, Floats]:
        """Return a buyer's quantiles at the coverage and at both ends of the central interval."""
        levels = np.array(self.levels)
        buyer = np.maximum(value, 1e-9) / np.clip(probability, 1e-9, 1.0)
        scaled = amounts * (buyer / implied_mean(amounts, levels))[:, None]
        everyone = np.ones(len(amounts))
        tail = (1 - coverage) / 2
        one_sided, low, high = (
            mixture_quantile(scaled, levels, everyone, level)
            for level in (coverage, tail, 1 - tail)
        )
        return one_sided, low, high

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        marks = {str(coverage): list(marks) for coverage, marks in self.marks_.items()}
        return {"levels": list(self.levels), "marks": marks}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        marks = {float(c): tuple(m) for c, m in document["marks"].items()}
        found = cls(tuple(document["levels"]), tuple(marks))
        found.marks_ = {c: (m[0], m[1], m[2], m[3]) for c, m in marks.items()}
        return found


def _bounded(factor: float) -> float:
    return float(np.clip(factor, 1 / LARGEST_FACTOR, LARGEST_FACTOR))
