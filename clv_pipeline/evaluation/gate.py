"""Which model serves: pure functions of backtests and a policy, each answer with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.evaluation.backtest import Forecasts
from clv_pipeline.evaluation.metrics import (
    Ranking,
    auc,
    normalized_gini,
    rmse,
    spearman,
    total_bias,
)

Verdict = Literal["better", "worse", "same"]
# Words for reasons, and whether more is better.
WORDS: dict[str, tuple[str, bool]] = {
    "normalized_gini": ("normalized Gini", True),
    "spearman": ("Spearman", True),
    "rmse": ("RMSE", False),
    "total_bias": ("absolute total bias", False),
    "auc": ("AUC of purchase", True),
}

MOST_POINTS = 3.0
# An advantage of so many times its worth needs no bootstrap to be told from noise.
CLEAR_POINTS = 10.0


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

    measures: tuple[str, ...] = ("normalized_gini", "spearman", "rmse", "total_bias")
    confidence: float = 0.95
    least: tuple[tuple[str, float], ...] = (
        ("normalized_gini", 0.003),
        ("spearman", 0.003),
        ("rmse", 0.005),
        ("total_bias", 0.02),
        ("auc", 0.002),
    )
    worth: tuple[tuple[str, float], ...] = (
        ("normalized_gini", 0.01),
        ("spearman", 0.01),
        ("rmse", 0.02),
        ("total_bias", 0.05),
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
        How much better ours is (positive is better) with its bootstrap interval; RMSE's is
        relative to theirs.
    verdict
        Whether ours is better or worse beyond noise.
    """

    measure: str
    ours: float
    theirs: float
    advantage: float
    low: float
    high: float
    verdict: Verdict

    def __str__(self) -> str:
        return f"{WORDS[self.measure][0]} {self.ours:.3f} against {self.theirs:.3f}"


@dataclass(frozen=True)
class Decision:
    """Whether the challenger takes over, and why.

    Attributes
    ----------
    promote
        Whether it does.
    reason
        In words.
    comparisons
        What the answer rests on; empty where nothing could be compared.
    """

    promote: bool
    reason: str
    comparisons: tuple[Comparison, ...] = ()


def compare(
    ours: Sequence[Forecasts], theirs: Sequence[Forecasts], policy: Policy
) -> tuple[Comparison, ...]:
    """Compare two models on the customers, cutoffs and horizons that both predicted.

    The paired bootstrap weighs each customer with a Poisson(1) count, the same for both models:
    drawing with replacement, but for the size of the sample (Chamandy et al. 2012). Folds count
    alike.

    Returns
    -------
    tuple of Comparison
        One per measure of the policy; empty without anything in common.
    """
    pairs = _pairs(ours, theirs)
    if not pairs:
        return ()
    resamples = [_resamples(len(a.actual), policy, k) for k, (a, _) in enumerate(pairs)]
    found = []
    for measure in policy.measures:
        points, draws, figures = [], [], []
        for (a, b), counts in zip(pairs, resamples, strict=True):
            if measure == "auc" and not _has_probabilities(a, b):
                continue
            one, other = _Scorer(a, measure), _Scorer(b, measure)
            unit = np.ones(len(a.actual))
            points.append(_advantage(measure, one(unit), other(unit)))
            figures.append((one(unit), other(unit)))
            draws.append([_advantage(measure, one(w), other(w)) for w in counts])
        if not points:
            continue
        spread = np.nanmean(np.array(draws), axis=0)
        tail = (1 - policy.confidence) / 2
        low, high = np.quantile(np.nan_to_num(spread), [tail, 1 - tail])
        mean_ours, mean_theirs = np.nanmean(np.array(figures), axis=0)
        advantage = float(np.nan_to_num(np.mean(points)))
        found.append(
            Comparison(
                measure,
                float(mean_ours),
                float(mean_theirs),
                advantage,
                float(low),
                float(high),
                _verdict(advantage, float(low), float(high), dict(policy.least)[measure]),
            )
        )
    return tuple(found)


