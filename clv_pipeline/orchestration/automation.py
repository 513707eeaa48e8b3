"""What starts runs: jobs, the nightly and the weekly schedule, and the sensor for new files."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg

from clv_pipeline.ingest.sightings import read_sightings
from clv_pipeline.ingest.sources import find_files, name_below
from clv_pipeline.orchestration.partitions import CUTOFF_TAG
from clv_pipeline.orchestration.project import hold_lock_once, tidy_killed_runs
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import business_day
from clv_pipeline.warehouse import RunUnderWayError

SCORING_JOB = "daily_scoring"
TRAINING_JOB = "training"
MAX_HOURS = 12
SENSOR_SECONDS = 30


@dataclass(frozen=True)
class FileState:
    """What tells that a file has changed.

    Attributes
    ----------
    size
        Bytes.
    changed_at
        Time of the last change, in nanoseconds.
    """

    size: int
    changed_at: int

    def as_list(self) -> list[int]:
        """Return the state as JSON can carry it."""
        return [self.size, self.changed_at]


def build_jobs(
    training_assets: Iterable[dg.AssetKey],
    scoring_assets: Iterable[dg.AssetKey],
) -> list[Any]:
    """Return the two jobs: both begin with landing and end with what their name says."""
    everything = dg.AssetSelection.all()
    training_only = dg.AssetSelection.assets(*training_assets)
    scoring_only = dg.AssetSelection.assets(*scoring_assets)
    tags = {"dagster/max_runtime": str(MAX_HOURS * 3600)}
    return [
        dg.define_asset_job(
            SCORING_JOB,
            selection=everything - training_only,
            tags=tags,
            description="Land what is new, build the features of the cutoff, score every customer "
            "with the champion, and publish.",
        ),
        dg.define_asset_job(
            TRAINING_JOB,
            selection=everything - scoring_only,
            tags=tags,
            description="Build the matured cutoffs behind the cutoff, train a challenger, and let "
            "the gate decide whether it becomes the champion.",
        ),
    ]


def build_schedules(
    settings: Settings, partitions: dg.PartitionsDefinition[str], jobs: list[Any]
) -> list[dg.ScheduleDefinition]:
    """Return the nightly and the weekly schedule, in the business time zone.

    Both ask for the day before the tick: the newest one that is over.
    """
    cadence = settings.cadence
    # cron counts weekdays from Sunday, clv.toml from Monday.
    weekday = str((cadence.training_weekday + 1) % 7)
    plans = {
        SCORING_JOB: (_cron(cadence.scoring_time, "*"), "Scores every night, for the day before."),
        TRAINING_JOB: (_cron(cadence.training_time, weekday), "Trains a challenger every week."),
    }
    return [
        _build_schedule(settings, partitions, job, *plans[job.name])
        for job in jobs
        if job.name in plans
    ]


def build_file_sensor(
    settings: Settings, partitions: dg.PartitionsDefinition[str], job: Any
) -> dg.SensorDefinition:
    """Return the sensor that scores the newest cutoff when a file is new or has changed.

    Its cursor is the ledger of what it has seen: path, size and time of change; it begins with what
    has landed. A file counts once two ticks in a row saw it alike, so that one that is still being
    copied does not start a run.
    """

    @dg.sensor(
        name="new_files",
        job=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run when a file of an input is new or has changed.",
    )
    def new_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        tidy_killed_runs(settings, context.instance)
        if context.cursor is None:
            try:
                with hold_lock_once(settings):
                    landed = read_sightings(settings)
            except RunUnderWayError:
                return dg.SkipReason("A run is under way; files are looked at after it.")
            cursor = {"done": {path: list(state) for path, state in landed.items()}}
        else:
            cursor = json.loads(context.cursor)
        done, pending = cursor.get("done", {}), cursor.get("pending", {})
        present = {path: state.as_list() for path, state in list_files(settings).items()}
        changed = {path: state for path, state in present.items() if done.get(path) != state}
        settled = {path: state for path, state in changed.items() if pending.get(path) == state}
        if len(settled) < len(changed) or not changed:
            waiting = json.dumps({"done": done, "pending": changed})
            reason = "No file is new." if not changed else "Waiting until the new files are whole."
            return dg.SensorResult(skip_reason=reason, cursor=waiting)
        key = partitions.get_last_partition_key()
        seen = json.dumps({"done": done | settled, "pending": {}})
        if key is None:
            return dg.SensorResult(skip_reason="No cutoff can be asked for yet.", cursor=seen)
        fingerprint = hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()
        request = dg.RunRequest(
            run_key=fingerprint,
            partition_key=key,
            tags={CUTOFF_TAG: key, "clv/new_files": _names(settled)},
        )
        return dg.SensorResult(run_requests=[request], cursor=seen)

    return new_files


def list_files(settings: Settings) -> dict[str, FileState]:
    """Return every file that an input reads, by its path relative to the project's folder."""
    found: dict[str, FileState] = {}
    for source in settings.inputs.values():
        files = find_files(settings.root, source)[0]
        if source.duckdb is not None and (settings.root / source.duckdb).is_file():
            files = [settings.root / source.duckdb]
        for file in files:
            status = file.stat()
            state = FileState(status.st_size, status.st_mtime_ns)
            found[name_below(settings.root, file)] = state
    return dict(sorted(found.items()))


def _build_schedule(
    settings: Settings,
    partitions: dg.PartitionsDefinition[str],
    job: Any,
    cron: str,
    description: str,
) -> dg.ScheduleDefinition:
    zone = settings.project.time_zone

    @dg.schedule(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def plan(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tidy_killed_runs(settings, context.instance)
        key = (business_day(context.scheduled_execution_time, zone) - timedelta(1)).isoformat()
        if not partitions.has_partition_key(key):
            return dg.SkipReason(f"{key} lies outside the cutoffs that can be asked for.")
        return dg.RunRequest(run_key=f"{job.name}-{key}", partition_key=key, tags={CUTOFF_TAG: key})

    return plan


def _cron(time_of_day: str, weekday: str) -> str:
    hour, minute = time_of_day.split(":")
    return f"{int(minute)} {int(hour)} * * {weekday}"


def _names(files: Mapping[str, Any]) -> str:
    names = ", ".join(files)
    return names if len(names) <= 200 else names[:197] + "..."
