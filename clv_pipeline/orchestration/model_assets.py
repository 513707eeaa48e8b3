"""The training job's own assets: challenger, champion, leaderboard."""

import json
from enum import Enum
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from clv_pipeline.orchestration import figures, learning
from clv_pipeline.orchestration.common import BACKFILL, OWNER, POOL, RETRY, explained, stage_asset
from clv_pipeline.orchestration.partitions import run_cutoff
from clv_pipeline.orchestration.previews import (
    describe_rows,
    plot_bars,
    preview,
    show_image,
)
from clv_pipeline.orchestration.project import Project
from clv_pipeline.orchestration.resuming import do_once

GROUP = "model"
CHALLENGER = dg.AssetKey("challenger_model")
CHAMPION = dg.AssetKey("champion_model")
LEADERBOARD = dg.AssetKey(["scores", "model_leaderboard"])
METRICS = dg.AssetKey(["scores", "backtest_metrics"])
CALIBRATION = dg.AssetKey(["scores", "calibration"])
COMPARISONS = dg.AssetKey(["scores", "model_comparisons"])
EFFECTS = dg.AssetKey(["scores", "model_effects"])
FIGURES = {
    LEADERBOARD: "How good each model and baseline was on later cutoffs.",
    METRICS: "Every measure of every model, by slice of customers.",
    CALIBRATION: "Predicted against actual in tenths of the customers.",
    COMPARISONS: "Whether what serves beats each other model beyond noise.",
    EFFECTS: "What drives the models that only trees which stand in for them can take apart.",
}
TRAINING_ASSETS = (CHALLENGER, CHAMPION, *FIGURES)
FEATURES = dg.AssetKey(["features", "customer_features"])
LABELS = dg.AssetKey(["as_of", "customer_labels"])


class Candidates(Enum):
    """Which comparisons each backtest fold makes."""

    standard = "standard"
    full = "full"


class ChallengerConfig(dg.Config):
    """Where this run differs from [model] in clv.toml; empty fields do not differ."""

    seed: int | None = Field(default=None, ge=0, description="Of every random draw.")
    trees: int | None = Field(default=None, ge=1, le=5_000, description="Of each boosted model.")
    max_training_rows: int | None = Field(
        default=None, ge=1_000, description="A larger panel is sampled."
    )
    clusters: int | None = Field(default=None, ge=2, le=20, description="Of K-means.")
    candidates: Candidates | None = Field(
        default=None, description="full: slow comparisons in every fold, too."
    )


