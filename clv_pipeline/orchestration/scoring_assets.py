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
from clv_pipeline.orchestration.resuming import do_once
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_published, open_warehouse, read_frame

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
            settings, cutoff = project.settings, run_cutoff(context)
            scored = do_once(
                project,
                "predictions",
                lambda: serving.score(
                    settings, cutoff, context.run.run_id, notes.append, context.log.info
                ),
                lambda: serving.recall_scores(settings, cutoff),
                context.log.info,
            )
        metadata = _show_predictions(project.settings, run_cutoff(context), scored)
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
            settings, cutoff = project.settings, run_cutoff(context)
            count = do_once(
                project,
                "standing",
                lambda: serving.stand(settings, cutoff, context.log.info),
                lambda: serving.recall_scores(settings, cutoff).customers,
                context.log.info,
            )
        with open_warehouse(project.settings, read_only=True) as connection:
            day = [run_cutoff(context).day]
            segments = read_frame(connection, _SEGMENTS, day).set_index("segment")["customers"]
            first = read_frame(connection, _FIRST, day)
        return dg.MaterializeResult(
            metadata={
                **describe_rows(count, f"{count:,} customers in {len(segments)} segments"),
                "preview": preview(first),
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


_SEGMENTS = """
SELECT segment, count(*) AS customers FROM scores.customer_standing WHERE cutoff_date = ?
GROUP BY segment ORDER BY customers DESC, segment
"""
_FIRST = "SELECT * FROM scores.customer_standing WHERE cutoff_date = ? ORDER BY clv_rank LIMIT 5"
_TOTALS = """
SELECT horizon_days, sum(clv) AS clv FROM scores.customer_predictions WHERE cutoff_date = ?
GROUP BY horizon_days ORDER BY horizon_days
"""
_HIGHEST = """
SELECT * FROM scores.customer_predictions WHERE cutoff_date = ? AND horizon_days = ?
ORDER BY clv DESC, customer_id LIMIT 5
"""
# A histogram of so many customers looks like that of all of them.
_VALUES = """
SELECT clv FROM scores.customer_predictions WHERE cutoff_date = ? AND horizon_days = ?
ORDER BY md5(customer_id), customer_id LIMIT 20000
"""


def _show_predictions(settings: Settings, cutoff: Cutoff, scored: serving.Scored) -> dict[str, Any]:
    longest, version = max(settings.value.horizons), scored.model_version
    with open_warehouse(settings, read_only=True) as connection:
        found = read_frame(connection, _TOTALS, [cutoff.day])
        highest = read_frame(connection, _HIGHEST, [cutoff.day, longest])
        values = read_frame(connection, _VALUES, [cutoff.day, longest])["clv"]
    totals = found.set_index("horizon_days")["clv"]
    summary = (
        f"{scored.customers:,} customers by {version}, {totals[longest]:,.0f} expected in "
        f"{longest} days"
    )
    return {
        **describe_rows(scored.rows, summary),
        "model version": version,
        "the highest": preview(highest),
        "values": plot_histogram(
            values, title=f"Expected value over {longest} days", label="reporting currency"
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
