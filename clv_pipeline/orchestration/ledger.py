"""What a run leaves behind: a row of ``ops.pipeline_runs``, and what its gates found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import has_table, open_warehouse, read_row, replace_rows

LANDING_COUNTS = (
    "count_rows_in",
    "count_rows_kept",
    "count_rows_guest",
    "count_rows_quarantined",
)
# Steps that runs have finished, for one that goes on with an interrupted one.
FINISHED = "ops.finished_steps"
FINISHED_COLUMNS = "run_id VARCHAR, step VARCHAR, fingerprint VARCHAR"
# A run that went on with another one took its predictions over.
_OF_RUN = (
    "run_id = ? OR (cutoff_date = ? AND EXISTS "
    f"(SELECT 1 FROM {FINISHED} WHERE run_id = ? AND step = 'predictions'))"
)
LANDING_SUMS = ("sum_amount_in", "sum_amount_kept", "sum_amount_guest", "sum_amount_quarantined")

RUN_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("job", pa.string()),
        ("cutoff_date", pa.date32()),
        ("started_at", pa.timestamp("us")),
        ("finished_at", pa.timestamp("us")),
        ("status", pa.string()),
        ("model_version", pa.string()),
        ("count_customers", pa.int64()),
        *((name, pa.int64()) for name in LANDING_COUNTS),
        *((name, pa.decimal128(38, 4)) for name in LANDING_SUMS),
        ("message", pa.string()),
    ]
)


@dataclass(frozen=True)
class RunRecord:
    """Who a run is.

    Attributes
    ----------
    run_id
        Dagster's id of the run.
    job
        The job's name.
    cutoff
        What it was asked for; None when it names no partition.
    """

    run_id: str
    job: str
    cutoff: Cutoff | None


def begin_run(settings: Settings, run: RunRecord) -> list[str]:
    """Note that a run has begun; call it while the run lock is held.

    Returns
    -------
    list of str
        Ids of runs that were killed: they never ended, and can't be running since the lock is ours.
    """
    with open_warehouse(settings) as connection:
        killed = _mark_killed(connection, run.run_id)
        known = _read_run(connection, run.run_id)
        started = known["started_at"] if known else _now()
        _write_run(connection, run, status="running", started_at=started)
    return killed


def find_killed_runs(settings: Settings) -> list[str]:
    """Mark runs that never ended as interrupted; call it while the run lock is held."""
    if not settings.paths.warehouse.exists():
        return []
    with open_warehouse(settings) as connection:
        return _mark_killed(connection, "")


def end_run(settings: Settings, run: RunRecord, status: str, message: str | None = None) -> None:
    """Note how a run ended, with the landing's counts, the model and the customers scored."""
    _note_run(settings, run, status=status, finished_at=_now(), message=message)


def note_counts(settings: Settings, run: RunRecord) -> None:
    """Note what a run has landed and scored so far, for the tables that it publishes."""
    _note_run(settings, run, status="running")


def _note_run(settings: Settings, run: RunRecord, **columns: Any) -> None:
    with open_warehouse(settings) as connection:
        known = _read_run(connection, run.run_id)
        _write_run(
            connection,
            run,
            started_at=known["started_at"] if known else _now(),
            **columns,
            **_landing_totals(connection),
            **_scored(connection, run),
        )


def last_scored_at(settings: Settings, cutoff: Cutoff) -> datetime | None:
    """Return when the run began that wrote a cutoff's predictions; None without predictions."""
    with open_warehouse(settings, read_only=True) as connection:
        if not has_table(connection, "scores", "customer_predictions"):
            return None
        rows = connection.execute(
            "SELECT max(runs.started_at) FROM scores.customer_predictions AS scores "
            "JOIN ops.pipeline_runs AS runs USING (run_id) WHERE scores.cutoff_date = ?",
            [cutoff.day],
        ).fetchall()
    return None if rows[0][0] is None else rows[0][0]


def _mark_killed(connection: duckdb.DuckDBPyConnection, but_not: str) -> list[str]:
    if not has_table(connection, "ops", "pipeline_runs"):
        return []
    killed = connection.execute(
        "UPDATE ops.pipeline_runs SET status = 'interrupted', finished_at = ?, "
        "message = 'The process ended without a word.' "
        "WHERE status = 'running' AND run_id <> ? RETURNING run_id",
        [_now(), but_not],
    ).fetchall()
    return [row[0] for row in killed]


def _read_run(connection: duckdb.DuckDBPyConnection, run_id: str) -> dict[str, Any] | None:
    if not has_table(connection, "ops", "pipeline_runs"):
        return None
    rows = connection.execute(
        "SELECT started_at FROM ops.pipeline_runs WHERE run_id = ?", [run_id]
    ).fetchall()
    return {"started_at": rows[0][0]} if rows else None


def _write_run(connection: duckdb.DuckDBPyConnection, run: RunRecord, **columns: Any) -> None:
    row = {
        "run_id": run.run_id,
        "job": run.job,
        "cutoff_date": None if run.cutoff is None else run.cutoff.day,
        **columns,
    }
    complete = {name: row.get(name) for name in RUN_SCHEMA.names}
    table = pa.Table.from_pylist([complete], schema=RUN_SCHEMA)
    replace_rows(connection, "ops.pipeline_runs", table, {"run_id": run.run_id})


def _landing_totals(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    if not has_table(connection, "ops", "landed_files"):
        return {}
    sums = ", ".join(f"sum({name})" for name in LANDING_COUNTS + LANDING_SUMS)
    (row,) = connection.execute(
        f"SELECT {sums} FROM ops.landed_files WHERE input = 'transactions' AND status <> 'replaced'"
    ).fetchall()
    if row[0] is None:
        return {}
    return dict(zip(LANDING_COUNTS + LANDING_SUMS, row, strict=True))


def _scored(connection: duckdb.DuckDBPyConnection, run: RunRecord) -> dict[str, Any]:
    if has_table(connection, "scores", "customer_predictions"):
        connection.execute(f"CREATE TABLE IF NOT EXISTS {FINISHED} ({FINISHED_COLUMNS})")
        count, version = read_row(
            connection,
            "SELECT count(DISTINCT customer_id), any_value(model_version) "
            f"FROM scores.customer_predictions WHERE {_OF_RUN}",
            [run.run_id, None if run.cutoff is None else run.cutoff.day, run.run_id],
        )
        if count:
            return {"count_customers": int(count), "model_version": version}
    if has_table(connection, "scores", "model_leaderboard"):
        (version,) = read_row(
            connection,
            "SELECT any_value(model_version) FROM scores.model_leaderboard WHERE run_id = ?",
            [run.run_id],
        )
        return {"model_version": version}
    return {}


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