def build_model_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """Return the assets that train and choose what serves."""

    @stage_asset(
        key=CHALLENGER,
        deps=[FEATURES, LABELS],
        kinds={"python", "xgboost", "scikitlearn"},
        description="An ensemble of buy-till-you-die models, K-means and XGBoost, trained on "
        "matured cutoffs and backtested on later ones, saved as data with its manifest.",
        partitions=partitions,
        group=GROUP,
    )
    def challenger_model(
        context: dg.AssetExecutionContext,
        config: ChallengerConfig,
        project: dg.ResourceParam[Project],
    ) -> dg.MaterializeResult[Any]:
        overrides = {
            name: value.value if isinstance(value, Enum) else value
            for name, value in config
            if value is not None
        }
        with explained():
            manifest, board = do_once(
                project,
                "challenger" + (json.dumps(overrides, sort_keys=True) if overrides else ""),
                lambda: learning.train(
                    project.settings,
                    run_cutoff(context),
                    context.run.run_id,
                    lambda text, share: context.log.info(f"{text} ({share:.0%})"),
                    overrides,
                ),
                lambda: figures.recall_challenger(project.settings),
                context.log.info,
            )
        for note in manifest["notes"]:
            context.log.info(note)
        version = manifest["model_version"]
        summary = (
            f"{version}: {manifest['count_rows']:,} rows of {len(manifest['cutoffs'])} cutoffs"
        )
        return dg.MaterializeResult(
            metadata={
                **describe_rows(manifest["count_rows"], summary),
                "model version": version,
                "horizons": dg.MetadataValue.json(manifest["horizons"]),
                "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in manifest["notes"])),
                **_show_board(board),
            }
        )

    @stage_asset(
        key=CHAMPION,
        deps=[CHALLENGER],
        kinds={"python"},
        description="The model that serves. A challenger takes over when the gate finds it better "
        "on a named measure and worse on none; otherwise the champion stays.",
        partitions=partitions,
        group=GROUP,
    )
    def champion_model(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            # The decision stands with the challenger: to carry it out twice changes nothing.
            promote = partial(learning.promote_if_better, project.settings, context.run.run_id)
            verdict = do_once(project, "champion", promote, promote, context.log.info)
        word = "serves now" if verdict.is_promoted else f"does not serve, {verdict.champion} stays"
        return dg.MaterializeResult(
            metadata={
                **describe_rows(
                    len(verdict.figures), f"{verdict.version} {word}: {verdict.reason}"
                ),
                "figures": preview(verdict.figures, rows=20),
                "champion": verdict.champion,
                "challenger": verdict.version,
                "promoted": verdict.is_promoted,
                "reason": verdict.reason,
            }
        )

    @dg.multi_asset(
        name="leaderboard",
        specs=[
            dg.AssetSpec(
                key,
                deps=[CHAMPION],
                group_name=GROUP,
                owners=[OWNER],
                kinds={"python", "duckdb"},
                description=text,
            )
            for key, text in FIGURES.items()
        ],
        partitions_def=partitions,
        backfill_policy=BACKFILL,
        retry_policy=RETRY,
        pool=POOL,
    )
    def leaderboard(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> Any:
        with explained():
            posted = figures.post_figures(project.settings)
        board = posted.tables["model_leaderboard"]
        summary = f"{board['model'].nunique()} models compared"
        plots = {title: show_image(png, title=title) for title, png in posted.plots.items()}
        shown = {
            LEADERBOARD: _show_board(board)
            | {name: plots[name] for name in ("Lorenz and lift",) if name in plots},
            CALIBRATION: {n: plots[n] for n in ("Calibration", "Residuals") if n in plots},
            COMPARISONS: _show_comparisons(posted.tables.get("model_comparisons")),
            EFFECTS: _show_effects(posted.tables.get("model_effects")),
        }
        for key in FIGURES:
            frame = posted.tables.get(key.path[-1])
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    **describe_rows(0 if frame is None else len(frame), summary),
                    **({} if frame is None else {"preview": preview(frame, rows=10)}),
                    **shown.get(key, {}),
                },
            )

    return [challenger_model, champion_model, leaderboard]


def _show_board(board: Any) -> dict[str, Any]:
    if board.empty:
        return {}
    newest = board[board["evaluation_date"] == board["evaluation_date"].max()]
    longest = newest[newest["horizon_days"] == newest["horizon_days"].max()]
    ranked = longest.sort_values("normalized_gini", ascending=False)
    serving = ranked.loc[ranked["is_champion"].astype(bool), "model"]
    days = int(longest["horizon_days"].iloc[0])
    columns = ["model", "normalized_gini", "spearman", "rmse", "total_bias", "top_10_capture"]
    return {
        "leaderboard": preview(ranked[columns], rows=20),
        "ranking": plot_bars(
            list(ranked["model"]),
            list(ranked["normalized_gini"]),
            title=f"Normalized Gini over {days} days at {longest['evaluation_date'].iloc[0]}",
            marked=None if serving.empty else str(serving.iloc[0]),
        ),
    }


def _show_comparisons(found: Any) -> dict[str, Any]:
    if found is None or found.empty:
        return {}
    longest = found[found["horizon_days"] == found["horizon_days"].max()]
    gini = longest[longest["measure"] == "normalized_gini"].sort_values("advantage")
    columns = [
        "other_model",
        "advantage",
        "advantage_low",
        "advantage_high",
        "probability_better",
        "verdict",
    ]
    days, serves = int(longest["horizon_days"].iloc[0]), longest["model"].iloc[0]
    return {
        "what it is": f"Advantage of {serves} in normalized Gini over {days} days, with its 95 % "
        "interval over customers",
        "comparisons": preview(gini[columns], rows=20),
    }


def _show_effects(found: Any) -> dict[str, Any]:
    if found is None or found.empty:
        return {}
    longest = found[found["horizon_days"] == found["horizon_days"].max()]
    first = longest[longest["driver_rank"] <= 5].sort_values(["model", "driver_rank"])
    columns = ["model", "driver", "direction", "mean_absolute_effect", "share", "fidelity"]
    days = int(longest["horizon_days"].iloc[0])
    return {
        "what it is": f"The five main drivers of each over {days} days, by trees that stand in for "
        "it; fidelity says how well they follow it",
        "drivers": preview(first[columns], rows=20),
    }
