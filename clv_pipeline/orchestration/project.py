"""The one resource: settings, the right to write, and the row that a run leaves behind."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import dagster as dg

from clv_pipeline.orchestration import ledger
from clv_pipeline.orchestration.partitions import CUTOFF_TAG, PARTITION_TAG
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import RunUnderWayError, hold_run_lock

WAIT_SECONDS = 600

# Homes whose lock this process holds, by how many, and what gives it back when the last one goes:
# the CLI takes it once for several runs, and a code server looks after two ticks at a time.
_held: dict[Path, tuple[int, ExitStack]] = {}
_counting = Lock()


@dataclass(frozen=True)
class Project:
    """What every step needs.

    Attributes
    ----------
    settings
        Those of the project that the code location serves.
    record
        The run; None outside of one.
    """

    settings: Settings
    record: ledger.RunRecord | None = None


@contextmanager
def hold_lock_once(settings: Settings, wait_seconds: float = 0) -> Iterator[None]:
    """Hold the run lock; the same process may hold it again, in any of its threads.

    Raises
    ------
    RunUnderWayError
        If another process holds it for longer than ``wait_seconds``.
    """
    home = settings.paths.home
    with _counting:
        count, holding = _held.get(home, (0, ExitStack()))
        if not count:
            holding.enter_context(hold_run_lock(settings, wait_seconds))
        _held[home] = count + 1, holding
    try:
        yield
    finally:
        with _counting:
            count, holding = _held.pop(home)
            if count > 1:
                _held[home] = count - 1, holding
            else:
                holding.close()


def project_resource(settings: Settings) -> dg.ResourceDefinition:
    """Return the resource that opens a run and closes it.

    It is set up before a run's first step and torn down after the last: it takes the run lock,
    notes in ``ops.pipeline_runs`` that the run has begun and how it ended, and reports runs that
    were killed to Dagster, which would otherwise wait for them for ever.
    """

    @dg.resource(
        description="Settings, the run lock and the run's row in ops.pipeline_runs.",
        config_schema={
            "wait_seconds": dg.Field(
                dg.IntSource,
                default_value=WAIT_SECONDS,
                description="How long to wait for another run that is writing.",
            )
        },
    )
    def project(context: dg.InitResourceContext) -> Iterator[Project]:
        run = context.run
        if run is None or context.instance is None:
            yield Project(settings)
            return
        key = run.tags.get(PARTITION_TAG)
        record = ledger.RunRecord(run.run_id, _job(run), Cutoff.parse(key) if key else None)
        with hold_lock_once(settings, context.resource_config["wait_seconds"]):
            report_killed(context.instance, ledger.begin_run(settings, record))
            context.instance.add_run_tags(run.run_id, {CUTOFF_TAG: key} if key else {})
            try:
                yield Project(settings, record)
            finally:
                message = first_failure(context.instance, run.run_id)
                ledger.end_run(settings, record, "failed" if message else "succeeded", message)

    return project


def report_killed(instance: dg.DagsterInstance, run_ids: list[str]) -> None:
    """Tell Dagster that runs have ended whose process was killed."""
    for run_id in run_ids:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, "The process of this run ended without a word.")


def tidy_killed_runs(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Find runs that were killed, unless a run is under way."""
    try:
        with hold_lock_once(settings):
            report_killed(instance, ledger.find_killed_runs(settings))
    except RunUnderWayError:
        return


def first_failure(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Return, in a sentence, what first went wrong in a run; None when nothing did."""
    failures = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    if not failures:
        return None
    checks = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    for entry in checks:
        evaluation: Any = entry.get_dagster_event().event_specific_data
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            text = evaluation.description
            if text:
                return str(text)
    return _sentence_of(failures[0].get_dagster_event().step_failure_data)


def _sentence_of(failure: Any) -> str:
    error = failure.error
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "A step failed without saying why."
    # Dagster writes "module.Class: message" and a line break.
    text = str(error.message).strip()
    _, separator, message = text.partition(": ")
    return message if separator and " " not in text.partition(":")[0] else text


def _job(run: dg.DagsterRun) -> str:
    return "assets" if run.job_name.startswith("__") else run.job_name
