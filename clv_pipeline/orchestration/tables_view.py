"""Show tables on a terminal: answers of the published database, and the models."""

from __future__ import annotations

import re
from typing import Any

import duckdb
import pandas as pd
from rich.console import Console
from rich.table import Table

from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_published, read_frame

NARROW = 100


class QueryError(ValueError):
    """A query that can't be answered; the message says why."""


def read_published(settings: Settings, query: str) -> pd.DataFrame:
    """Answer a query from the newest publication.

    Raises
    ------
    QueryError
        If DuckDB can't run it, with what DuckDB says.
    WarehouseError
        If nothing is published yet.
    """
    with open_published(settings) as connection:
        try:
            return read_frame(connection, query)
        except duckdb.Error as error:
            raise QueryError(_first_lines(str(error)) + _name_horizons(connection, error)) from None


def print_query(settings: Settings, query: str, *, as_csv: bool, rows: int) -> None:
    """Print the answer to a query, as a table or as CSV."""
    frame = read_published(settings, query)
    console = Console(highlight=False, soft_wrap=True)
    if as_csv:
        console.print(frame.to_csv(index=False), end="", markup=False)
        return
    print_frame(frame.head(rows))
    if len(frame) > rows:
        console.print(f"{len(frame) - rows:,} more rows; --rows shows more, --csv all.")


def print_frame(frame: pd.DataFrame, title: str | None = None) -> None:
    """Print a frame as a table that fits its columns."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in frame.columns:
        is_number = pd.api.types.is_numeric_dtype(frame[column].dtype)
        table.add_column(str(column), justify="right" if is_number else "left", no_wrap=True)
    decimals = [_decimals(frame[column]) for column in frame.columns]
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*map(format_value, row, decimals))
    width = max(table.__rich_measure__(Console(width=10_000), Console(width=10_000).options))
    console = Console(highlight=False)
    if not console.is_terminal and console.width < width:
        # A file or a pipe has no edge at which a table must be cut.
        console = Console(highlight=False, width=width + 1)
    console.print(table)


def format_value(value: Any, decimals: int = 3) -> str:
    """Write a value for people: thousands apart, days without a time."""
    if value is None or (not isinstance(value, str | list | dict) and pd.isna(value)):
        return ""
    if isinstance(value, pd.Timestamp):
        return value.date().isoformat() if value == value.normalize() else str(value)[:19]
    if isinstance(value, float):
        return f"{value:,.{decimals}f}"
    text = str(value)
    return text if len(text) <= NARROW else text[: NARROW - 3] + "..."


def _decimals(column: pd.Series[Any]) -> int:
    """Return how many decimals a column of this size needs."""
    if not pd.api.types.is_float_dtype(column.dtype):
        return 0
    largest = column.abs().max()
    return 3 if pd.isna(largest) or largest < 10 else 2 if largest < 1_000 else 0


def _name_horizons(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> str:
    """Say which horizons there are, where a column of another one was asked for."""
    asked = re.search(r'[Cc]olumn "[a-z_]*?_(\d+)d(_[a-z0-9_]+)?"', str(error))
    if asked is None or not isinstance(error, duckdb.BinderException):
        return ""
    names = read_frame(connection, "SELECT * FROM clv.customer_clv LIMIT 0").columns
    found = (re.fullmatch(r"clv_(\d+)d", name) for name in names)
    days = sorted(int(name[1]) for name in found if name)
    if not days or int(asked[1]) in days:
        return ""
    listed = ", ".join(map(str, days))
    return f"\nThe horizons of these tables are {listed} days: ask for clv_{days[-1]}d, say."


def _first_lines(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:6])
