"""Matured cutoffs become a challenger, with its backtest, its leaderboard and its manifest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from clv_pipeline.engines.counting import HistoryCounts
from clv_pipeline.evaluation.ahead import (
    Ahead,
    FoldTask,
    count_processes,
    fit_ahead,
    list_folds,
)
from clv_pipeline.evaluation.backtest import (
    FoldResult,
    Forecasts,
    measure_folds,
    run_fold,
)
from clv_pipeline.evaluation.calibration import calibrate_folds
from clv_pipeline.evaluation.champion import compare_with_champion
from clv_pipeline.evaluation.comparing import Policy
from clv_pipeline.evaluation.describing import (
    describe_horizon,
    newest_figures,
    tabulate_figures,
)
from clv_pipeline.evaluation.effects import join_effects
from clv_pipeline.evaluation.gate import Decision, decide
from clv_pipeline.evaluation.keeping import dump_fold, load_fold
from clv_pipeline.evaluation.money import CostMatrix
from clv_pipeline.evaluation.settling import settle
from clv_pipeline.models import store
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.clusters import BehaviourClusters
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.fold import Workbench
from clv_pipeline.models.histories import Histories, history_matrix
from clv_pipeline.models.learnable import NotTrainableError, TrainingRefused
from clv_pipeline.models.manifest import (
    describe_recipe,
    hash_panel,
    library_versions,
    make_manifest,
)
from clv_pipeline.models.panel import Panel, PanelError
from clv_pipeline.models.scratch import Scratch
from clv_pipeline.parallel import with_one_thread
from clv_pipeline.planning import HorizonPlan, learned_horizons, plan_horizon
from clv_pipeline.progress import FitCounter
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

Progress = Callable[[str, float], None]
MIN_CUSTOMERS = 50


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A challenger and everything that the gate and the published tables need.

    Attributes
    ----------
    model
        The fitted model.
    manifest
        What it was made of: version, cutoffs, features, data hash, libraries, figures, settings.
    leaderboard
        ``scores.model_leaderboard``'s columns.
    backtest_metrics
        ``scores.backtest_metrics``' columns.
    calibration, comparisons, effects
        ``scores.calibration``'s, ``scores.model_comparisons``' and ``scores.model_effects``'
        columns.
    backtest
        What serves, as it would have answered at the evaluation cutoffs.
    champion_backtest
        The champion's answers there, where it had not learned from those labels; None where no
        champion can be read.
    champion_version
        The version that serves now, or None.
    champion_as_of
        The day up to which the champion had learned.
    is_same_recipe
        Whether the champion was made with the same settings, features and code.
    other_question
        What the champion was trained for instead of what is asked now; None where it is the same.
    notes
        Sentences on what could not be done.
    folds
        Every model's answers at the evaluation cutoffs.
    """

    model: CLVModel
    manifest: dict[str, Any]
    leaderboard: pd.DataFrame
    backtest_metrics: pd.DataFrame
    calibration: pd.DataFrame
    comparisons: pd.DataFrame
    effects: pd.DataFrame
    backtest: tuple[Forecasts, ...]
    champion_backtest: tuple[Forecasts, ...] | None = None
    champion_version: str | None = None
    champion_as_of: Cutoff | None = None
    is_same_recipe: bool = False
    other_question: str | None = None
    notes: tuple[str, ...] = field(default=())
    folds: tuple[FoldResult, ...] = field(default=())


