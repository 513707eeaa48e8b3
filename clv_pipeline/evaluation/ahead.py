"""Fits of a training, made ahead by a process per core.

What they fit is kept as an interrupted training keeps it, and the training goes on from there. So
it gives the same however many processes there are, and what one of them could not fit is tried
again, and reported, where it is needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from clv_pipeline.evaluation.backtest import compared_candidates, run_fold
from clv_pipeline.evaluation.keeping import dump_fold, load_fold
from clv_pipeline.evaluation.settling import Settled, settle
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.fold import Workbench
from clv_pipeline.models.histories import Attempt, Histories
from clv_pipeline.models.learnable import NotTrainableError, TrainingRefused
from clv_pipeline.models.panel import Panel, PanelError
from clv_pipeline.models.room import folder_beyond, limit_matrices
from clv_pipeline.models.scratch import Scratch
from clv_pipeline.parallel import answer_all, count_workers, open_pool
from clv_pipeline.planning import HorizonPlan
from clv_pipeline.progress import FitCounter
from clv_pipeline.settings import Settings
from clv_pipeline.spilling import spill_folder
from clv_pipeline.timeline import Cutoff, Fold

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

# Panels of fewer rows are learned from before other processes have started and read them.
LEAST_ROWS = 200_000


@dataclass(frozen=True)
class FoldTask:
    """A fold of the backtest, to be run.

    Attributes
    ----------
    fold, blend, earlier, with_slow
        As ``run_fold`` takes them.
    """

    fold: Fold
    blend: tuple[Cutoff, ...]
    earlier: tuple[tuple[Cutoff, tuple[Cutoff, ...]], ...]
    with_slow: bool

    @property
    def name(self) -> str:
        """Under which its answers are kept."""
        return f"fold_{self.fold.horizon_days}_{self.fold.evaluation}"

    def count_fits(self, settings: Settings) -> int:
        """Return how many fits ``run_fold`` counts."""
        options = FitOptions.from_settings(settings, self.fold.horizon_days)
        return 1 + len(compared_candidates(options, with_slow=self.with_slow))

    def __str__(self) -> str:
        return f"backtest of {self.fold.horizon_days} days at {self.fold.evaluation}"


@dataclass(frozen=True)
class ExpertsTask:
    """Experts to be fitted on the labels of some cutoffs."""

    horizon_days: int
    cutoffs: tuple[Cutoff, ...]

    def __str__(self) -> str:
        return f"experts over {self.horizon_days} days that know {self.cutoffs[-1]}"


@dataclass(frozen=True)
class HistoryTask:
    """A buy-till-you-die model to be fitted."""

    cutoff: Cutoff

    def __str__(self) -> str:
        return f"purchase history at {self.cutoff}"


@dataclass(frozen=True)
class HorizonTask:
    """A horizon to be settled, when all its folds were run."""

    horizon_days: int
    plan: HorizonPlan
    as_of: Cutoff

    def __str__(self) -> str:
        return f"the model of {self.horizon_days} days"


Task = FoldTask | ExpertsTask | HistoryTask | HorizonTask
Known = Mapping[Cutoff, Attempt]


@dataclass(frozen=True, eq=False)
class Ahead:
    """What was tried ahead.

    Attributes
    ----------
    folds
        Those that are kept now, if they could be run.
    settled
        By horizon.
    """

    folds: frozenset[FoldTask] = frozenset()
    settled: dict[int, Settled] = field(default_factory=dict)


def list_folds(settings: Settings, plan: HorizonPlan) -> list[FoldTask]:
    """List the folds of a horizon's backtest, newest first: slow candidates take part in it."""
    return [
        FoldTask(
            fold,
            blend,
            plan.earlier(fold.training[-1]),
            j == 0 or settings.model.candidates == "full",
        )
        for j, (fold, blend) in enumerate(reversed(plan.folds))
    ]


def fit_ahead(
    settings: Settings,
    panel: Panel,
    as_of: Cutoff,
    histories: Histories,
    scratch: Scratch,
    plans: Mapping[int, HorizonPlan],
    count: FitCounter,
) -> Ahead:
    """Fit purchase histories, experts, folds and horizons, each group by all processes.

    Parameters
    ----------
    settings, panel, as_of
        Of the training.
    histories
        Told of every purchase history.
    scratch
        Where experts and folds are kept.
    plans
        By horizon.
    count
        Told of each fit, and of folds that need not be counted one candidate at a time.
    """
    tested = {horizon: plan for horizon, plan in plans.items() if plan.folds}
    experts = dict.fromkeys(
        ExpertsTask(horizon, cutoffs)
        for horizon, plan in tested.items()
        for cutoffs in _list_experts(settings, plan)
        if set(cutoffs) <= set(panel.cutoffs)
    )
    folds = [task for plan in tested.values() for task in list_folds(settings, plan)]
    ahead = Ahead(frozenset(folds))
    groups: list[list[Task]] = [
        [HistoryTask(cutoff) for cutoff in panel.cutoffs],
        [*experts],
        [*folds],
        [HorizonTask(horizon, plan, as_of) for horizon, plan in tested.items()],
    ]
    count.skip(sum(task.count_fits(settings) for task in folds) + len(tested))
    count.skip(-sum(map(len, groups)))
    spill = spill_folder(settings)
    spill.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="panel_", dir=spill) as folder:
        _write_panel(panel, Path(folder))
        make = partial(_Fitter, settings, Path(folder), panel.columns, histories.seed, scratch)
        try:
            with open_pool(make, count_processes(settings, panel, scratch)) as pool:
                for tasks in groups:
                    known = histories.known()
                    for (task, _), answer in answer_all(pool, [(t, known) for t in tasks]):
                        if isinstance(task, HistoryTask):
                            histories.take(task.cutoff, answer)
                        elif isinstance(task, HorizonTask) and answer is not None:
                            ahead.settled[task.horizon_days] = answer
                        count(str(task))
        except BrokenProcessPool:
            # Ended from outside, for want of memory at times: one process needs less.
            pass
    return ahead


