"""The figures of a training: kept beside the model, posted to ``scores``, shown as plots."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from clv_pipeline.orchestration.learning import CHALLENGER, mark_champion
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, replace_rows

if TYPE_CHECKING:
    from clv_pipeline.training import TrainingResult

# Tables of ``scores`` and the files beside a model that hold their rows.
TABLES = {
    "model_leaderboard": "leaderboard.parquet",
    "backtest_metrics": "backtest_metrics.parquet",
    "calibration": "calibration.parquet",
    "model_comparisons": "model_comparisons.parquet",
    "model_effects": "model_effects.parquet",
}
# Drawn beside what serves, where they took part.
RIVALS = ("ensemble", "pareto_nbd", "rate_times_aov", "bg_nbd")
PLOTS = "plots/"


@dataclass(frozen=True)
class PostedFigures:
    """What was posted of the newest challenger.

    Attributes
    ----------
    tables
        Its rows, by table of ``scores``.
    plots
        PNG by title.
    """

    tables: dict[str, pd.DataFrame]
    plots: dict[str, bytes] = field(default_factory=dict)


def collect_figures(settings: Settings, result: TrainingResult) -> dict[str, bytes]:
    """Return the tables and plots of a training as files to keep beside the model."""
    frames = {
        "model_leaderboard": result.leaderboard,
        "backtest_metrics": result.backtest_metrics,
        "calibration": result.calibration,
        "model_comparisons": result.comparisons,
        "model_effects": result.effects,
    }
    files = {TABLES[name]: _to_parquet(frame) for name, frame in frames.items()}
    plots = draw_backtest(settings, result)
    return files | {f"{PLOTS}{title}.png": image for title, image in plots.items()}


def draw_backtest(settings: Settings, result: TrainingResult) -> dict[str, bytes]:
    """Draw calibration, concentration and residuals of what serves, on the newest fold.

    Of the churn horizon, or of the longest horizon with a backtest where that has none.
    """
    from clv_pipeline.reporting import plots

    tested = sorted({fold.fold.horizon_days for fold in result.folds})
    if not tested:
        return {}
    horizon = settings.value.churn_days
    horizon = horizon if horizon in tested else tested[-1]
    newest = max(
        (fold for fold in result.folds if fold.fold.horizon_days == horizon),
        key=lambda fold: fold.fold.evaluation,
    )
    serves = str(result.manifest["horizons"][str(horizon)]["served_by"])
    names = [n for n in dict.fromkeys((serves, *RIVALS)) if n in newest.value]
    chosen = newest.forecasts(names[0])
    rivals = {name: newest.forecasts(name) for name in names}
    return {
        "Calibration": plots.plot_calibration(chosen, names[0]),
        "Lorenz and lift": plots.plot_concentration(rivals),
        "Residuals": plots.plot_residuals(chosen, names[0]),
    }


def post_figures(settings: Settings) -> PostedFigures:
    """Put the newest challenger's and the champion's figures into ``scores``; mark what serves.

    A champion that can't be read any more keeps the figures that it has.

    Returns
    -------
    PostedFigures
        The newest challenger's.
    """
    from clv_pipeline.models import store

    folder = settings.paths.models
    challenger = json.loads((folder / CHALLENGER).read_text(encoding="utf-8"))
    newest = str(challenger["model_version"])
    try:
        champion = store.champion_version(folder)
    except store.ModelStoreError:
        champion = None
    versions = dict.fromkeys([champion, newest])
    posted = PostedFigures({})
    with open_warehouse(settings) as connection:
        for version in filter(None, versions):
            try:
                files, _ = store.load_files(folder, version)
            except store.ModelStoreError:
                if version == newest:
                    raise
                continue
            # A version of an earlier release may lack some.
            known = {table: name for table, name in TABLES.items() if name in files}
            for table, name in known.items():
                frame = pd.read_parquet(io.BytesIO(files[name]))
                replace_rows(connection, f"scores.{table}", frame, {"model_version": version})
                if version == newest:
                    posted.tables[table] = frame
            if version == newest:
                for name in sorted(files):
                    if name.startswith(PLOTS):
                        title = name.removeprefix(PLOTS).removesuffix(".png")
                        posted.plots[title] = files[name]
    mark_champion(settings)
    return posted


def recall_challenger(settings: Settings) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the newest challenger's manifest and leaderboard, as `learning.train` did."""
    from clv_pipeline.models import store

    folder = settings.paths.models
    pointer = json.loads((folder / CHALLENGER).read_text(encoding="utf-8"))
    files, manifest = store.load_files(folder, str(pointer["model_version"]))
    return manifest, pd.read_parquet(io.BytesIO(files[TABLES["model_leaderboard"]]))


def _to_parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