@with_one_thread()
def train_challenger(
    settings: Settings,
    features: tuple[Feature, ...],
    panel: Panel,
    as_of: Cutoff,
    run_id: str,
    progress: Progress | None = None,
    scratch: Path | None = None,
    counts: Mapping[Cutoff, HistoryCounts] | None = None,
) -> TrainingResult:
    """Fit a challenger on every matured cutoff, and backtest it with everything refitted.

    Parameters
    ----------
    settings
        Horizons, cadence, model.
    features
        The registered features; those of the panel must be among them.
    panel
        Features of ``planning.required_cutoffs`` and their matured labels.
    as_of
        The cutoff to train for; no label reaches past it.
    run_id
        Written into the frames and the manifest.
    progress
        Called with a sentence and the share that is done.
    scratch
        Folder for what is fitted meanwhile: a training of the same data and recipe that was
        interrupted is gone on with. Dropped at the end.
    counts
        Purchase histories that an engine has counted, by cutoff.

    Raises
    ------
    TrainingRefused
        If there are too few customers, or no horizon and no purchase history can be learned from.
    """
    panel = Panel(panel.features, _known_labels(panel, as_of), features, panel.days)
    _check_customers(panel, as_of)
    histories = Histories(panel, settings.model.seed, counts or {})
    first_day = panel.cutoffs[0].day - timedelta(days=settings.cadence.min_history_days - 1)
    model = CLVModel(settings.value.horizons, settings.value.yearly_discount_rate)
    model.history_ = histories.at(as_of)
    notes: list[str] = []
    results: list[FoldResult] = []
    served: list[Forecasts] = []
    horizons: dict[str, Any] = {}
    refusals: list[str] = []
    compared: list[pd.DataFrame] = []
    labelled = {*settings.value.horizons, *panel.labels["horizon_days"].unique()}
    learned = [h for h in learned_horizons(settings, as_of, first_day) if h in labelled]
    plans = {h: plan_horizon(settings, as_of, h, first_day) for h in learned}
    data_hash = hash_panel(panel)
    # Backtests are asked for again where the recipe is the same and what they compare is not.
    asked = [describe_recipe(settings, panel), settings.cadence.backtest_folds]
    asked.append(settings.engine.name)
    kept = Scratch(scratch, [str(as_of), data_hash, *asked, library_versions()])
    count = _count_fits(settings, plans, progress)
    ahead = Ahead()
    if count_processes(settings, panel, kept) > 1:
        ahead = fit_ahead(settings, panel, as_of, histories, kept, plans, count)
    for horizon, plan in plans.items():
        options = FitOptions.from_settings(settings, horizon)
        bench = Workbench(panel, options, histories, kept, settings)
        found = _run_folds(settings, bench, plan, notes, count, ahead.folds)
        results += found
        one = ahead.settled.get(horizon)
        if one is None:
            one = settle(model, bench, plan, found, as_of)
            count(f"the model of {horizon} days")
        else:
            model.take(one.model)
        refusals += one.refusals
        served += [result.forecasts(one.serves) for result in found]
        compared.append(one.compared)
        horizons[str(horizon)] = describe_horizon(
            model, plan, horizon, one.serves, one.reason, found
        )
    if not model.fitted_ and refusals:
        raise TrainingRefused("Training refused: " + " ".join(refusals))
    if not model.fitted_ and model.history_ is None:
        raise TrainingRefused(
            "Training refused: no label has matured, and no purchase history can be fitted: "
            + "; ".join(histories.failures.values())
        )
    notes += [f"Horizon {h}: {entry['status']}" for h, entry in horizons.items()]
    notes += dict.fromkeys(note for result in results for note in result.notes)
    notes += [f"No purchase history at {c}: {why}" for c, why in sorted(histories.failures.items())]
    notes += [f"Purchase history at {c}: {why}" for c, why in sorted(histories.cautions.items())]
    _fit_clusters(model, panel, as_of, settings)
    serving = {int(h): str(entry["served_by"]) for h, entry in horizons.items()}
    measured = measure_folds(results, CostMatrix.from_settings(settings), serving)
    manifest = make_manifest(settings, panel, as_of, run_id, model, horizons, notes, data_hash)
    leaderboard, metrics = tabulate_figures(measured, manifest, as_of, horizons)
    stamps = {"model_version": manifest["model_version"], "run_id": run_id}
    manifest["figures"] = newest_figures(leaderboard)
    champion = compare_with_champion(settings.paths.models, panel, as_of, served, manifest)
    kept.clear()
    return TrainingResult(
        model,
        manifest,
        leaderboard,
        metrics,
        calibrate_folds(results).assign(**stamps),
        pd.concat(compared, ignore_index=True).assign(**stamps),
        join_effects(result.effects for result in results).assign(**stamps),
        tuple(served),
        champion.backtest,
        champion.version,
        champion.as_of,
        champion.is_same_recipe,
        champion.other_question,
        (*notes, *champion.notes),
        tuple(results),
    )


