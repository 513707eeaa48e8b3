"""Daily partitions whose key is the cutoff."""

from datetime import date, timedelta
from typing import Any

import dagster as dg
import duckdb

from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import WarehouseError, open_warehouse, write_atomically

PARTITION_TAG = "dagster/partition"
CUTOFF_TAG = "clv/cutoff"
# Before anything has landed there is no first day yet; the key range shrinks when there is.
_EARLIEST = date(1990, 1, 1)


def cutoff_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Return one partition per cutoff: it can be asked for once its day is over.

    The range begins at ``cadence.first_cutoff``, or else at the first day with data, and ends at
    ``cadence.last_cutoff``, or else with yesterday in the business time zone.
    """
    first = settings.cadence.first_cutoff or first_data_day(settings) or _EARLIEST
    last = settings.cadence.last_cutoff
    return dg.DailyPartitionsDefinition(
        start_date=first.isoformat(),
        # Dagster's end is excluded.
        end_date=None if last is None else (last + timedelta(days=1)).isoformat(),
        timezone=settings.project.time_zone,
    )


def data_days(settings: Settings) -> tuple[date, date] | None:
    """Return the first and the last business day with a landed transaction, or None."""
    if not settings.paths.warehouse.exists():
        return None
    query = (
        "SELECT CAST(min(moment) AS DATE), CAST(max(moment) AS DATE) FROM ("
        "SELECT timezone(?, timezone('UTC', ts)) AS moment FROM raw.transactions)"
    )
    with open_warehouse(settings, read_only=True) as connection:
        row = connection.execute(query, [settings.project.time_zone]).fetchone()
    return None if row is None or row[0] is None else (row[0], row[1])


def first_data_day(settings: Settings) -> date | None:
    """Return the first day with data; None before anything has landed.

    The answer is kept beside Dagster's storage, for a moment in which a run holds the warehouse.
    """
    memory = settings.paths.dagster_home / "first_data_day"
    try:
        days = data_days(settings)
    except (WarehouseError, duckdb.Error):
        return date.fromisoformat(memory.read_text()) if memory.exists() else None
    if days is None:
        return None
    if not memory.exists() or memory.read_text() != days[0].isoformat():
        write_atomically(memory, days[0].isoformat().encode())
    return days[0]


def run_cutoff(context: Any) -> Cutoff:
    """Return the cutoff that a step's run was asked for.

    Raises
    ------
    dagster.Failure
        If the run names no partition.
    """
    key = context.run.tags.get(PARTITION_TAG) if _has_run(context) else None
    if key is None and context.has_partition_key:
        key = context.partition_key
    if key is None:
        raise dg.Failure(
            "The run names no cutoff: choose a partition, which is the day up to which the past "
            "is known.",
            allow_retries=False,
        )
    return Cutoff.parse(key)


def _has_run(context: Any) -> bool:
    try:
        return bool(context.run.tags is not None)
    except (AttributeError, dg.DagsterInvalidPropertyError):
        return False
