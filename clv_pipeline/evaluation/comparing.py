"""Is model A better than model B? A paired bootstrap over customers, and over cutoffs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clv_pipeline.evaluation.backtest import Forecasts
from clv_pipeline.evaluation.bootstrap import Floats, Resampled, measure_once

Verdict = Literal["better", "worse", "same"]
# Words for reasons, and whether more is better.
WORDS: dict[str, tuple[str, bool]] = {
    "normalized_gini": ("normalized Gini", True),
    "spearman": ("Spearman", True),
    "rmse": ("RMSE", False),
    "total_bias": ("absolute total bias", False),
    "decile_mape": ("decile MAPE", False),
    "auc": ("AUC of purchase", True),
}
COMPARISON_COLUMNS = (
    "horizon_days",
    "model",
    "other_model",
    "measure",
    "count_cutoffs",
    "count_cutoffs_better",
    "figure",
    "other_figure",
    "advantage",
    "advantage_low",
    "advantage_high",
    "advantage_low_cutoffs",
    "advantage_high_cutoffs",
    "probability_better",
    "verdict",
)


@dataclass(frozen=True)
class Policy:
    """When a difference counts.

    Attributes
    ----------
    measures
        Names of ``WORDS``. Neither MAE nor WAPE is there: both reward predicting zero.
    confidence
        Of the bootstrap interval that must exclude 0.
    least
        Smaller differences are noise whatever the interval says; RMSE's is relative.
    worth
        Advantage that makes one point when a simpler model is weighed against the ensemble; a
        measure gives or takes three points at most.
    replicates, seed
        Of the bootstrap.
    """

    measures: tuple[str, ...] = (
        "normalized_gini",
        "spearman",
        "rmse",
        "total_bias",
        "decile_mape",
    )
    confidence: float = 0.95
    least: tuple[tuple[str, float], ...] = (
        ("normalized_gini", 0.003),
        ("spearman", 0.003),
        ("rmse", 0.005),
        ("total_bias", 0.02),
        ("decile_mape", 0.02),
        ("auc", 0.002),
    )
    worth: tuple[tuple[str, float], ...] = (
        ("normalized_gini", 0.01),
        ("spearman", 0.01),
        ("rmse", 0.02),
        ("total_bias", 0.05),
        ("decile_mape", 0.1),
        ("auc", 0.01),
    )
    replicates: int = 60
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """One measure of two models on the same customers, over all shared folds.

    Attributes
    ----------
    measure
        Name.
    ours, theirs
        Mean figure over the folds.
    advantage, low, high
        How much better ours is (positive is better) with its bootstrap interval over customers;
        RMSE's is relative to theirs.
    verdict
        Whether ours is better or worse beyond noise.
    low_cutoffs, high_cutoffs
        The interval when cutoffs are drawn, too: what to expect of another cutoff.
    count_cutoffs, count_better
        Shared folds, and those on which ours is better.
    probability_better
        Share of the replicates over customers and cutoffs in which ours is better.
    """

    measure: str
    ours: float
    theirs: float
    advantage: float
    low: float
    high: float
    verdict: Verdict
    low_cutoffs: float = float("nan")
    high_cutoffs: float = float("nan")
    count_cutoffs: int = 0
    count_better: int = 0
    probability_better: float = float("nan")

    def __str__(self) -> str:
        return f"{WORDS[self.measure][0]} {self.ours:.3f} against {self.theirs:.3f}"


class PairedBootstrap:
    """Compares models under one set of resamples, and keeps what it has computed of each.

    Parameters
    ----------
    policy
        Measures, confidence, replicates.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        # By the identity of arrays, which are kept so that no other array takes it over.
        self._folds: dict[tuple[int, int], tuple[Floats, Resampled]] = {}
        self._figures: dict[tuple[int, int, int, bool], tuple[Floats, dict[str, Any]]] = {}

    def compare(
        self,
        ours: Sequence[Forecasts],
        theirs: Sequence[Forecasts],
        measures: tuple[str, ...] | None = None,
    ) -> tuple[Comparison, ...]:
        """Compare two models on the customers, cutoffs and horizons that both predicted.

        Each resample weighs the customers alike for both models. Folds count alike.

        Parameters
        ----------
        ours, theirs
            Backtests.
        measures
            Some of the policy's; all of them when None.

        Returns
        -------
        tuple of Comparison
            One per measure; empty without anything in common.
        """
        pairs = _pairs(ours, theirs)
        if not pairs:
            return ()
        sides = [(self._measure(k, a), self._measure(k, b)) for k, (a, b) in enumerate(pairs)]
        found = []
        for measure in measures or self.policy.measures:
            known = [(one, other) for one, other in sides if measure in one and measure in other]
            if known:
                found.append(self._judge(measure, known))
        return tuple(found)

    def _measure(self, fold: int, forecasts: Forecasts) -> dict[str, tuple[float, Floats]]:
        """Return each measure's figure over all customers and in every replicate."""
        place = (id(forecasts.actual), fold)
        if place not in self._folds:
            policy = self.policy
            resampled = Resampled(
                forecasts.actual, forecasts.bought, policy.replicates, [policy.seed, fold]
            )
            self._folds[place] = (forecasts.actual, resampled)
        has_probability = bool(np.isfinite(forecasts.probability).all())
        key = (*place, id(forecasts.value), has_probability)
        if key not in self._figures:
            resampled = self._folds[place][1]
            measures = tuple(m for m in self.policy.measures if m != "auc" or has_probability)
            value, probability = forecasts.value, forecasts.probability
            draws = resampled.figures(measures, value, probability)
            found = {}
            for m in measures:
                point = _figure(m, forecasts)
                shift = 0.0
                if len(resampled.rows) < len(value):
                    shift = point - _figure(m, _take(forecasts, resampled.rows))
                found[m] = (point, draws[m] + shift)
            self._figures[key] = (value, found)
        return self._figures[key][1]

    def _judge(
        self,
        measure: str,
        sides: Sequence[
            tuple[Mapping[str, tuple[float, Floats]], Mapping[str, tuple[float, Floats]]]
        ],
    ) -> Comparison:
        policy = self.policy
        figures = np.array([(one[measure][0], other[measure][0]) for one, other in sides])
        points = advantage(measure, figures[:, 0], figures[:, 1])
        draws = np.array(
            [advantage(measure, one[measure][1], other[measure][1]) for one, other in sides]
        )
        point = float(np.nan_to_num(np.mean(points)))
        tails = [(1 - policy.confidence) / 2, (1 + policy.confidence) / 2]
        customers = np.nan_to_num(_mean(draws))
        low, high = np.quantile(customers, tails)
        rng = np.random.default_rng([policy.seed, len(sides)])
        chosen = rng.integers(0, len(sides), draws.shape)
        cutoffs = np.nan_to_num(_mean(np.take_along_axis(draws, chosen, axis=0)))
        low_cutoffs, high_cutoffs = np.quantile(cutoffs, tails)
        ours, theirs = _mean(figures)
        return Comparison(
            measure,
            float(ours),
            float(theirs),
            point,
            float(low),
            float(high),
            _verdict(point, float(low), float(high), dict(policy.least)[measure]),
            float(low_cutoffs),
            float(high_cutoffs),
            len(sides),
            int((points > 0).sum()),
            float(np.mean((cutoffs > 0) + 0.5 * (cutoffs == 0))),
        )