def _count_fits(
    settings: Settings, plans: Mapping[int, HorizonPlan], progress: Progress | None
) -> FitCounter:
    folds = [task for plan in plans.values() for task in list_folds(settings, plan)]
    total = len(plans) + sum(task.count_fits(settings) for task in folds)
    return FitCounter(total, progress or (lambda text, share: None))


def _run_folds(
    settings: Settings,
    bench: Workbench,
    plan: HorizonPlan,
    notes: list[str],
    count: FitCounter,
    ahead: Collection[FoldTask],
) -> list[FoldResult]:
    """Backtest one horizon, newest fold first; folds that were kept are not run again."""
    found: list[FoldResult] = []
    for task in list_folds(settings, plan):
        fold, fits = task.fold, task.count_fits(settings)
        files = bench.scratch.find(task.name)
        if files is not None:
            found.append(load_fold(fold, files))
            count.skip(0 if task in ahead else fits)
            continue
        # What could not be run ahead was taken off already.
        count.skip(-fits if task in ahead else 0)
        done = count.done
        try:
            found.append(
                run_fold(
                    bench,
                    fold,
                    task.blend,
                    task.earlier,
                    with_slow=task.with_slow,
                    count=count,
                )
            )
            bench.scratch.keep(task.name, dump_fold(found[-1]))
        except (NotTrainableError, PanelError) as error:
            days = fold.horizon_days
            notes.append(f"No backtest of {days} days at {fold.evaluation}: {error}")
        count.skip(fits - (count.done - done))
    return found


def decide_challenger(result: TrainingResult, policy: Policy | None = None) -> Decision:
    """Ask the gate whether the challenger takes over."""
    as_of = Cutoff.parse(result.manifest["as_of"])
    newer = (as_of.day - result.champion_as_of.day).days if result.champion_as_of else 0
    return decide(
        result.backtest,
        result.champion_backtest,
        policy or Policy(),
        has_champion=result.champion_version is not None,
        days_newer=newer,
        is_same_recipe=result.is_same_recipe,
        other_question=result.other_question,
    )


def _known_labels(panel: Panel, as_of: Cutoff) -> pd.DataFrame:
    """Drop labels that reach past ``as_of``, whatever the table holds."""
    ends = panel.labels["cutoff_date"] + pd.to_timedelta(panel.labels["horizon_days"], unit="D")
    return panel.labels[ends <= pd.Timestamp(as_of.day)]


def _check_customers(panel: Panel, as_of: Cutoff) -> None:
    if as_of not in panel.cutoffs:
        raise TrainingRefused(f"Training refused: the panel holds no features at {as_of}.")
    newest = panel.features_at(as_of)
    buyers = int((newest["count_order_days"].fillna(0) > 0).sum())
    if buyers < MIN_CUSTOMERS:
        raise TrainingRefused(
            f"Training refused: {buyers} customers have ordered by {as_of}; "
            f"at least {MIN_CUSTOMERS} are needed."
        )


def _fit_clusters(model: CLVModel, panel: Panel, as_of: Cutoff, settings: Settings) -> None:
    rows = history_matrix(panel.features_at(as_of))
    clusters = BehaviourClusters(settings.model.clusters, settings.model.seed).fit(rows)
    try:
        previous = store.load_champion(settings.paths.models)[0].clusters_
    except store.ModelStoreError:
        previous = None
    model.clusters_ = clusters.align(previous)