def _list_experts(settings: Settings, plan: HorizonPlan) -> Iterator[tuple[Cutoff, ...]]:
    """List the cutoffs that a horizon's experts know, wherever they are asked for."""
    asked = [(plan.training, plan.blend, plan.earlier(plan.training[-1]))] if plan.training else []
    asked += [(t.fold.training, t.blend, t.earlier) for t in list_folds(settings, plan)]
    for training, blend, earlier in asked:
        yield from (known for known in (training, blend) if known)
        yield from (known for _, known in earlier)


def count_processes(settings: Settings, panel: Panel, scratch: Scratch) -> int:
    """Return how many processes share the fits of a panel.

    As many as can hold what they encode of it in memory, together; Spark has its own.
    """
    rows = len(panel.features)
    workers = count_workers(settings, rows, LEAST_ROWS)
    encoded = 4 * rows * len(panel.features.columns)
    if not scratch.keeps or settings.engine.name == "spark":
        return 1
    while workers > 1 and folder_beyond(workers * encoded) is not None:
        workers -= 1
    return workers


class _Fitter:
    """What one process fits, and with what.

    Parameters
    ----------
    settings
        Of the training.
    folder
        Holds the panel.
    columns
        Of the panel.
    seed
        Of purchase histories.
    scratch
        Where fits are kept.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        columns: tuple[Feature, ...],
        seed: int,
        scratch: Scratch,
    ) -> None:
        self._settings = settings
        self._panel = _read_panel(folder, columns)
        self._histories = Histories(self._panel, seed)
        self._scratch = scratch
        self._bench: Workbench | None = None

    def __call__(self, named: tuple[Task, Known]) -> Attempt | Settled | None:
        """Fit something; None where it is kept, or could not be fitted."""
        task, known = named
        for cutoff, attempt in known.items():
            self._histories.take(cutoff, attempt)
        with limit_matrices(self._settings):
            if isinstance(task, HistoryTask):
                return self._histories.attempt(task.cutoff)
            try:
                if isinstance(task, ExpertsTask):
                    self._at(task.horizon_days).experts(task.cutoffs)
                elif isinstance(task, FoldTask):
                    self._run(task)
                else:
                    return self._settle(task)
            except (NotTrainableError, PanelError, TrainingRefused):
                return None
        return None

    def _run(self, task: FoldTask) -> None:
        fold, bench = task.fold, self._at(task.fold.horizon_days)
        if self._scratch.find(task.name) is None:
            found = run_fold(bench, fold, task.blend, task.earlier, with_slow=task.with_slow)
            self._scratch.keep(task.name, dump_fold(found))

    def _settle(self, task: HorizonTask) -> Settled | None:
        found = []
        for fold in list_folds(self._settings, task.plan):
            files = self._scratch.find(fold.name)
            if files is None:
                return None
            found.append(load_fold(fold.fold, files))
        value = self._settings.value
        model = CLVModel(value.horizons, value.yearly_discount_rate)
        model.history_ = self._histories.at(task.as_of)
        settled = settle(model, self._at(task.horizon_days), task.plan, found, task.as_of)
        model.history_ = None
        return None if settled.refusals else settled

    def _at(self, horizon_days: int) -> Workbench:
        """Return the bench of a horizon; the last one is kept."""
        if self._bench is None or self._bench.options.horizon_days != horizon_days:
            options = FitOptions.from_settings(self._settings, horizon_days)
            self._bench = Workbench(
                self._panel, options, self._histories, self._scratch, self._settings
            )
        return self._bench


def _write_panel(panel: Panel, folder: Path) -> None:
    for name in ("features", "labels", "days"):
        frame: pd.DataFrame | None = getattr(panel, name)
        if frame is not None:
            frame.reset_index(drop=True).to_feather(folder / name, compression="uncompressed")


def _read_panel(folder: Path, columns: tuple[Feature, ...]) -> Panel:
    found: dict[str, Any] = {file.name: pd.read_feather(file) for file in folder.iterdir()}
    return Panel(found["features"], found["labels"], columns, found.get("days"))
