"""Run Dagster's jobs in this process with the project's instance, so that the UI shows them."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from clv_pipeline.orchestration.checks import GATES
from clv_pipeline.orchestration.environment import prepare_environment
from clv_pipeline.orchestration.event_store import keep_open
from clv_pipeline.orchestration.partitions import CUTOFF_TAG, data_days
from clv_pipeline.orchestration.previews import SUMMARY
from clv_pipeline.orchestration.project import first_failure, hold_lock_once, tidy_killed_runs
from clv_pipeline.orchestration.run_log import listen_to_runs
from clv_pipeline.progress import Progress
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff, business_day


class RunFailedError(RuntimeError):
    """A run failed; the message says in a sentence why."""


class NoCutoffError(ValueError):
    """The cutoff can't be asked for; the message says which can."""


@dataclass(frozen=True)
class RunOutcome:
    """A run that succeeded.

    Attributes
    ----------
    run_id
        Dagster's id.
    seconds
        Wall time.
    step_seconds
        Wall time of each step, in the order in which they ended.
    """

    run_id: str
    seconds: float
    step_seconds: Mapping[str, float]


class Runner:
    """Runs jobs of one project, one after the other.

    Parameters
    ----------
    settings
        The project's.
    build
        Makes the definitions; called again when the range of partitions may have changed.
    progress
        Where lines go.
    """

    def __init__(
        self, settings: Settings, build: Callable[[Settings], dg.Definitions], progress: Progress
    ) -> None:
        self.settings = settings
        self._build = build
        self.progress = progress
        self._definitions: dg.Definitions | None = None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the run lock over several runs, and tidy up after runs that were killed.

        Raises
        ------
        clv_pipeline.warehouse.RunUnderWayError
            If another run is under way.
        """
        prepare_environment(self.settings)
        with hold_lock_once(self.settings):
            with dg.DagsterInstance.get() as instance:
                tidy_killed_runs(self.settings, instance)
            yield

    def run(self, job_name: str, cutoff: Cutoff, run_id: str | None = None) -> RunOutcome:
        """Run one job for one cutoff.

        Parameters
        ----------
        run_id
            Of a run that has begun already by landing; a new one when None.

        Raises
        ------
        RunFailedError
            If a step or a gate failed.
        NoCutoffError
            If the cutoff lies outside those that can be asked for.
        """
        prepare_environment(self.settings)
        if self._definitions is None:
            self._definitions = self._build(self.settings)
        job = self._definitions.resolve_job_def(job_name)
        key = str(cutoff)
        partitions = job.partitions_def
        if partitions is not None and not partitions.has_partition_key(key):
            first, last = partitions.get_first_partition_key(), partitions.get_last_partition_key()
            raise NoCutoffError(
                f"{key} can't be asked for: cutoffs run from {first} to {last}. Set first_cutoff "
                "or last_cutoff under [cadence] in clv.toml to change that."
            )
        steps = _Steps(self.progress)
        started = time.monotonic()
        log = self.settings.paths.dagster_home / "logs" / "clv.log"
        with (
            dg.DagsterInstance.get() as instance,
            keep_open(instance),
            listen_to_runs(log, steps.hear, steps.hear_text),
        ):
            result = job.execute_in_process(
                instance=instance,
                run_id=run_id,
                partition_key=key,
                # Without a word about loggers Dagster would write to the terminal.
                run_config={"loggers": {"console": {}}},
                tags={CUTOFF_TAG: key, "clv/started_by": "command line"},
                raise_on_error=False,
            )
            if not result.success:
                message = first_failure(instance, result.run_id) or steps.run_failure
                raise RunFailedError(message or f"The run failed; {log} says why.")
        return RunOutcome(result.run_id, time.monotonic() - started, steps.seconds)

    def forget_definitions(self) -> None:
        """Build the definitions anew at the next run: landing may have moved the first day."""
        self._definitions = None

    def default_cutoff(self) -> Cutoff:
        """Return the last day with data, or yesterday when the last day is not over yet.

        Raises
        ------
        NoCutoffError
            If nothing has landed.
        """
        days = data_days(self.settings)
        if days is None:
            raise NoCutoffError("No transaction has landed, so there is no day to score.")
        return Cutoff(min(days[1], self._last_day()))

    def _last_day(self) -> date:
        if self.settings.cadence.last_cutoff is not None:
            return self.settings.cadence.last_cutoff
        now = datetime.now().astimezone()
        return business_day(now, self.settings.project.time_zone) - timedelta(days=1)


class _Steps:
    """Turns Dagster's events into lines."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._notes: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.run_failure: str | None = None

    def hear(self, event: dg.DagsterEvent) -> None:
        step = event.step_key or ""
        kind = event.event_type
        if kind in (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED):
            self._progress.begin(_title(step))
        elif kind == dg.DagsterEventType.ASSET_MATERIALIZATION:
            self._note(step, event.step_materialization_data.materialization.metadata)
        elif kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._note(step, event.asset_check_evaluation_data.metadata)
        elif kind == dg.DagsterEventType.STEP_SUCCESS:
            self.seconds[step] = (event.step_success_data.duration_ms or 0) / 1000
            self._progress.end(_title(step), self._notes.get(step, ""))
        elif kind == dg.DagsterEventType.STEP_UP_FOR_RETRY:
            self._progress.end(_title(step), "failed, will be tried again", is_good=False)
        elif kind == dg.DagsterEventType.STEP_FAILURE:
            self._progress.end(_title(step), "failed", is_good=False)
        elif kind == dg.DagsterEventType.RUN_FAILURE:
            self.run_failure = _run_failure(event)

    def hear_text(self, step: str, text: str) -> None:
        """Show what a long step is at."""
        self._progress.update(_title(step), text)

    def _note(self, step: str, metadata: Mapping[str, Any]) -> None:
        note = metadata.get(SUMMARY)
        if note is not None and note.value:
            self._notes[step] = str(note.value)


def _title(step: str) -> str:
    if step.endswith("_gate"):
        gate = next(gate for gate in GATES if step.endswith(f"_{gate}_gate"))
        return f"{gate} gate".replace("_", " ")
    name = step.replace("__", ".").removeprefix("raw.").removeprefix("scores.")
    name = name.removeprefix("dbt_")
    return name.replace("_", " ")


def _run_failure(event: dg.DagsterEvent) -> str | None:
    error = getattr(event.event_specific_data, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return event.message
    return str(error.message).strip().partition(": ")[2] or str(error.message).strip()
