"""What a gate reports, and the table ``ops.data_quality`` that keeps it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import has_table, open_warehouse, read_frame, replace_rows
from data_quality.drift import REFERENCE_SCHEMA, REFERENCE_TABLE
from data_quality.measuring import Finding
from data_quality.rules import show

RESULTS_TABLE = "ops.data_quality"
HEALTH_TABLE = "ops.feature_health"
RESULTS_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("cutoff_date", pa.date32()),
        ("checked_at", pa.timestamp("us")),
        ("gate", pa.string()),
        ("table_name", pa.string()),
        ("check_name", pa.string()),
        ("column_name", pa.string()),
        ("severity", pa.string()),
        ("is_passed", pa.bool_()),
        ("observed", pa.string()),
        ("expected", pa.string()),
        ("count_checked", pa.int64()),
        ("count_failed", pa.int64()),
        ("failed_keys", pa.string()),
        ("message", pa.string()),
    ]
)


@dataclass(frozen=True)
class GateReport:
    """What a gate found.

    Attributes
    ----------
    gate
        Its name.
    is_passed
        Whether the run may go on: no check of severity 'stop' failed.
    sentence
        What failed, by how much and in which rows; or that all held.
    results
        A row per check, with the columns of ``ops.data_quality``.
    run_id
        The run that was checked.
    reference
        Distributions of the features, kept for the next run's drift; from the features gate only.
    training_reference
        The same of the champion's training set, where they are not kept yet.
    health
        A row per feature, with the columns of ``ops.feature_health``; from the features gate only.
    """

    gate: str
    is_passed: bool
    sentence: str
    results: pd.DataFrame
    run_id: str
    reference: pa.Table | None = None
    training_reference: pa.Table | None = None
    health: pa.Table | None = None


def build_report(
    gate: str,
    cutoff: Cutoff,
    run_id: str,
    checked_at: datetime,
    findings: Sequence[Finding],
    reference: pa.Table | None = None,
) -> GateReport:
    """Sum findings up in a verdict and a sentence.

    Parameters
    ----------
    checked_at
        When it was checked, in UTC.
    """
    rows = [_row(gate, cutoff, run_id, checked_at, finding) for finding in findings]
    results = pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA).to_pandas()
    broken = [f for f in findings if not f.is_passed]
    stopping = [f for f in broken if f.rule.severity == "stop"]
    warnings = len(broken) - len(stopping)
    if stopping:
        others = len(stopping) - 1
        further = f"; {others} more check{'s' * (others > 1)} failed" if others else ""
        sentence = f"The {gate} gate stopped at {cutoff}: {stopping[0].message}{further}."
    else:
        noted = f", with {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
        checks = f"{len(findings)} checks"
        sentence = f"The {gate} gate passed at {cutoff}: {checks}{noted}."
    return GateReport(gate, not stopping, sentence, results, run_id, reference)


def record_results(settings: Settings, report: GateReport) -> int:
    """Write a report to ``ops.data_quality``, in place of the same run's earlier one of that gate.

    Returns
    -------
    int
        Rows written.
    """
    key = {"run_id": report.run_id, "gate": report.gate}
    table = pa.Table.from_pandas(report.results, schema=RESULTS_SCHEMA, preserve_index=False)
    with open_warehouse(settings) as connection:
        written = replace_rows(connection, RESULTS_TABLE, table, key)
        for rows in (report.reference, report.training_reference):
            if rows is not None and len(rows):
                reference = rows.cast(REFERENCE_SCHEMA)
                replace_rows(
                    connection, REFERENCE_TABLE, reference, {"run_id": rows["run_id"][0].as_py()}
                )
        if report.health is not None:
            replace_rows(connection, HEALTH_TABLE, report.health, {"run_id": report.run_id})
    return written


def latest_results(settings: Settings, cutoff: Cutoff, run_id: str | None = None) -> pd.DataFrame:
    """Read the newest recorded results of every gate for a cutoff.

    Parameters
    ----------
    run_id
        Only those of this run; of whichever run checked last when None.

    Returns
    -------
    pandas.DataFrame
        The columns of ``ops.data_quality``; empty when nothing is recorded.
    """
    empty: pd.DataFrame = RESULTS_SCHEMA.empty_table().to_pandas()
    with open_warehouse(settings) as connection:
        if not has_table(connection, *RESULTS_TABLE.split(".")):
            return empty
        return read_frame(
            connection,
            f"SELECT {', '.join(RESULTS_SCHEMA.names)} FROM {RESULTS_TABLE} "
            "WHERE cutoff_date = ? AND (? IS NULL OR run_id = ?) "
            "QUALIFY run_id = first(run_id) OVER "
            "(PARTITION BY gate ORDER BY checked_at DESC, run_id DESC) "
            "ORDER BY gate, table_name, check_name, column_name",
            [cutoff.day, run_id, run_id],
        )


def find_refusal(
    settings: Settings, cutoff: Cutoff, gates: Sequence[str], run_id: str | None = None
) -> str | None:
    """Say why a cutoff must not be published; None when all these gates were passed.

    Parameters
    ----------
    gates
        Gates that must have been passed.
    run_id
        The run that must have passed them; whichever checked last when None.
    """
    latest = latest_results(settings, cutoff, run_id)
    for gate in gates:
        of_gate = latest[latest["gate"] == gate]
        if of_gate.empty:
            return f"The {gate} gate was not checked at {cutoff}, so nothing may be published."
        stopping = of_gate[(of_gate["severity"] == "stop") & ~of_gate["is_passed"].astype(bool)]
        if not stopping.empty:
            return f"The {gate} gate stopped at {cutoff}: {stopping['message'].iloc[0]}."
    return None


def _row(
    gate: str, cutoff: Cutoff, run_id: str, checked_at: datetime, finding: Finding
) -> dict[str, Any]:
    rule = finding.rule
    return {
        "run_id": run_id,
        "cutoff_date": cutoff.day,
        "checked_at": checked_at,
        "gate": gate,
        "table_name": finding.table,
        "check_name": rule.name,
        "column_name": rule.column,
        "severity": rule.severity,
        "is_passed": finding.is_passed,
        "observed": None if finding.observed is None else show(finding.observed),
        "expected": rule.expected,
        "count_checked": finding.count_checked,
        "count_failed": finding.count_failed,
        "failed_keys": json.dumps(finding.failed_keys),
        "message": finding.message,
    }
