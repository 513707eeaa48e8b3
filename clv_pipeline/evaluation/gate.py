"""Which model serves: pure functions of backtests and a policy, each answer with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clv_pipeline.evaluation.backtest import Forecasts
from clv_pipeline.evaluation.comparing import (
    WORDS,
    Comparison,
    PairedBootstrap,
    Policy,
    compare,
    point_advantage,
)
from clv_pipeline.models.giants import cap_giants
from clv_pipeline.models.panel import Floats

__all__ = ["Comparison", "Decision", "Policy", "choose_serving", "compare", "decide"]

MOST_POINTS = 3.0
# An advantage of so many times its worth needs no bootstrap to be told from noise.
CLEAR_POINTS = 10.0


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


def decide(
    challenger: Sequence[Forecasts],
    champion: Sequence[Forecasts] | None,
    policy: Policy,
    *,
    has_champion: bool = True,
    days_newer: int = 0,
    is_same_recipe: bool = False,
    other_question: str | None = None,
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
    other_question
        What the champion was trained for instead of what is asked now, such as "was trained for
        another currency"; it can't serve then.
    """
    if not has_champion:
        return Decision(True, "There is no champion yet, so the challenger serves.")
    if other_question is not None:
        return Decision(True, f"The champion {other_question}, so the challenger serves.")
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
    bootstrap: PairedBootstrap | None = None,
    giant_multiple: float = math.inf,
) -> tuple[str, str]:
    """Choose the simplest model that the ensemble does not beat.

    Where the ensemble is better beyond noise on one measure and worse on another, the two are
    weighed by the policy's ``worth``: a tenth of a bias is not made good by a thousandth of a rank.
    Where a simpler model was far behind on one measure, it does not serve even though few windows
    leave room for chance: what simplicity saves is not worth that risk.

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
    bootstrap
        Measures at least what the policy names; shared with whoever compares the same models.
    giant_multiple
        Values above so many times the high quantile of their window count as that much, as they do
        in training. One order of ten million that nobody could foresee would drown every
        difference but the ranking, and then the simplest model is unbeaten.

    Returns
    -------
    tuple
        The model's name and the reason in words.
    """
    simpler = sorted(
        (name for name in backtests if complexity[name] < complexity[ensemble]),
        key=lambda name: (complexity[name], name),
    )
    seen = bootstrap or PairedBootstrap(policy)
    backtests = _tamed(backtests, giant_multiple)
    for name in simpler:
        if _is_clearly_beaten(backtests[ensemble], backtests[name], policy):
            continue
        found = seen.compare(backtests[ensemble], backtests[name], policy.measures)
        if any(_points_of(c, policy) >= MOST_POINTS for c in found):
            continue
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


def _tamed(
    backtests: Mapping[str, Sequence[Forecasts]], multiple: float
) -> dict[str, list[Forecasts]]:
    """Cap what giants brought; a window without any stays the same object, and so keeps its draws.

    Models share the array of what came to pass, and so they do when it is capped.
    """
    capped: dict[int, Floats] = {}

    def tame(f: Forecasts) -> Forecasts:
        if id(f.actual) not in capped:
            values = cap_giants(f.actual, multiple)
            capped[id(f.actual)] = f.actual if np.array_equal(values, f.actual) else values
        values = capped[id(f.actual)]
        return f if values is f.actual else replace(f, actual=values)

    return {name: [tame(f) for f in backtest] for name, backtest in backtests.items()}


def _is_clearly_beaten(
    ours: Sequence[Forecasts], theirs: Sequence[Forecasts], policy: Policy
) -> bool:
    """Whether ours is far ahead on one measure, and behind on none by as much as that is worth."""
    worth = dict(policy.worth)
    points = [
        point_advantage(measure, ours, theirs) / worth[measure]
        for measure in policy.measures
        if measure != "auc"
    ]
    return max(points, default=0.0) >= CLEAR_POINTS and min(points, default=0.0) > -1.0


def _points(comparisons: Sequence[Comparison], policy: Policy) -> float:
    points = [_points_of(c, policy) for c in comparisons]
    return sum(min(max(p, -MOST_POINTS), MOST_POINTS) for p in points)


def _points_of(comparison: Comparison, policy: Policy) -> float:
    return comparison.advantage / dict(policy.worth)[comparison.measure]


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