def decide(
    challenger: Sequence[Forecasts],
    champion: Sequence[Forecasts] | None,
    policy: Policy,
    *,
    has_champion: bool = True,
    days_newer: int = 0,
    is_same_recipe: bool = False,
) -> Decision:
    """Decide whether the challenger takes over from the champion.

    It must not be worse beyond noise on any of the policy's measures, and better on one. On a tie
    newer knowledge wins: the champion goes stale, and the challenger is not worse.

    Parameters
    ----------
    challenger, champion
        Backtests; ``champion`` holds only cutoffs at or after the day up to which it had learned,
        and is None where it can't be read.
    policy
        When a difference counts.
    has_champion
        Whether any model serves.
    days_newer
        How many days more the challenger has seen.
    is_same_recipe
        Whether both were fitted with the same settings, features and code.
    """
    if not has_champion:
        return Decision(True, "There is no champion yet, so the challenger serves.")
    if champion is None:
        return Decision(True, "The champion can't be read, so the challenger serves.")
    found = compare(challenger, champion, policy)
    if not found:
        return _without_comparison(days_newer, is_same_recipe)
    worse = [c for c in found if c.verdict == "worse"]
    better = [c for c in found if c.verdict == "better"]
    if worse:
        return Decision(
            False,
            f"The champion stays: the challenger is worse beyond noise ({_list(worse)}).",
            found,
        )
    if better:
        return Decision(
            True,
            "The challenger serves: it is better beyond noise "
            f"({_list(better)}) and worse on no measure.",
            found,
        )
    if days_newer > 0:
        return Decision(
            True,
            f"The challenger serves: it is as good ({_list(found)}) and has learned from "
            f"{days_newer} days more.",
            found,
        )
    return Decision(
        False, f"The champion stays: the challenger is no better ({_list(found)}).", found
    )


def choose_serving(
    backtests: Mapping[str, Sequence[Forecasts]],
    complexity: Mapping[str, int],
    ensemble: str,
    policy: Policy,
) -> tuple[str, str]:
    """Choose the simplest model that the ensemble does not beat.

    Where the ensemble is better beyond noise on one measure and worse on another, the two are
    weighed by the policy's ``worth``: a tenth of a bias is not made good by a thousandth of a rank.

    Parameters
    ----------
    backtests
        By model; those that may serve.
    complexity
        By model; lower is simpler.
    ensemble
        Name of the ensemble.
    policy
        When a difference counts.

    Returns
    -------
    tuple
        The model's name and the reason in words.
    """
    simpler = sorted(
        (name for name in backtests if complexity[name] < complexity[ensemble]),
        key=lambda name: (complexity[name], name),
    )
    for name in simpler:
        if _is_clearly_beaten(backtests[ensemble], backtests[name], policy):
            continue
        found = compare(backtests[ensemble], backtests[name], policy)
        better = [c for c in found if c.verdict == "better"]
        worse = [c for c in found if c.verdict == "worse"]
        if not better or _points([*better, *worse], policy) <= 0:
            detail = "; ".join(
                text
                for text in (
                    f"better: {_list(better)}" if better else "better on nothing beyond noise",
                    f"worse: {_list(worse)}" if worse else "",
                )
                if text
            )
            return name, (
                f"{name} serves: the ensemble does not beat it, and it is simpler ({detail})."
            )
    return ensemble, (
        "The ensemble serves: against every simpler model it gains more than it loses in "
        f"{', '.join(WORDS[m][0] for m in policy.measures)} ({', '.join(simpler)})."
    )


