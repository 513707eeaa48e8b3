"""One horizon's model is fitted, and what serves it is chosen by its backtest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from clv_pipeline.evaluation.backtest import FoldResult, Forecasts
from clv_pipeline.evaluation.comparing import PairedBootstrap, Policy, tabulate_comparisons
from clv_pipeline.evaluation.gate import choose_serving
from clv_pipeline.evaluation.judging import expected_levels, judgeable
from clv_pipeline.models.candidates import (
    CANDIDATES,
    COMPLEXITY,
    ENSEMBLE,
    PARTS,
    SIMPLE_PARTS,
    find_candidate,
)
from clv_pipeline.models.clv import BRIDGE, HISTORY_ONLY, RATE_ONLY, CLVModel
from clv_pipeline.models.fold import FittedHorizon, Workbench
from clv_pipeline.models.learnable import NotTrainableError, TrainingRefused
from clv_pipeline.planning import HorizonPlan
from clv_pipeline.timeline import Cutoff

# The gate's measures, and the AUC beside them.
COMPARISON_POLICY = Policy(measures=(*Policy().measures, "auc"))


@dataclass(frozen=True, eq=False)
class Settled:
    """One horizon, ready to serve.

    Attributes
    ----------
    model
        Holds what was fitted for this horizon; others, too, where it was given so.
    serves, reason
        What serves, and why.
    compared
        With every other model that was backtested: ``comparing.COMPARISON_COLUMNS``.
    refusals
        Why nothing could be learned.
    """

    model: CLVModel
    serves: str
    reason: str
    compared: pd.DataFrame
    refusals: tuple[str, ...] = ()


def settle(
    model: CLVModel,
    bench: Workbench,
    plan: HorizonPlan,
    found: Sequence[FoldResult],
    as_of: Cutoff,
) -> Settled:
    """Fit one horizon into the model, and choose what serves it.

    Parameters
    ----------
    model
        With its purchase history, and the horizons that were settled before.
    bench, plan
        Of this horizon.
    found
        Its backtest, newest fold first.
    as_of
        The cutoff to train for.

    Raises
    ------
    TrainingRefused
        If the fit relies on a purchase history that the model lacks.
    """
    refusals: list[str] = []
    bootstrap = PairedBootstrap(COMPARISON_POLICY)
    name, reason = _fit_horizon(model, bench, plan, found, as_of, refusals, bootstrap)
    compared = tabulate_comparisons(by_model(found), name, bootstrap)
    return Settled(model, name, reason, compared, tuple(refusals))


def _fit_horizon(
    model: CLVModel,
    bench: Workbench,
    plan: HorizonPlan,
    found: Sequence[FoldResult],
    as_of: Cutoff,
    refusals: list[str],
    bootstrap: PairedBootstrap,
) -> tuple[str, str]:
    panel, horizon = bench.panel, bench.options.horizon_days
    free = HISTORY_ONLY if model.history_ is not None else RATE_ONLY
    model.served_by_[horizon] = free
    tested = [h for h, (level, _) in model.confidence_.items() if level == "high"]
    if not found and tested and model.history_ is not None:
        model.bridged_[horizon] = max(tested)
        reason = (
            f"{horizon} days could not be tested on past data, so what was learned over "
            f"{max(tested)} days is extended as buy-till-you-die says."
        )
        model.served_by_[horizon] = BRIDGE
        model.confidence_[horizon] = ("low", reason)
        return BRIDGE, reason
    if not plan.training:
        reason = f"No label over {horizon} days has matured, so {free} serves."
        model.confidence_[horizon] = ("low", reason)
        return free, reason
    fitted = FittedHorizon(bench.options)
    try:
        fitted.fit(bench, plan.training, plan.blend, plan.earlier(plan.training[-1]))
    except NotTrainableError as error:
        refusals.append(str(error))
        reason = f"{error} So {free} serves."
        model.confidence_[horizon] = ("low", reason)
        return free, reason
    if fitted.uses_history_ and model.history_ is None:
        why = bench.histories.failures.get(as_of)
        raise TrainingRefused(f"Training refused: no purchase history at {as_of}: {why}")
    fitted.tilt_to(panel.features_at(as_of), model.history_)
    model.fitted_[horizon] = fitted
    name, reason = ENSEMBLE, "The ensemble serves; no past cutoff could be held out to judge it."
    if found:
        model.confidence_[horizon] = ("high", "trained and backtested on matured cutoffs")
        servable = [c.name for c in CANDIDATES if c.load is not None] + [*SIMPLE_PARTS, ENSEMBLE]
        backtests: Mapping[str, Sequence[Forecasts]] = {
            n: b for n, b in by_model(found).items() if n in servable and len(b) == len(found)
        }
        backtests, left_out = judgeable(backtests, expected_levels(found), fitted.level(as_of))
        multiple = bench.options.giant_multiple
        name, reason = choose_serving(
            backtests, COMPLEXITY, ENSEMBLE, Policy(), bootstrap, multiple
        )
        reason += left_out
    else:
        model.confidence_[horizon] = ("medium", "trained, but no past cutoff could be held out")
    model.served_by_[horizon] = name
    if name in PARTS:
        fitted.model_.serve(name)
    elif name != ENSEMBLE:
        candidate = find_candidate(name)
        rows, y = panel.matrix(horizon, plan.training)
        if candidate.is_label_free:
            rows = panel.features_at(as_of)
            source = fitted.matrix(rows, model.history_)
        else:
            source = bench.matrix(rows, bench.experts(plan.training))
        model.simpler_[horizon] = candidate.build(bench.options).fit(source, y)
    return name, reason


def by_model(found: Sequence[FoldResult]) -> dict[str, list[Forecasts]]:
    """Return each model's answers, newest cutoff first; slow ones were not asked everywhere."""
    names = dict.fromkeys(name for result in found for name in result.value)
    return {n: [r.forecasts(n) for r in found if n in r.value] for n in names}
