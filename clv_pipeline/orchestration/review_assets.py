"""Why the values are what they are, and how earlier ones turned out once their labels matured."""

from typing import Any

import dagster as dg

from clv_pipeline.orchestration import serving
from clv_pipeline.orchestration.common import (
    BACKFILL,
    OWNER,
    POOL,
    RETRY,
    explained,
    stage_asset,
)
from clv_pipeline.orchestration.partitions import run_cutoff
from clv_pipeline.orchestration.previews import describe_rows, preview, show_image
from clv_pipeline.orchestration.project import Project
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, read_frame

REVIEW = dg.AssetKey("prediction_review")
MATURED = dg.AssetKey(["clv", "matured_predictions"])
EFFECTS = dg.AssetKey(["scores", "feature_effects"])
DEPENDENCE = dg.AssetKey(["scores", "partial_dependence"])
REVIEW_ASSETS = (REVIEW, EFFECTS, DEPENDENCE)
STANDING = dg.AssetKey(["scores", "customer_standing"])
_DRIVERS = {
    EFFECTS: "What drives the values: effects in money with direction, by horizon and segment.",
    DEPENDENCE: "How the mean value moves with each of the main drivers.",
}


def build_review_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """Return the assets that explain the values, and review those that matured."""

    @dg.multi_asset(
        name="drivers",
        specs=[
            dg.AssetSpec(
                key,
                deps=[STANDING],
                group_name="scoring",
                owners=[OWNER],
                kinds={"python", "xgboost", "duckdb"},
                description=text,
            )
            for key, text in _DRIVERS.items()
        ],
        partitions_def=partitions,
        backfill_policy=BACKFILL,
        retry_policy=RETRY,
        pool=POOL,
    )
    def drivers(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]) -> Any:
        with explained():
            effects, dependence = serving.explain_drivers(project.settings, run_cutoff(context))
            shown = show_drivers(effects, dependence)
        for key, frame in ((EFFECTS, effects), (DEPENDENCE, dependence)):
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    **describe_rows(len(frame), shown["drivers"]),
                    "preview": preview(frame, rows=10),
                    **(shown if key == EFFECTS else {}),
                },
            )

    @stage_asset(
        key=REVIEW,
        deps=[MATURED],
        group="publication",
        kinds={"python"},
        description="Predicted against actual where the label has matured, by cohort, and whether "
        "the model drifts.",
        partitions=partitions,
    )
    def prediction_review(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            metadata, drifts = show_review(project.settings)
        for sentence in drifts:
            context.log.warning(sentence)
        return dg.MaterializeResult(metadata=metadata)

    return [drivers, prediction_review]


def show_drivers(effects: Any, dependence: Any) -> dict[str, Any]:
    """Describe the drivers of the longest horizon."""
    if effects.empty:
        return {"drivers": "nobody to explain"}
    from clv_pipeline.reporting.plots import plot_effects

    longest = effects["horizon_days"].max()
    rows = effects[(effects["horizon_days"] == longest) & (effects["segment"] == "all")]
    concepts = rows[rows["level"] == "concept"].sort_values("driver_rank")
    features = rows[rows["level"] == "feature"]
    first = ", ".join(f"{c.driver} ({c.share:.0%})" for c in concepts.head(3).itertuples())
    columns = ["driver", "direction", "mean_absolute_effect", "mean_effect", "share"]
    image = plot_effects(features, dependence[dependence["horizon_days"] == longest])
    return {
        "drivers": f"over {longest} days: {first}",
        "concepts": preview(concepts[columns], rows=12),
        "what drives the value": show_image(image, title="What drives the value"),
    }


def show_review(settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """Read the matured predictions and describe them.

    Returns
    -------
    tuple
        The asset's metadata, and a sentence for each horizon that drifts.
    """
    from clv_pipeline.reporting.review import review_predictions

    with open_warehouse(settings, read_only=True) as connection:
        review = read_frame(connection, "SELECT * FROM clv.matured_predictions")
    found = review_predictions(review)
    drifts = [entry.drift for entry in found if entry.drift is not None]
    if not found:
        waiting = describe_rows(0, "no label of a published prediction has matured yet")
        return {**waiting, "newest": preview(review)}, drifts
    from clv_pipeline.reporting.plots import plot_review

    newest = max(review["cutoff_date"])
    is_shown = (review["cutoff_date"] == newest) & (review["cohort"] == "all")
    summary = " ".join(drifts) or "No drift. " + found[0].sentence
    return {
        **describe_rows(len(review), summary),
        "how it turned out": dg.MetadataValue.md("\n".join(f"- {e.sentence}" for e in found)),
        "drift": " ".join(drifts) or "none",
        "newest": preview(review[is_shown], rows=12),
        "predicted and actual": show_image(plot_review(review), title="Predicted and actual"),
    }, drifts
