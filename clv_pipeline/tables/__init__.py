"""The tables that Python writes for dbt to read: their columns, types and meaning, in one place."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from clv_pipeline.tables.columns import Column, Table
from clv_pipeline.tables.evaluation import EVALUATION_TABLES
from clv_pipeline.tables.ops import OPS_TABLES
from clv_pipeline.tables.scores import SCORE_TABLES
from clv_pipeline.warehouse import quote_identifier

__all__ = [
    "EVALUATION_TABLES",
    "OPS_TABLES",
    "SCORE_TABLES",
    "Column",
    "Table",
    "add_missing_columns",
    "create_tables",
]


def create_tables(
    connection: duckdb.DuckDBPyConnection, schema: str, tables: Mapping[str, Table]
) -> None:
    """Create the tables that are missing, empty and typed, and add the columns that are."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}")
    for name, table in tables.items():
        columns = ", ".join(f"{quote_identifier(c.name)} {c.kind}" for c in table.columns)
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {quote_identifier(schema)}.{quote_identifier(name)} "
            f"({columns})"
        )
    add_missing_columns(
        connection, schema, {n: {c.name: c.kind for c in t.columns} for n, t in tables.items()}
    )


def add_missing_columns(
    connection: duckdb.DuckDBPyConnection, schema: str, tables: Mapping[str, Mapping[str, str]]
) -> None:
    """Add the columns that tables lack because an earlier release made them; nulls in their rows.

    Parameters
    ----------
    tables
        By table, the DuckDB type of each column.
    """
    rows = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = ? "
        "AND database_name = current_database()",
        [schema],
    ).fetchall()
    held = set(rows)
    for name, columns in tables.items():
        for column, kind in columns.items():
            if (name, column) not in held:
                connection.execute(
                    f"ALTER TABLE {quote_identifier(schema)}.{quote_identifier(name)} "
                    f"ADD COLUMN {quote_identifier(column)} {kind}"
                )
