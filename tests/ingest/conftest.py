"""A folder with files, the settings that map them, and the warehouse that they land in."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.ingest.report import InputReport, LandingReport
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.warehouse import open_warehouse

NO_NUMBER = "amount is no finite number with '{}' before the decimals"
# Orders of which one is a guest's, one has no amount, and one is taken back.
ROWS = [
    ("o1", "anna", "2024-01-05", "10.00"),
    ("o2", "ben", "2024-01-06 12:30", "20.50"),
    ("o3", "", "2024-01-07", "3.25"),
    ("o4", "anna", "2024-01-08", "x"),
    ("o5", "anna", "2024-01-09", "-10.00"),
]


def header(*further: str) -> tuple[str, ...]:
    """Name the columns of ``ROWS``."""
    return ("transaction_id", "user_id", "ts", "amount", *further)


HEADER = ("transaction_id", "user_id", "ts", "amount")


def as_csv(rows: Iterable[Sequence[object]], header: Sequence[str] = HEADER, **dialect: Any) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, **{"lineterminator": "\n", **dialect})
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


class Shop:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.inputs: dict[str, dict[str, Any]] = {"transactions": {"files": ["*.csv*"]}}
        self.project: dict[str, Any] = {"time_zone": "Europe/Berlin", "reporting_currency": "EUR"}

    @property
    def settings(self) -> Settings:
        return build_settings(self.root, {"project": self.project, "inputs": self.inputs})

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def land(
        self, inputs: Sequence[str] | None = None, received_at: datetime | None = None
    ) -> LandingReport:
        report = land_inputs(self.settings, "run-1", inputs, received_at=received_at)
        for part in report.inputs.values():
            assert part.new.is_balanced
            assert part.landed.is_balanced
        return report

    def land_transactions(self, received_at: datetime | None = None) -> InputReport:
        return self.land(received_at=received_at).inputs["transactions"]

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with open_warehouse(self.settings, read_only=True) as connection:
            return connection.execute(sql, list(parameters)).fetchall()

    def amounts(self) -> list[Decimal]:
        return [row[0] for row in self.query("SELECT amount FROM raw.transactions ORDER BY ALL")]

    def reasons(self) -> list[str]:
        return [
            row[0] for row in self.query("SELECT reason FROM ops.quarantine ORDER BY row_number")
        ]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
