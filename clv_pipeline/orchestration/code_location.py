"""The code location: every asset, check, job, schedule and sensor of one project."""

import warnings

import dagster as dg

from clv_pipeline.orchestration.automation import (
    SCORING_JOB,
    build_file_sensor,
    build_jobs,
    build_schedules,
)
from clv_pipeline.orchestration.checks import build_gates
from clv_pipeline.orchestration.dbt import build_dbt_assets
from clv_pipeline.orchestration.environment import prepare_environment
from clv_pipeline.orchestration.ingest_assets import build_ingest_assets
from clv_pipeline.orchestration.model_assets import TRAINING_ASSETS, build_model_assets
from clv_pipeline.orchestration.partitions import cutoff_partitions
from clv_pipeline.orchestration.project import project_resource
from clv_pipeline.orchestration.review_assets import REVIEW_ASSETS, build_review_assets
from clv_pipeline.orchestration.run_log import run_log
from clv_pipeline.orchestration.scoring_assets import SCORING_ASSETS, build_scoring_assets
from clv_pipeline.settings import Settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """Compose the code location of one project.

    Raises
    ------
    clv_pipeline.dbt_process.TransformError
        If dbt can't parse its project.
    """
    prepare_environment(settings)
    with warnings.catch_warnings():
        # Backfill policies work, and their interface may change in name only.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _compose(settings)


def _compose(settings: Settings) -> dg.Definitions:
    partitions = cutoff_partitions(settings)
    dbt_assets = build_dbt_assets(settings, partitions)
    scoring_only = [*SCORING_ASSETS, *REVIEW_ASSETS, *dbt_assets["marts"].keys]
    jobs = build_jobs(TRAINING_ASSETS, scoring_only)
    by_name = {job.name: job for job in jobs}
    return dg.Definitions(
        assets=[
            *build_ingest_assets(partitions),
            *dbt_assets.values(),
            *build_model_assets(partitions),
            *build_scoring_assets(partitions, sorted(dbt_assets["marts"].keys)),
            *build_review_assets(partitions),
        ],
        asset_checks=build_gates(),
        jobs=jobs,
        schedules=build_schedules(settings, partitions, jobs),
        sensors=[build_file_sensor(settings, partitions, by_name[SCORING_JOB])],
        resources={"project": project_resource(settings)},
        loggers={"console": run_log},
        executor=dg.in_process_executor,
    )


def build_placeholder(reason: str) -> dg.Definitions:
    """Return a code location that loads without a project and says what to do."""

    @dg.asset(name="clv_toml_is_missing", description=reason, group_name="setup")
    def missing() -> None:
        raise dg.Failure(reason, allow_retries=False)

    return dg.Definitions(assets=[missing])
