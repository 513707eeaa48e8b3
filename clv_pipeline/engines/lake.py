"""Tables as folders of Parquet, which Spark writes and DuckDB reads: the lake of a home.

``sources/`` holds what landed, as exported from DuckDB, a file for each delivery. ``lake/`` holds
what dbt builds on Spark: ``lake/<schema>/<table>/``, and beside it ``<table>.json`` with its
columns. Spark's catalog and DuckDB's views are made from these, so the folders are the truth.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from clv_pipeline.dbt_yaml import SOURCES
from clv_pipeline.settings import Settings
from clv_pipeline.tables import Column
from clv_pipeline.warehouse import (
    open_warehouse,
    quote_identifier,
    quote_literal,
    write_atomically,
)

# What the stages that run on Spark read of the tables that Python writes.
EXPORTED: dict[str, dict[str, Sequence[Column]]] = {
    "raw": {name: table.columns for name, table in SOURCES["raw"].items()},
    "ops": {
        name: SOURCES["ops"][name].columns for name in ("holidays", "text_scores", "text_basis")
    },
}
PARTITION = "cutoff_date"
FEATURES, LABELS = "features.customer_features", "as_of.customer_labels"
_SPARK_TYPES = {
    "VARCHAR": "string",
    "BIGINT": "bigint",
    "INTEGER": "int",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp_ntz",
}
_DUCKDB_TYPES = {spark: duckdb for duckdb, spark in _SPARK_TYPES.items()}


@dataclass(frozen=True)
class LakeTable:
    """A table that Spark has written.

    Attributes
    ----------
    schema, name
        What it is called.
    columns
        Name and Spark's type of each, in order.
    is_partitioned
        Whether there is a folder for each cutoff; the cutoff is the last column then.
    """

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    is_partitioned: bool


# What the session of this process knows: the lake's folder and the state of each table's columns.
_mounted: dict[str, Any] = {}


def export_sources(settings: Settings) -> dict[str, list[str]]:
    """Write what landed as Parquet where Spark reads it: only files whose rows are new.

    Returns
    -------
    dict of str to list of str
        Schema -> the tables whose files changed.
    """
    changed: dict[str, list[str]] = {}
    with open_warehouse(settings, read_only=True) as connection:
        for schema, tables in EXPORTED.items():
            for name in tables:
                folder = settings.paths.spark_sources / schema / name
                if _export_table(connection, schema, name, folder):
                    changed.setdefault(schema, []).append(name)
    return changed


def _export_table(
    connection: duckdb.DuckDBPyConnection, schema: str, name: str, folder: Path
) -> bool:
    """Write a file for each delivery, named by what is in it; return whether any file changed."""
    folder.mkdir(parents=True, exist_ok=True)
    table = f"{quote_identifier(schema)}.{quote_identifier(name)}"
    delivery = "_file_id" if schema == "raw" else "0"
    groups = connection.execute(
        f"SELECT {delivery}, count(*), bit_xor(hash(rows)) FROM {table} AS rows GROUP BY 1"
    ).fetchall()
    wanted = {f"{key}-{count}-{state}.parquet": key for key, count, state in groups}
    held = {path.name for path in folder.glob("*.parquet")}
    columns = ", ".join(quote_identifier(column.name) for column in EXPORTED[schema][name])
    for file in sorted(set(wanted) - held):
        # The key is data; COPY takes no parameter, but what it reads may come from a relation.
        rows = connection.sql(
            f"SELECT {columns} FROM {table} WHERE {delivery} IS NOT DISTINCT FROM ?",
            params=[wanted[file]],
        )
        temporary = folder / f".{file}.tmp"
        rows.write_parquet(str(temporary))
        temporary.replace(folder / file)
    for file in held - set(wanted):
        (folder / file).unlink()
    return held != set(wanted)


def mount(spark: Any, settings: Settings, changed: dict[str, list[str]]) -> None:
    """Let the session know the sources and the tables of this home's lake, and no others.

    Parameters
    ----------
    spark
        The session.
    changed
        From `export_sources`: tables whose files Spark must list anew.
    """
    tables = read_tables(settings)
    state = {(table.schema, table.name): table for table in tables}
    if _mounted.get("lake") == settings.paths.lake and _mounted.get("tables") == state:
        for schema, names in changed.items():
            for name in names:
                spark.sql(f"refresh table {schema}.{name}")
        return
    _mounted.clear()
    for row in spark.sql("show databases").collect():
        if row[0] != "default":
            spark.sql(f"drop database {row[0]} cascade")
    for schema, sources in EXPORTED.items():
        spark.sql(f"create database {schema}")
        for name, columns in sources.items():
            described = [(column.name, _spark_type(column.kind)) for column in columns]
            _create(
                spark,
                LakeTable(schema, name, tuple(described), False),
                settings.paths.spark_sources / schema / name,
            )
    for schema in sorted({table.schema for table in tables}):
        spark.sql(f"create database {schema}")
    for table in tables:
        _create(spark, table, settings.paths.lake / table.schema / table.name)
    _mounted.update(lake=settings.paths.lake, tables=state)


def _create(spark: Any, table: LakeTable, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    columns = ", ".join(f"`{name}` {kind}" for name, kind in table.columns)
    partition = f"partitioned by ({PARTITION})" if table.is_partitioned else ""
    location = folder.as_uri().replace("'", "\\'")
    spark.sql(
        f"create table {table.schema}.{table.name} ({columns}) using parquet {partition} "
        f"location '{location}'"
    )
    if table.is_partitioned:
        spark.sql(f"alter table {table.schema}.{table.name} recover partitions")


def note_tables(spark: Any, settings: Settings, relations: Iterable[str]) -> None:
    """Write down the columns of tables that were just built, by their names ``schema.table``."""
    for relation in relations:
        schema, name = relation.replace("`", "").split(".")
        columns = spark.catalog.listColumns(f"{schema}.{name}")
        document = {
            "columns": [[column.name, column.dataType] for column in columns],
            "is_partitioned": any(column.isPartition for column in columns),
        }
        path = settings.paths.lake / schema / f"{name}.json"
        write_atomically(path, json.dumps(document, indent=1).encode())
    if _mounted.get("lake") == settings.paths.lake:
        tables = read_tables(settings)
        _mounted["tables"] = {(table.schema, table.name): table for table in tables}


def read_tables(settings: Settings) -> list[LakeTable]:
    """Return the tables of the lake, in the order of their names."""
    found = []
    for path in sorted(settings.paths.lake.glob("*/*.json")):
        document = json.loads(path.read_bytes())
        columns = tuple((str(name), str(kind)) for name, kind in document["columns"])
        found.append(LakeTable(path.parent.name, path.stem, columns, document["is_partitioned"]))
    return found


def link_views(settings: Settings) -> None:
    """Let DuckDB read every table of the lake under its name, in the order of dbt's columns."""
    tables = read_tables(settings)
    with open_warehouse(settings) as connection:
        connection.begin()
        for schema in sorted({table.schema for table in tables}):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}")
        for table in tables:
            folder = settings.paths.lake / table.schema / table.name
            name = f"{quote_identifier(table.schema)}.{quote_identifier(table.name)}"
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS {_select(table, folder)}")
        connection.commit()


