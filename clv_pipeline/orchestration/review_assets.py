"""How earlier predictions turned out, once their labels have matured."""

from typing import Any

import dagster as dg

from clv_pipeline.orchestration.common import explained, stage_asset
from clv_pipeline.orchestration.previews import describe_rows, preview, show_image
from clv_pipeline.orchestration.project import Project
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, read_frame

REVIEW = dg.AssetKey("prediction_review")
MATURED = dg.AssetKey(["clv", "matured_predictions"])


def build_review_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """Return the asset that reviews matured predictions."""

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

    return [prediction_review]


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
        return describe_rows(0, "no label of a published prediction has matured yet"), drifts
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
