"""`clv tune`: search for better settings of [model] on what has landed, and write them down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from clv_pipeline.orchestration.learning import (
    LearningError,
    matured_cutoffs,
    read_order_days,
    read_panel,
)
from clv_pipeline.orchestration.partitions import data_days
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import write_atomically

FILE = "tuned.toml"
EVERY = "all"


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes
    ----------
    trials
        A row per trial, best first; ``searched`` says for what.
    toml
        The lines for clv.toml.
    file
        Where they were written.
    horizon_days
        The horizon that was searched for.
    """

    trials: pd.DataFrame
    toml: str
    file: Path
    horizon_days: int


def tune(
    settings: Settings,
    cutoff: Cutoff | None,
    *,
    candidate: str = "experts",
    by: Literal["time", "cohort"] = "time",
    method: Literal["bayes", "random", "grid"] = "bayes",
    budget_seconds: float = 300.0,
    select_features: bool = False,
    horizon_days: int | None = None,
    tell: Callable[[str], object] | None = None,
) -> Tuning:
    """Search on the cutoffs that a training for the cutoff would learn from.

    Parameters
    ----------
    candidate
        What to search for, one of ``subject_names``; ``all`` shares the time among all of them that
        can be fitted here. Lines for clv.toml are those of the boosted experts, or of the one that
        was named.

    Raises
    ------
    LearningError
        If nothing has landed, features are missing, no cutoff can be held out, or there is no such
        candidate.
    """
    from clv_pipeline.evaluation.search import search
    from clv_pipeline.evaluation.splits import splits_by_cohort, splits_by_time
    from clv_pipeline.evaluation.trials import SUBJECTS
    from clv_pipeline.features.services import find_service
    from clv_pipeline.models.base import FitOptions
    from clv_pipeline.models.fold import Workbench
    from clv_pipeline.models.histories import Histories
    from clv_pipeline.models.panel import Panel, leave_out
    from clv_pipeline.planning import plan_horizon

    names = subject_names() if candidate == EVERY else [candidate]
    if not set(names) <= set(SUBJECTS):
        raise LearningError(f"'{candidate}' can't be searched: {', '.join(SUBJECTS)} can.")
    subjects = [SUBJECTS[name] for name in names]
    days = data_days(settings)
    if days is None:
        raise LearningError("No transaction has landed, so there is nothing to search on.")
    as_of = cutoff or Cutoff(min(days[1], settings.cadence.last_cutoff or days[1]))
    columns = leave_out(find_service(settings).inputs, settings.model.left_out_features)
    features, labels = read_panel(settings, matured_cutoffs(settings, as_of), columns)
    panel = Panel.build(features, labels, columns)
    if any(model.reads_days for subject in subjects for model in subject.models):
        panel = replace(panel, days=read_order_days(settings, panel.cutoffs))
    horizons = [h for h in settings.value.horizons if horizon_days in (None, h)]
    plans = {h: plan_horizon(settings, as_of, h, days[0]) for h in horizons}
    tested = [h for h, plan in plans.items() if plan.folds]
    if not tested:
        raise LearningError(
            f"No cutoff up to {as_of} can be held out over {horizon_days or 'any'} days: "
            "`clv doctor` says which horizons can be tested."
        )
    preferred = horizon_days or settings.value.churn_days
    horizon = preferred if preferred in tested else tested[-1]
    options = FitOptions.from_settings(settings, horizon)
    bench = Workbench(panel, options, Histories(panel, settings.model.seed))
    folds = [fold for fold, _ in plans[horizon].folds]
    splits = (
        splits_by_time(bench, folds)
        if by == "time"
        else splits_by_cohort(bench, folds[-1].training)
    )
    if tell is not None:
        for split in splits:
            tell(f"judged on {split.name}")
    results = [
        search(
            panel,
            options,
            splits,
            subject=subject,
            method=method,
            budget_seconds=budget_seconds / len(subjects),
            select_features=select_features,
            tell=tell,
        )
        for subject in subjects
    ]
    found = results[0]
    rows = [
        {
            "searched": result.subject.name,
            "loss": trial.loss,
            "normalized_gini": trial.normalized_gini,
            "rmse": trial.rmse,
            "total_bias": trial.total_bias,
            "seconds": trial.seconds,
            **trial.parameters,
        }
        for result in results
        for trial in result.trials
    ]
    table = pd.DataFrame(rows).sort_values("loss", kind="stable", ignore_index=True)
    toml = (
        f"# Found by clv tune on {horizon} days as of {as_of}, by {by}, for {found.subject.name}, "
        f"{len(found.trials)} trials:\n"
        f"# loss {found.best.loss:.4f} against {found.trials[0].loss:.4f} with the settings "
        "before.\n" + found.to_toml()
    )
    file = settings.paths.home / FILE
    write_atomically(file, toml.encode())
    return Tuning(table, toml, file, horizon)


def subject_names() -> list[str]:
    """List what can be searched here: networks where PyTorch is installed, the experts first."""
    from clv_pipeline.evaluation.trials import SUBJECTS
    from clv_pipeline.models.neural.training import has_torch

    return [
        name
        for name, subject in SUBJECTS.items()
        if has_torch() or not any(model.is_neural for model in subject.models)
    ]
