"""The dbt models as assets: one group of steps per stage, so that gates stand between them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test
from pydantic import Field

from clv_pipeline import dbt_project, reuse, transform
from clv_pipeline.drawing import NOBODY_DRAWN, plan_draw, share_of
from clv_pipeline.engines.building import drop_past_cutoffs
from clv_pipeline.orchestration.common import BACKFILL, OWNER, POOL, RETRY, explained
from clv_pipeline.orchestration.dbt_results import DbtReport, build_models
from clv_pipeline.orchestration.learning import matured_cutoffs
from clv_pipeline.orchestration.ledger import note_counts
from clv_pipeline.orchestration.partitions import run_cutoff
from clv_pipeline.orchestration.previews import describe_rows, personal_columns, preview
from clv_pipeline.orchestration.project import Project
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff, union_cutoffs
from clv_pipeline.warehouse import write_atomically

PROJECT = "clv"
# Dagster's steps and the stages of the dbt project that each builds.
STEPS: dict[str, tuple[str, ...]] = {**reuse.STEPS, "marts": ("marts",)}
SOURCE_GROUPS = {"raw": "ingest", "ops": "ingest", "scores": "scoring"}
CHALLENGER = dg.AssetKey("challenger_model")


class Purpose(Enum):
    """What the cutoffs of a run are for."""

    automatic = "automatic"
    scoring = "scoring"
    training = "training"


class CutoffConfig(dg.Config):
    """Which cutoffs the as-of tables and the features are built for."""

    purpose: Purpose = Field(
        default=Purpose.automatic,
        description="scoring: the day that the run was asked for; training: the matured cutoffs "
        "behind it; automatic: what the assets of the run need.",
    )


class Translator(DagsterDbtTranslator):
    """Names, groups and owners of the assets that stand for dbt's models."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Name an asset by schema and table, as SQL does."""
        name = dbt_resource_props.get("identifier") or dbt_resource_props["name"]
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([dbt_resource_props["source_name"], name])
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Group assets by step."""
        if dbt_resource_props["resource_type"] == "source":
            return SOURCE_GROUPS.get(dbt_resource_props["source_name"])
        folder = str(dbt_resource_props["fqn"][1])
        return next((step for step, parts in STEPS.items() if folder in parts), None)

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """Name who answers for the asset."""
        return [OWNER]

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Say what the model is; its SQL is a click away in the dbt docs."""
        return str(dbt_resource_props.get("description") or "")


def load_manifest(settings: Settings) -> dict[str, Any]:
    """Install the dbt project below the home, and parse it when it changed.

    Raises
    ------
    clv_pipeline.dbt_process.TransformError
        If dbt can't parse the project.
    """
    project = dbt_project.install_dbt_project(settings)
    # The installed project names its content in this file.
    content = (project / ".content").read_text(encoding="utf-8")
    manifest = settings.paths.dagster_home / f"dbt_manifest_{content[:16]}.json"
    if not manifest.exists():
        parsed = transform.parse_project(settings)
        for outdated in manifest.parent.glob("dbt_manifest_*.json"):
            outdated.unlink()
        write_atomically(manifest, parsed)
    loaded: dict[str, Any] = json.loads(manifest.read_bytes())
    return loaded


