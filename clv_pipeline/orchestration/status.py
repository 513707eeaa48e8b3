"""How fresh the tables are, how the last runs ended, and which checks failed last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import duckdb

from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import (
    RunUnderWayError,
    has_table,
    hold_run_lock,
    open_published,
    open_warehouse,
    read_frame,
)

LAST_RUNS = 5
LAST_FAILURES = 5

_RUNS = """
SELECT job, cutoff_date, started_at, status, message
FROM ops.pipeline_runs ORDER BY started_at DESC, finished_at DESC LIMIT ?
"""
_FAILURES = """
SELECT gate, cutoff_date, severity, message,
    if(count(DISTINCT run_id) > 1, ', in ' || count(DISTINCT run_id) || ' runs', '') AS how_often
FROM ops.data_quality
WHERE NOT is_passed
GROUP BY gate, cutoff_date, severity, message
ORDER BY max(checked_at) DESC, severity LIMIT ?
"""
_LAST_DAY = "SELECT CAST(max(timezone(?, timezone('UTC', ts))) AS DATE) FROM raw.transactions"


def describe_status(settings: Settings) -> Iterator[str]:
    """Yield the lines of `clv status`."""
    yield f"Project   {settings.project.name} in {settings.root}"
    published = _published_cutoff(settings)
    if published is None:
        yield "Published nothing yet: `clv run` scores and publishes."
    else:
        yield f"Published as of {published} in {settings.paths.published_database}"
    if not settings.paths.warehouse.exists():
        yield "Runs      none yet."
        return
    try:
        with hold_run_lock(settings):
            yield from _describe_warehouse(settings, published)
    except RunUnderWayError as error:
        yield f"Runs      {error}"


def _describe_warehouse(settings: Settings, published: date | None) -> Iterator[str]:
    with open_warehouse(settings, read_only=True) as connection:
        last_day = _last_day(connection, settings)
        if last_day is not None:
            yield f"Data      through {last_day}{_staleness(published, last_day)}"
        if has_table(connection, "ops", "pipeline_runs"):
            yield "Runs"
            runs = connection.execute(_RUNS, [LAST_RUNS]).fetchall()
            for job, day, started, status, why in runs:
                cutoff = f" as of {day}" if day else ""
                reason = f": {why}" if why else ""
                yield f"  {started:%Y-%m-%d %H:%M} UTC  {job}{cutoff}  {status}{reason}"
        if has_table(connection, "ops", "data_quality"):
            failures = read_frame(connection, _FAILURES, [LAST_FAILURES])
            yield "Checks that failed last" if len(failures) else "Checks    none has failed."
            for row in failures.itertuples():
                effect = "stopped the run" if row.severity == "stop" else "a warning"
                judged = f"{row.gate} as of {row.cutoff_date:%Y-%m-%d}"
                yield f"  {judged} ({effect}{row.how_often}): {row.message}"


def _published_cutoff(settings: Settings) -> date | None:
    if not settings.paths.published_database.exists():
        return None
    with open_published(settings) as connection:
        row = connection.execute("SELECT max(cutoff_date) FROM clv.customer_clv").fetchone()
    return None if row is None else row[0]


def _last_day(connection: duckdb.DuckDBPyConnection, settings: Settings) -> date | None:
    if not has_table(connection, "raw", "transactions"):
        return None
    row = connection.execute(_LAST_DAY, [settings.project.time_zone]).fetchone()
    return None if row is None else row[0]


def _staleness(published: date | None, last_day: date) -> str:
    if published is None:
        return ""
    days = (last_day - published).days
    if days <= 0:
        return "; the published tables are up to date with them."
    return f"; the published tables are {days:,} days behind. `clv run` catches up."
