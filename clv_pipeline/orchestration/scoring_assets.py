"""What happens after the features: predictions, standing, publication."""

from typing import Any

import dagster as dg

from clv_pipeline.orchestration import serving
from clv_pipeline.orchestration.checks import describe_gate
from clv_pipeline.orchestration.common import explained, stage_asset
from clv_pipeline.orchestration.partitions import run_cutoff
from clv_pipeline.orchestration.previews import (
    SUMMARY,
    describe_rows,
    plot_bars,
    plot_histogram,
    preview,
)
from clv_pipeline.orchestration.project import Project
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_published, read_frame

PREDICTIONS = dg.AssetKey(["scores", "customer_predictions"])
STANDING = dg.AssetKey(["scores", "customer_standing"])
ACTIONS = dg.AssetKey(["scores", "segment_actions"])
TOTALS = dg.AssetKey(["scores", "clv_totals"])
PUBLISHED = dg.AssetKey("published_tables")
SCORING_ASSETS = (PREDICTIONS, STANDING, ACTIONS, TOTALS, PUBLISHED)
CHAMPION = dg.AssetKey("champion_model")
FEATURES = dg.AssetKey(["features", "customer_features"])
PUBLISHED_GATE = "published_gate"


def build_scoring_assets(
    partitions: dg.PartitionsDefinition[str], marts: list[dg.AssetKey]
) -> list[dg.AssetsDefinition]:
    """Return the assets that score and publish.

    Parameters
    ----------
    marts
        What publication waits for.
    """

    @stage_asset(
        key=PREDICTIONS,
        # The champion of whichever day: scoring follows the pointer.
        deps=[FEATURES, dg.AssetDep(CHAMPION, partition_mapping=dg.AllPartitionMapping())],
        group="scoring",
        kinds={"python", "xgboost", "duckdb"},
        description="What each customer is predicted to bring over each horizon, with P10, P50 and "
        "P90, by the champion.",
        partitions=partitions,
    )
    def customer_predictions(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.MaterializeResult[Any]:
        notes: list[str] = []
        with explained():
            predictions = serving.score(
                project.settings, run_cutoff(context), context.run.run_id, notes.append
            )
        metadata = _show_predictions(predictions)
        for note in notes:
            context.log.warning(note)
            metadata |= {SUMMARY: f"{metadata[SUMMARY]}. {note}", "stand-in": note}
        return dg.MaterializeResult(metadata=metadata)

    @stage_asset(
        key=STANDING,
        deps=[PREDICTIONS, FEATURES],
        group="scoring",
        kinds={"python", "duckdb"},
        description="Where each customer stands: rank, tier, segments, churn, loyalty, confidence.",
        partitions=partitions,
    )
    def customer_standing(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            standing = serving.stand(project.settings, run_cutoff(context))
        segments = standing["segment"].value_counts()
        return dg.MaterializeResult(
            metadata={
                **describe_rows(
                    len(standing), f"{len(standing):,} customers in {len(segments)} segments"
                ),
                "preview": preview(standing),
                "segments": plot_bars(
                    list(segments.index), list(segments), title="Customers per segment"
                ),
            }
        )

    @stage_asset(
        key=TOTALS,
        deps=[PREDICTIONS, STANDING, FEATURES],
        group="scoring",
        kinds={"python", "duckdb"},
        description="What all customers, each segment and each country are predicted to bring, "
        "with intervals of the totals.",
        partitions=partitions,
    )
    def clv_totals(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            totals = serving.total(project.settings, run_cutoff(context))
        return dg.MaterializeResult(
            metadata={
                **describe_rows(len(totals), f"{len(totals)} totals of groups of customers"),
                "preview": preview(totals, rows=20),
            }
        )

    @stage_asset(
        key=PUBLISHED,
        deps=marts,
        group="publication",
        kinds={"python", "duckdb", "parquet"},
        description="What analysts open: clv.duckdb and Parquet, written aside, audited, and made "
        "visible by one rename.",
        check_specs=[
            dg.AssetCheckSpec(
                PUBLISHED_GATE,
                asset=PUBLISHED,
                description="The new version as a reader would find it.",
            )
        ],
        partitions=partitions,
    )
    def published_tables(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> Any:
        settings = project.settings
        with explained():
            outcome = serving.publish_cutoff(settings, run_cutoff(context), context.run.run_id)
        if outcome.gate is not None:
            yield dg.AssetCheckResult(
                passed=outcome.gate.is_passed,
                asset_key=PUBLISHED,
                check_name=PUBLISHED_GATE,
                description=outcome.gate.sentence,
                metadata=describe_gate(outcome.gate),
            )
        if outcome.refusal is not None:
            raise dg.Failure(outcome.refusal, allow_retries=False)
        total = sum(outcome.rows.values())
        yield dg.MaterializeResult(
            asset_key=PUBLISHED,
            metadata={
                **describe_rows(total, f"{len(outcome.rows)} tables, {total:,} rows"),
                **_show_published(settings, outcome.rows),
            },
        )

    @stage_asset(
        key=ACTIONS,
        group="scoring",
        kinds={"python", "duckdb"},
        description="What to do about each action segment, in words.",
        partitions=partitions,
    )
    def segment_actions(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            actions = serving.write_actions(project.settings)
        return dg.MaterializeResult(
            metadata={
                **describe_rows(len(actions), f"{len(actions)} segments"),
                "preview": preview(actions, rows=20),
            }
        )

    return [
        customer_predictions,
        customer_standing,
        segment_actions,
        clv_totals,
        published_tables,
    ]


def _show_predictions(predictions: Any) -> dict[str, Any]:
    longest = int(predictions["horizon_days"].max())
    shown = predictions[predictions["horizon_days"] == longest]
    total = shown["clv"].sum()
    version = predictions["model_version"].iloc[0]
    summary = f"{len(shown):,} customers by {version}, {total:,.0f} expected in {longest} days"
    totals = predictions.groupby("horizon_days")["clv"].sum()
    return {
        **describe_rows(len(predictions), summary),
        "model version": version,
        "the highest": preview(shown.nlargest(5, "clv")),
        "values": plot_histogram(
            shown["clv"], title=f"Expected value over {longest} days", label="reporting currency"
        ),
        "totals": plot_bars(
            [f"{days} days" for days in totals.index], list(totals), title="Total expected value"
        ),
    }


def _show_published(settings: Settings, rows: dict[str, int]) -> dict[str, Any]:
    with open_published(settings) as connection:
        best = read_frame(connection, "SELECT * FROM clv.customer_clv ORDER BY clv_rank LIMIT 5")
    return {
        "folder": dg.MetadataValue.path(str(settings.paths.published)),
        "rows": dg.MetadataValue.json(rows),
        "preview": preview(best),
        "tables": plot_bars(list(rows), list(rows.values()), title="Rows per published table"),
    }
