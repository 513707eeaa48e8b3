"""Helpers that several rooms' tests share: folders built once, raw tables without the landing."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest

from clv_pipeline.datasets import __name__ as datasets_name
from clv_pipeline.dbt_yaml import SOURCES
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, quote_identifier

# What a landed column holds where the frame has no such column.
RAW_DEFAULTS: dict[str, object] = {"quantity": 1.0, "variable_cost": 0, "_file_id": 1}


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Build a folder that all workers of a test run share; they may read it, and change copies."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / name, base / f"{name}.done"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            done.touch()
    return folder


def fill_raw(
    settings: Settings, tables: Mapping[str, pd.DataFrame] | None = None, *, append: bool = False
) -> None:
    """Put frames into the raw tables, cast to the contract's types; the others stay empty.

    Columns that a frame lacks get the contract's default or null, `_row_number` its position.
    With ``append`` the rows are added to what is there, as a further delivery would.
    """
    with open_warehouse(settings) as connection:
        for name, table in SOURCES["raw"].items():
            target = f"raw.{quote_identifier(name)}"
            columns = ", ".join(f"{quote_identifier(c.name)} {c.kind}" for c in table.columns)
            if append:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {target} ({columns})")
            else:
                connection.execute(f"CREATE OR REPLACE TABLE {target} ({columns})")
            frame = (tables or {}).get(name)
            if frame is None or frame.empty:
                continue
            unknown = set(frame.columns) - {c.name for c in table.columns}
            assert not unknown, f"raw.{name} has no columns {sorted(unknown)}"
            frame = frame.assign(
                **{
                    column: value
                    for column, value in RAW_DEFAULTS.items()
                    if column not in frame.columns
                }
            )
            if "_row_number" not in frame.columns:
                frame = frame.assign(_row_number=range(1, len(frame) + 1))
            connection.register("_frame", frame)
            present = [c for c in table.columns if c.name in frame.columns]
            names = ", ".join(quote_identifier(c.name) for c in present)
            casts = ", ".join(f"CAST({quote_identifier(c.name)} AS {c.kind})" for c in present)
            connection.execute(f"INSERT INTO {target} ({names}) SELECT {casts} FROM _frame")
            connection.unregister("_frame")


def cdnow_transactions() -> pd.DataFrame:
    """Return the bundled CDNOW data as rows of raw.transactions."""
    from importlib.resources import files

    with (files(datasets_name) / "cdnow.csv.gz").open("rb") as stream:
        rows = pd.read_csv(stream, compression="gzip", dtype={"customer_id": str})
    return pd.DataFrame(
        {
            "user_id": rows["customer_id"],
            "ts": pd.to_datetime(rows["date"]),
            "amount": rows["amount"],
            "quantity": rows["quantity"].astype(float),
        }
    )
