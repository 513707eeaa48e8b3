"""`clv tune`: search for better settings of [model] on what has landed, and write them down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from clv_pipeline.orchestration.learning import LearningError, matured_cutoffs, read_panel
from clv_pipeline.orchestration.partitions import data_days
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import write_atomically

FILE = "tuned.toml"


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes
    ----------
    trials
        A row per trial, best first.
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
    by: Literal["time", "cohort"] = "time",
    method: Literal["bayes", "random", "grid"] = "bayes",
    budget_seconds: float = 300.0,
    select_features: bool = False,
    horizon_days: int | None = None,
    tell: Callable[[str], object] | None = None,
) -> Tuning:
    """Search on the cutoffs that a training for the cutoff would learn from.

    Raises
    ------
    LearningError
        If nothing has landed, features are missing, or no cutoff can be held out.
    """
    from clv_pipeline.evaluation.search import search, splits_by_cohort, splits_by_time
    from clv_pipeline.features.services import find_service
    from clv_pipeline.models.base import FitOptions
    from clv_pipeline.models.fold import Histories, Workbench
    from clv_pipeline.models.panel import Panel, leave_out
    from clv_pipeline.training import plan_horizon

    days = data_days(settings)
    if days is None:
        raise LearningError("No transaction has landed, so there is nothing to search on.")
    as_of = cutoff or Cutoff(min(days[1], settings.cadence.last_cutoff or days[1]))
    columns = leave_out(find_service(settings).inputs, settings.model.left_out_features)
    features, labels = read_panel(settings, matured_cutoffs(settings, as_of), columns)
    panel = Panel.build(features, labels, columns)
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
    found = search(
        panel,
        options,
        splits,
        method=method,
        budget_seconds=budget_seconds,
        select_features=select_features,
        tell=tell,
    )
    rows = [
        {
            **trial.parameters,
            "loss": trial.loss,
            "normalized_gini": trial.normalized_gini,
            "rmse": trial.rmse,
            "total_bias": trial.total_bias,
            "seconds": trial.seconds,
        }
        for trial in found.trials
    ]
    table = pd.DataFrame(rows).sort_values("loss", kind="stable", ignore_index=True)
    toml = (
        f"# Found by clv tune on {horizon} days as of {as_of}, by {by}, {len(rows)} trials:\n"
        f"# loss {found.best.loss:.4f} against {found.trials[0].loss:.4f} with the settings "
        "before.\n" + found.to_toml()
    )
    file = settings.paths.home / FILE
    write_atomically(file, toml.encode())
    return Tuning(table, toml, file, horizon)
