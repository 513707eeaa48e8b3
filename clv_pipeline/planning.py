"""Which cutoffs training needs, by horizon: to learn from, to blend on, to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff, Fold, backtest_folds, learning_cutoffs, union_cutoffs

# Cutoffs whose unseen rows correct the intervals.
INTERVAL_CUTOFFS = 3


@dataclass(frozen=True)
class HorizonPlan:
    """Which cutoffs one horizon needs.

    Attributes
    ----------
    training, blend
        Cutoffs whose labels train, and those that the experts asked about the newest of them know.
    folds
        Of the backtest, each with the cutoffs of its blend.
    """

    training: tuple[Cutoff, ...]
    blend: tuple[Cutoff, ...]
    folds: tuple[tuple[Fold, tuple[Cutoff, ...]], ...]

    def earlier(self, newest: Cutoff) -> tuple[tuple[Cutoff, tuple[Cutoff, ...]], ...]:
        """List the cutoffs before one that experts are asked about anyway, newest first.

        Each with the cutoffs that those experts are fitted on: the folds' evaluation cutoffs, and
        those on which the folds' blends are learned. So they cost no further fit.
        """
        asked = {fold.evaluation: fold.training for fold, _ in self.folds}
        asked |= {fold.training[-1]: blend for fold, blend in self.folds if blend}
        before = sorted((c for c in asked if c < newest), reverse=True)
        return tuple((c, asked[c]) for c in before[: INTERVAL_CUTOFFS - 1])


def plan_horizon(
    settings: Settings, as_of: Cutoff, horizon_days: int, first_day: date
) -> HorizonPlan:
    """Return the cutoffs that training one horizon needs, with those of its backtest."""
    cadence = settings.cadence
    common: dict[str, Any] = {
        "first_day": first_day,
        "step_days": cadence.training_step_days,
        "count": cadence.training_cutoffs,
        "min_history_days": cadence.min_history_days,
    }

    def matured_at(cutoffs: Sequence[Cutoff]) -> tuple[Cutoff, ...]:
        return learning_cutoffs(cutoffs[-1], horizon_days, **common) if cutoffs else ()

    training = learning_cutoffs(as_of, horizon_days, **common)
    folds = backtest_folds(
        as_of,
        horizon_days,
        folds=cadence.backtest_folds,
        fold_step_days=cadence.training_step_days,
        **common,
    )
    return HorizonPlan(
        training,
        matured_at(training),
        tuple((fold, matured_at(fold.training)) for fold in folds),
    )


def learned_horizons(settings: Settings, as_of: Cutoff, first_day: date) -> tuple[int, ...]:
    """List the horizons that training for ``as_of`` fits, in the order in which it does.

    Where the history is too short to test any configured horizon on past data, a shorter one is
    learned first, the longest of ``value.auxiliary_horizons`` that can be tested, and extended to
    the others.
    """
    horizons = settings.value.horizons
    if any(plan_horizon(settings, as_of, h, first_day).folds for h in horizons):
        return horizons
    for shorter in sorted(settings.value.auxiliary_horizons, reverse=True):
        if plan_horizon(settings, as_of, shorter, first_day).folds:
            return (shorter, *horizons)
    return horizons


def required_cutoffs(settings: Settings, as_of: Cutoff, first_day: date) -> tuple[Cutoff, ...]:
    """List every cutoff whose features training for ``as_of`` and its backtest need.

    Parameters
    ----------
    settings
        Horizons and cadence.
    as_of
        The cutoff to train for.
    first_day
        First day with data.

    Returns
    -------
    tuple of Cutoff
        Oldest first; ``as_of`` itself is among them, for what is learned without labels.
    """
    groups: list[Sequence[Cutoff]] = [(as_of,)]
    for horizon in learned_horizons(settings, as_of, first_day):
        plan = plan_horizon(settings, as_of, horizon, first_day)
        groups += [plan.training, plan.blend]
        for fold, blend in plan.folds:
            groups += [(fold.evaluation,), fold.training, blend]
    return union_cutoffs(groups)