def compare(
    ours: Sequence[Forecasts], theirs: Sequence[Forecasts], policy: Policy
) -> tuple[Comparison, ...]:
    """Compare two models once; see ``PairedBootstrap.compare``."""
    return PairedBootstrap(policy).compare(ours, theirs)


def point_advantage(measure: str, ours: Sequence[Forecasts], theirs: Sequence[Forecasts]) -> float:
    """Return how much better our mean figure is, without a bootstrap; 0 where it has none."""
    means = [np.array([np.mean([_figure(measure, f) for f in side])]) for side in (ours, theirs)]
    return float(np.nan_to_num(advantage(measure, *means)[0]))


def tabulate_comparisons(
    backtests: Mapping[str, Sequence[Forecasts]], serves: str, bootstrap: PairedBootstrap
) -> pd.DataFrame:
    """Compare what serves one horizon with every other model.

    Parameters
    ----------
    backtests
        By model, over the same folds.
    serves
        Name of the model that serves.
    bootstrap
        Shared with whoever compared these models before.

    Returns
    -------
    DataFrame
        ``COMPARISON_COLUMNS``: a row per other model and measure; empty where what serves was not
        backtested.
    """
    rows: list[tuple[Any, ...]] = []
    for name in sorted(backtests):
        if name == serves or serves not in backtests:
            continue
        horizon = backtests[name][0].horizon_days if backtests[name] else 0
        for found in bootstrap.compare(backtests[serves], backtests[name]):
            figures = (found.ours, found.theirs, found.advantage, found.low, found.high)
            over_cutoffs = (found.low_cutoffs, found.high_cutoffs, found.probability_better)
            counts = (found.count_cutoffs, found.count_better)
            names = (horizon, serves, name, found.measure)
            rows += [(*names, *counts, *figures, *over_cutoffs, found.verdict)]
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def advantage(measure: str, ours: Floats, theirs: Floats) -> Floats:
    """Return how much better ours is; RMSE's advantage is relative to theirs."""
    if measure == "rmse":
        gain = theirs - ours
        return np.divide(gain, theirs, out=np.zeros(np.shape(gain)), where=theirs > 0)
    return ours - theirs if WORDS[measure][1] else theirs - ours


def _figure(measure: str, f: Forecasts) -> float:
    return measure_once(measure, f.actual, f.bought, f.value, f.probability)


def _mean(values: Floats) -> Floats:
    """Return the mean over the first axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.asarray(
        np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
    )


def _verdict(point: float, low: float, high: float, least: float) -> Verdict:
    if low > 0 and point >= least:
        return "better"
    if high < 0 and point <= -least:
        return "worse"
    return "same"


def _pairs(
    ours: Sequence[Forecasts], theirs: Sequence[Forecasts]
) -> list[tuple[Forecasts, Forecasts]]:
    others = {(f.horizon_days, f.evaluation): f for f in theirs}
    found = []
    for a in ours:
        b = others.get((a.horizon_days, a.evaluation))
        if b is None:
            continue
        if a.keys is b.keys and len(a.keys):
            found.append((a, b))
            continue
        _, i, j = np.intersect1d(a.keys, b.keys, return_indices=True)
        if len(i):
            ours_there = _take(a, i)
            theirs_there = _take(b, j)
            found.append((ours_there, theirs_there))
    return found


def _take(f: Forecasts, rows: NDArray[np.intp]) -> Forecasts:
    return Forecasts(
        f.horizon_days,
        f.evaluation,
        f.keys[rows],
        f.actual[rows],
        f.bought[rows],
        f.value[rows],
        f.probability[rows],
    )