def _select(table: LakeTable, folder: Path) -> str:
    columns = list(table.columns)
    if table.is_partitioned:
        # Spark puts the partition last; everybody else knows it as the second part of the key.
        columns.insert(1, columns.pop())
    pattern = "*/*.parquet" if table.is_partitioned else "*.parquet"
    if not any(folder.glob(pattern)):
        nothing = (
            f"CAST(NULL AS {_duckdb_type(kind)}) AS {quote_identifier(name)}"
            for name, kind in columns
        )
        return f"SELECT {', '.join(nothing)} WHERE false"
    names = ", ".join(quote_identifier(name) for name, _ in columns)
    options = (
        f"hive_partitioning = true, hive_types = {{'{PARTITION}': DATE}}"
        if table.is_partitioned
        else "hive_partitioning = false"
    )
    return f"SELECT {names} FROM read_parquet({quote_literal(str(folder / pattern))}, {options})"


def drop_lake(settings: Settings) -> None:
    """Remove every table that Spark has built; the next build makes them again from the sources."""
    shutil.rmtree(settings.paths.lake, ignore_errors=True)
    if _mounted.get("lake") == settings.paths.lake:
        _mounted.clear()


def drop_partitions(settings: Settings, days: Iterable[date]) -> None:
    """Remove what the lake holds of some cutoffs."""
    tables = [table for table in read_tables(settings) if table.is_partitioned]
    for table in tables:
        for day in days:
            folder = settings.paths.lake / table.schema / table.name / f"{PARTITION}={day}"
            shutil.rmtree(folder, ignore_errors=True)
    if tables:
        link_views(settings)
        # The next dbt run lists the folders that are left.
        if _mounted.get("lake") == settings.paths.lake:
            _mounted.clear()


def _spark_type(kind: str) -> str:
    return _SPARK_TYPES.get(kind, kind.lower())


def _duckdb_type(kind: str) -> str:
    return _DUCKDB_TYPES.get(kind, kind.upper())