def _is_clearly_beaten(
    ours: Sequence[Forecasts], theirs: Sequence[Forecasts], policy: Policy
) -> bool:
    """Whether ours is far ahead on one measure, and behind on none by as much as that is worth."""
    worth = dict(policy.worth)
    points = []
    for measure in policy.measures:
        if measure == "auc":
            continue
        figures = [
            [float(_Scorer(f, measure)(np.ones(len(f.actual)))) for f in forecasts]
            for forecasts in (ours, theirs)
        ]
        mean_ours, mean_theirs = (float(np.mean(values)) for values in figures)
        points.append(_advantage(measure, mean_ours, mean_theirs) / worth[measure])
    return max(points, default=0.0) >= CLEAR_POINTS and min(points, default=0.0) > -1.0


class _Scorer:
    """One measure of one forecast under any weights, with its sorts done once."""

    def __init__(self, forecasts: Forecasts, measure: str) -> None:
        self.forecasts = forecasts
        self.measure = measure
        if measure in ("normalized_gini", "spearman"):
            self.rankings = (Ranking(forecasts.actual), Ranking(forecasts.value))

    def __call__(self, counts: NDArray[Any]) -> float:
        f, weights = self.forecasts, counts.astype(np.float64)
        if self.measure == "normalized_gini":
            return normalized_gini(f.actual, f.value, weights, rankings=self.rankings)
        if self.measure == "spearman":
            return spearman(f.actual, f.value, weights, rankings=self.rankings)
        if self.measure == "rmse":
            return rmse(f.actual, f.value, weights)
        if self.measure == "total_bias":
            return abs(total_bias(f.actual, f.value, weights))
        return auc(f.bought, f.probability, weights)


def _resamples(n: int, policy: Policy, fold: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([policy.seed, fold])
    return rng.poisson(1.0, (policy.replicates, n)).astype(np.uint8)


def _pairs(
    ours: Sequence[Forecasts], theirs: Sequence[Forecasts]
) -> list[tuple[Forecasts, Forecasts]]:
    others = {(f.horizon_days, f.evaluation): f for f in theirs}
    found = []
    for a in ours:
        b = others.get((a.horizon_days, a.evaluation))
        if b is None:
            continue
        _, i, j = np.intersect1d(a.keys, b.keys, return_indices=True)
        if len(i):
            found.append((_take(a, i), _take(b, j)))
    return found


def _take(f: Forecasts, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Forecasts:
    return Forecasts(
        f.horizon_days,
        f.evaluation,
        f.keys[rows],
        f.actual[rows],
        f.bought[rows],
        f.value[rows],
        f.probability[rows],
    )


def _has_probabilities(a: Forecasts, b: Forecasts) -> bool:
    return bool(np.isfinite(a.probability).all() and np.isfinite(b.probability).all())


def _advantage(measure: str, ours: float, theirs: float) -> float:
    if measure == "rmse":
        return (theirs - ours) / theirs if theirs > 0 else 0.0
    return ours - theirs if WORDS[measure][1] else theirs - ours


def _verdict(advantage: float, low: float, high: float, least: float) -> Verdict:
    if low > 0 and advantage >= least:
        return "better"
    if high < 0 and advantage <= -least:
        return "worse"
    return "same"


def _points(comparisons: Sequence[Comparison], policy: Policy) -> float:
    worth = dict(policy.worth)
    points = [c.advantage / worth[c.measure] for c in comparisons]
    return sum(min(max(p, -MOST_POINTS), MOST_POINTS) for p in points)


def _without_comparison(days_newer: int, is_same_recipe: bool) -> Decision:
    if is_same_recipe and days_newer > 0:
        return Decision(
            True,
            f"The challenger serves: it is the champion's recipe with {days_newer} days more to "
            "learn from, and no label has matured that could tell them apart.",
        )
    if is_same_recipe:
        return Decision(False, "The champion stays: the challenger learned nothing new.")
    return Decision(
        False,
        "The champion stays: the challenger was made another way, and no label has matured that "
        "the champion had not learned from. Promote it by hand, or wait for labels to mature.",
    )


def _list(comparisons: Sequence[Comparison]) -> str:
    return ", ".join(str(c) for c in comparisons)
