"""`clv status` says once what did not pass, however many runs met it."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pandas as pd

from clv_pipeline.orchestration.status import describe_status
from clv_pipeline.settings import build_settings
from clv_pipeline.tables import OPS_TABLES, create_tables
from clv_pipeline.warehouse import open_warehouse, replace_rows

DAY = date(2024, 6, 30)


def test_what_several_runs_met_is_said_once(tmp_path: Path) -> None:
    checks = [
        ("one", "warn", "a feature drifts", False),
        ("two", "warn", "a feature drifts", False),
        ("two", "stop", "a key is there twice", False),
        ("two", "stop", "all is well", True),
    ]
    settings = build_settings(tmp_path, {"project": {"time_zone": "UTC"}})
    frame = pd.DataFrame(checks, columns=["run_id", "severity", "message", "is_passed"])
    frame = frame.assign(gate="features", cutoff_date=DAY, checked_at=datetime(2024, 7, 1))
    with open_warehouse(settings) as connection:
        create_tables(connection, "ops", OPS_TABLES)
        replace_rows(connection, "ops.data_quality", frame)
    lines = list(describe_status(settings))
    said = lines[lines.index("Checks that failed last") + 1 :]
    assert sorted(said) == [
        "  features as of 2024-06-30 (a warning, in 2 runs): a feature drifts",
        "  features as of 2024-06-30 (stopped the run): a key is there twice",
    ]
