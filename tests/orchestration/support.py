"""What the tests of runs share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

CLV = str(Path(sys.executable).parent / "clv")
# Who ran is what two runs of the same day differ in.
_ABOUT_RUNS = ["run_id"]

# What people type into text fields: none of it may ever be built into SQL or be cut.
HOSTILE = (
    """O'Brien"; DROP TABLE raw.transactions; --""",
    "Zoë 李 😀 {{ config() }} ${HOME} %s \\",
    'line\nbreak,\tcomma and "quotes"',
    "<script>alert('x')</script>",
    "x" * 10_000,
)


def read_published(settings: Settings, table: str) -> pd.DataFrame:
    """Read a published table without what differs between two runs of the same."""
    file = settings.paths.published / f"{table}.parquet"
    frame = duckdb.execute("SELECT * FROM read_parquet(?)", [str(file.resolve())]).df()
    keys = [name for name in ("cutoff_date", "customer_id") if name in frame]
    return frame.drop(columns=_ABOUT_RUNS).sort_values(keys, ignore_index=True)


def answer(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the answer and its history."""
    return read_published(settings, "customer_clv"), read_published(
        settings, "customer_clv_history"
    )


def assert_same(ours: tuple[pd.DataFrame, ...], theirs: tuple[pd.DataFrame, ...]) -> None:
    """Compare row for row, bit for bit."""
    for mine, other in zip(ours, theirs, strict=True):
        pd.testing.assert_frame_equal(mine, other, check_exact=True)


def score(settings: Settings, *cutoffs: Cutoff) -> None:
    """Score and publish, as `clv backfill` does, in the order that is given."""
    from clv_pipeline.orchestration import commands

    with commands.hold_runner(settings) as runner:
        commands.backfill(runner, cutoffs)


def query_warehouse(settings: Settings, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Ask the pipeline's own database."""
    with duckdb.connect(str(settings.paths.warehouse), read_only=True) as connection:
        return connection.execute(query, list(parameters)).fetchall()


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables of a process that works on a project."""
    return {**os.environ, "CLV_CONFIG": str(settings.root / "clv.toml"), "OMP_NUM_THREADS": "1"}