def build_dbt_assets(
    settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> dict[str, dg.AssetsDefinition]:
    """Return one group of assets per step of ``STEPS``."""
    manifest = load_manifest(settings)
    translator = Translator()
    return {step: _build_step(step, manifest, translator, partitions) for step in STEPS}


def _build_step(
    step: str,
    manifest: dict[str, Any],
    translator: Translator,
    partitions: dg.PartitionsDefinition[str],
) -> dg.AssetsDefinition:
    @dbt_assets(
        name=f"dbt_{step}",
        manifest=manifest,
        select=select_step(step),
        partitions_def=partitions,
        backfill_policy=BACKFILL,
        dagster_dbt_translator=translator,
        retry_policy=RETRY,
        pool=POOL,
    )
    def build(
        context: dg.AssetExecutionContext, config: CutoffConfig, project: dg.ResourceParam[Project]
    ) -> Iterator[Any]:
        with explained():
            report = run_step(step, context, config, project)
            events = list(_events(context, report, manifest, translator))
        yield from events
        if report.error is not None:
            raise dg.Failure(report.error, allow_retries=report.is_passing_fault)

    return build


def needed_cutoffs(
    settings: Settings, cutoff: Cutoff, purpose: Purpose, trains: bool
) -> tuple[Cutoff, ...]:
    """Return the cutoffs that the as-of tables are built for.

    Parameters
    ----------
    cutoff
        What the run was asked for.
    purpose
        As configured in the launchpad.
    trains
        Whether the run trains a model, which decides when the purpose is automatic.
    """
    if purpose is Purpose.scoring or (purpose is Purpose.automatic and not trains):
        return (cutoff,)
    return union_cutoffs([matured_cutoffs(settings, cutoff), (cutoff,)])


def _events(
    context: dg.AssetExecutionContext,
    report: DbtReport,
    manifest: dict[str, Any],
    translator: Translator,
) -> Iterator[Any]:
    # The project may have been upgraded since this process read it; its new parts are built all
    # the same and show after the code location is loaded again.
    known = manifest["nodes"]
    personal = personal_columns()
    for model in report.models:
        if model.node not in known:
            continue
        metadata: dict[str, Any] = {
            "seconds": round(model.seconds, 3),
            **({"built by": report.built_by} if report.built_by else {}),
            **describe_rows(model.count_rows, report.summary),
            "preview": preview(model.rows.drop(columns=personal, errors="ignore")),
        }
        key = translator.get_asset_key(known[model.node])
        yield dg.MaterializeResult(asset_key=key, metadata=metadata)
    wanted = context.selected_asset_check_keys
    for test in report.tests:
        if test.node not in known:
            continue
        check = get_asset_check_key_for_test(manifest, translator, test.node, None)
        if check is not None and check in wanted:
            yield dg.AssetCheckResult(
                passed=test.is_passed,
                asset_key=check.asset_key,
                check_name=check.name,
                severity=dg.AssetCheckSeverity.WARN
                if test.is_warning
                else dg.AssetCheckSeverity.ERROR,
                description=test.message,
                metadata={"count_failed": test.count_failed},
            )


def run_step(
    step: str, context: dg.AssetExecutionContext, config: CutoffConfig, project: Project
) -> DbtReport:
    """Build the models of one step that the run selects, for the cutoffs that it needs."""
    if step == "marts" and project.record is not None:
        note_counts(project.settings, project.record)
    cutoff = run_cutoff(context)
    cutoffs = needed_cutoffs(project.settings, cutoff, config.purpose, _trains(context))
    # What is not built by cutoff knows no draw, and its tables are there before one is planned.
    by_cutoff = step in ("as_of", "features")
    if step == "as_of":
        _drop_past(context, project.settings, cutoffs)
    draw = plan_draw(project.settings, cutoffs, cutoff) if by_cutoff else NOBODY_DRAWN
    if draw.cutoffs:
        context.log.info(
            f"{len(draw.cutoffs)} cutoffs that are only learned from hold "
            f"{share_of(draw.halvings):.3g} of the customers."
        )
    select, whole = _select(context, step), None if context.is_subset else step
    return build_models(
        project.settings,
        select,
        cutoffs,
        cutoff,
        context.run.run_id,
        whole,
        context.log.info,
        draw,
    )


def _drop_past(
    context: dg.AssetExecutionContext, settings: Settings, cutoffs: Sequence[Cutoff]
) -> None:
    dropped = drop_past_cutoffs(settings, cutoffs, is_training=len(cutoffs) > 1)
    if dropped:
        context.log.info(
            f"Dropped what is not kept of {len(dropped)} cutoffs, {dropped[0]} to {dropped[-1]}: "
            "see keep_nights under [features]. What was predicted stays."
        )


def select_step(step: str) -> str:
    """Return the selector of a step's models: a union, separated by blanks."""
    # dbt resolves path: against the working directory, which Dagster's selection has no use for.
    return " ".join(f"fqn:{PROJECT}.{stage}" for stage in STEPS[step])


def _select(context: dg.AssetExecutionContext, step: str) -> list[str]:
    if not context.is_subset:
        return [transform.STAGES[stage] for stage in STEPS[step]]
    return sorted(key.path[-1] for key in context.selected_asset_keys)


def _trains(context: dg.AssetExecutionContext) -> bool:
    try:
        return CHALLENGER in context.job_def.asset_layer.selected_asset_keys
    except (AttributeError, dg.DagsterInvalidPropertyError):  # called as a plain function
        return False
