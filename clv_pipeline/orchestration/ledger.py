"""What a run leaves behind: a row of ``ops.pipeline_runs``, and what its gates found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from clv_pipeline.settings import Settings
from clv_pipeline.tables import create_missing_tables
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import has_table, open_warehouse, read_frame, replace_rows

LANDING_COUNTS = (
    "count_rows_in",
    "count_rows_kept",
    "count_rows_guest",
    "count_rows_quarantined",
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

# The gates that must have passed for a cutoff before it may be published.
GATES_BEFORE_PUBLICATION = ("raw", "staging", "as_of", "features", "predictions")


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
        create_missing_tables(connection)
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
    with open_warehouse(settings) as connection:
        known = _read_run(connection, run.run_id)
        _write_run(
            connection,
            run,
            status=status,
            started_at=known["started_at"] if known else _now(),
            finished_at=_now(),
            message=message,
            **_landing_totals(connection),
            **_scored(connection, run),
        )


def record_gate(settings: Settings, results: pd.DataFrame, run_id: str, gate: str) -> None:
    """Put a gate's results into ``ops.data_quality``, in place of those of an earlier try."""
    if results.empty:
        return
    with open_warehouse(settings) as connection:
        replace_rows(connection, "ops.data_quality", results, {"run_id": run_id, "gate": gate})


def read_refusal(settings: Settings, cutoff: Cutoff) -> str | None:
    """Say why a cutoff's tables must not be published, by the newest results of each gate.

    Blocking checks hold back only what runs with them; this holds back any run. The predictions
    must have passed their gate since they were written.
    """
    with open_warehouse(settings, read_only=True) as connection:
        for table in (("scores", "customer_predictions"), ("ops", "data_quality")):
            if not has_table(connection, *table):
                return f"There is no table {'.'.join(table)}: nothing has been scored and checked."
        scored = connection.execute(
            "SELECT max(runs.started_at) FROM scores.customer_predictions AS scores "
            "JOIN ops.pipeline_runs AS runs USING (run_id) WHERE scores.cutoff_date = ?",
            [cutoff.day],
        ).fetchone()
        if scored is None or scored[0] is None:
            return f"There are no predictions as of {cutoff}."
        found = read_frame(connection, _NEWEST_RESULTS, [cutoff.day]).set_index("gate")
    for gate in GATES_BEFORE_PUBLICATION:
        if gate not in found.index:
            return f"The gate '{gate}' has not run on the tables of {cutoff}."
        if not found.loc[gate, "is_passed"]:
            return f"The gate '{gate}' failed: {found.loc[gate, 'message']}"
    if found.loc["predictions", "started_at"] < scored[0]:
        return f"The predictions as of {cutoff} were written after their gate last ran."
    return None


_NEWEST_RESULTS = """
WITH results AS (
    SELECT quality.*, runs.started_at
    FROM ops.data_quality AS quality
    JOIN ops.pipeline_runs AS runs USING (run_id)
    WHERE quality.cutoff_date = ?
)
SELECT
    gate,
    max(started_at) AS started_at,
    bool_and(is_passed OR severity <> 'stop') AS is_passed,
    min(message) FILTER (NOT is_passed AND severity = 'stop') AS message
FROM (SELECT *, max(started_at) OVER (PARTITION BY gate) AS newest FROM results)
WHERE started_at = newest
GROUP BY gate
"""


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
    row = connection.execute(
        "SELECT started_at FROM ops.pipeline_runs WHERE run_id = ?", [run_id]
    ).fetchone()
    return None if row is None else {"started_at": row[0]}


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
    row = connection.execute(
        f"SELECT {sums} FROM ops.landed_files WHERE input = 'transactions'"
    ).fetchone()
    if row is None or row[0] is None:
        return {}
    return dict(zip(LANDING_COUNTS + LANDING_SUMS, row, strict=True))


def _scored(connection: duckdb.DuckDBPyConnection, run: RunRecord) -> dict[str, Any]:
    if not has_table(connection, "scores", "customer_predictions"):
        return {}
    row = connection.execute(
        "SELECT count(DISTINCT customer_id), any_value(model_version) "
        "FROM scores.customer_predictions WHERE run_id = ?",
        [run.run_id],
    ).fetchone()
    if row is None or not row[0]:
        return {}
    return {"count_customers": int(row[0]), "model_version": row[1]}


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
