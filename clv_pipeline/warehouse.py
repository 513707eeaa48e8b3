"""DuckDB: the only module that opens it. One writer, short connections, publication by rename."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import duckdb
import filelock
import pandas as pd
import pyarrow as pa

from clv_pipeline import spilling
from clv_pipeline.settings import Settings
from clv_pipeline.sharing import explain_refusal, take_turn

# Written by an older storage version so that readers with DuckDB 1.5 can open the publication.
PUBLISHED_STORAGE_VERSION = "v1.5.0"
SCHEMAS = ("raw", "ops", "scores")
# DuckDB 2.0 holds `sum(x) > 0` to be always false where x may be negative and a left join's right
# side is known to be empty, as accounts that were merged are in most shops. Refunds are negative.
DISABLED_OPTIMIZERS = "statistics_propagation"
# DuckDB takes worker processes for somebody at a prompt, and would draw bars into their logs.
_SESSION = "SET TimeZone = 'UTC'; SET enable_progress_bar = false"
# DuckDB hands rows over in vectors of so many.
_VECTOR_ROWS = 2_048


class WarehouseError(RuntimeError):
    """The warehouse can't be used; the message says why and what to do."""


class RunUnderWayError(WarehouseError):
    """Another run holds the warehouse."""


@contextmanager
def open_warehouse(
    settings: Settings, *, read_only: bool = False, most_bytes: float = inf
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse, make its schemas, and close it again.

    Parameters
    ----------
    settings
        Names the file, the memory limit and the threads.
    read_only
        Open without the right to write. The file must exist.
    most_bytes
        Of memory, where what reads from DuckDB needs much itself and less than the limit will do.

    Raises
    ------
    WarehouseError
        If the file is damaged, locked by another program, missing, or the disk is full.
    """
    path = settings.paths.warehouse
    if read_only and not path.exists():
        raise WarehouseError(f"There is no warehouse at {path} yet: run `clv run` first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    settings.paths.spill.mkdir(parents=True, exist_ok=True)
    if not read_only:
        spilling.remove_leftovers(settings)
        lack = spilling.explain_lack_of_space(settings)
        if lack is not None:
            raise WarehouseError(lack)
    with take_turn(path, read_only=read_only):
        try:
            connection = duckdb.connect(
                str(path), read_only=read_only, config=duckdb_config(settings)
            )
        except duckdb.Error as error:
            raise WarehouseError(explain_refusal(path, error)) from error
        try:
            connection.execute(_SESSION)
            # Given with the file's name, as the others are, this one has no effect in DuckDB 2.0.
            limit = spilling.spill_limit(settings)
            connection.execute(f"SET max_temp_directory_size = '{limit}'")
            if not read_only:
                for schema in SCHEMAS:
                    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            if most_bytes < settings.engine.memory_bytes():
                # Not before: all connections of a process are opened with the same configuration.
                connection.execute(f"SET memory_limit = '{most_bytes:.0f}B'")
            yield connection
        finally:
            connection.close()


@contextmanager
def open_published(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the newest publication for reading.

    Raises
    ------
    WarehouseError
        If nothing is published yet.
    """
    path = settings.paths.published_database
    if not path.exists():
        raise WarehouseError(f"Nothing is published at {path} yet: run `clv run` first.")
    # The link is resolved once, so that the reader stays in one whole version.
    with open_database(path.resolve(), read_only=True) as connection:
        yield connection


@contextmanager
def open_database(
    path: Path | None = None, *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open any other DuckDB file, or one in memory when ``path`` is None."""
    name = ":memory:" if path is None else str(path)
    connection = duckdb.connect(
        name,
        read_only=read_only and path is not None,
        config={"disabled_optimizers": DISABLED_OPTIMIZERS},
    )
    try:
        connection.execute(_SESSION)
        yield connection
    finally:
        connection.close()


def duckdb_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration that every connection to the warehouse shares."""
    return {
        "memory_limit": settings.engine.memory_limit,
        "threads": settings.engine.threads or os.cpu_count() or 1,
        "temp_directory": str(spilling.spill_folder(settings)),
        "disabled_optimizers": DISABLED_OPTIMIZERS,
    }


def quote_identifier(name: str) -> str:
    """Quote a table or column name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Quote a text for places where SQL takes no parameter."""
    return "'" + text.replace("'", "''") + "'"


def has_table(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """Whether the table or view exists."""
    found = connection.execute(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
        [schema, name],
    ).fetchall()
    return bool(found)


def list_tables(settings: Settings, schema: str) -> list[str]:
    """Name the tables and views of one schema of the warehouse, in the order of the alphabet."""
    with open_warehouse(settings, read_only=True) as connection:
        rows = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY 1",
            [schema],
        ).fetchall()
    return [str(row[0]) for row in rows]


def replace_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    rows: pd.DataFrame | pa.Table,
    key: dict[str, Any] | None = None,
) -> int:
    """Put rows into a table in one transaction, in place of those with the same key values.

    Parameters
    ----------
    table
        ``schema.name``; made from the rows where it is missing. Columns are matched by name;
        columns that the table lacks are added.
    rows
        What to write.
    key
        Column values whose rows are replaced, such as ``{"cutoff_date": day}``; all rows when None.

    Returns
    -------
    int
        Rows written.
    """
    return replace_in_batches(connection, table, [rows], key)


def replace_in_batches(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    batches: Iterable[pd.DataFrame | pa.Table],
    key: dict[str, Any] | None = None,
) -> int:
    """Put rows into a table like `replace_rows`, a batch at a time, in one transaction.

    Memory holds one batch; readers see all rows or none.

    Parameters
    ----------
    table, key
        As in `replace_rows`.
    batches
        Of the same columns.

    Returns
    -------
    int
        Rows written.
    """
    left = iter(batches)
    first = next(left, None)
    if first is None:
        return 0
    count, second = len(first), next(left, None)
    connection.register("_rows", first)
    try:
        if second is None:
            _replace(connection, table, "_rows", key or {})
            return count
        # Rows of an unfinished transaction stay in memory; those of a temporary table spill.
        connection.execute("CREATE TEMP TABLE _incoming AS SELECT * FROM _rows")
        for rows in chain([second], left):
            connection.register("_rows", rows)
            connection.execute("INSERT INTO temp._incoming BY NAME SELECT * FROM _rows")
            count += len(rows)
        _replace(connection, table, "temp._incoming", key or {})
    finally:
        connection.unregister("_rows")
        connection.execute("DROP TABLE IF EXISTS temp._incoming")
    return count


def _replace(
    connection: duckdb.DuckDBPyConnection, table: str, rows: str, key: dict[str, Any]
) -> None:
    """Put the rows of one table into another in one transaction."""
    target = ".".join(map(quote_identifier, table.split(".")))
    connection.begin()
    try:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {target} AS SELECT * FROM {rows} LIMIT 0")
        existing = {row[0] for row in connection.execute(f"DESCRIBE {target}").fetchall()}
        for column, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall():
            if column not in existing:
                connection.execute(
                    f"ALTER TABLE {target} ADD COLUMN {quote_identifier(column)} {kind}"
                )
        where = " AND ".join(f"{quote_identifier(column)} = ?" for column in key)
        connection.execute(
            f"DELETE FROM {target}" + (f" WHERE {where}" if where else ""), list(key.values())
        )
        connection.execute(f"INSERT INTO {target} BY NAME SELECT * FROM {rows}")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def read_frame(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
) -> pd.DataFrame:
    """Run a query and return a frame; parameters by place, or by name."""
    given = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
    return connection.execute(query, given).df()


def stream_frames(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Sequence[Any] = (),
    rows: int = 100_000,
) -> Iterator[pd.DataFrame]:
    """Run a query and return frames of about ``rows`` rows, one after the other.

    The connection may write meanwhile: what is read is as it was when the query began.
    """
    cursor = connection.cursor()
    try:
        cursor.execute(_SESSION)
        answer = cursor.execute(query, list(parameters))
        while len(frame := answer.fetch_df_chunk(max(rows // _VECTOR_ROWS, 1))):
            yield frame
    finally:
        cursor.close()


def read_row(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """Run a query and return its first row.

    The rest is fetched, too: a result that is not read to its end blocks the connection.

    Raises
    ------
    WarehouseError
        If there is none.
    """
    rows = connection.execute(query, list(parameters)).fetchall()
    if not rows:
        raise WarehouseError(f"A row was expected from: {query}")
    return tuple(rows[0])


@contextmanager
def hold_run_lock(settings: Settings, wait_seconds: float = 0) -> Iterator[None]:
    """Hold the right to write; one run at a time.

    Raises
    ------
    RunUnderWayError
        If another run holds it for longer than ``wait_seconds``.
    """
    settings.paths.home.mkdir(parents=True, exist_ok=True)
    # Whichever thread gives it back: ticks that overlap share it.
    lock = filelock.FileLock(settings.paths.run_lock, thread_local=False)
    try:
        lock.acquire(timeout=wait_seconds)
    except filelock.Timeout:
        raise RunUnderWayError(
            f"Another run is writing to {settings.paths.home}. Wait until it ends, then run again."
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that no half of it is ever seen under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def export_tables(
    settings: Settings, schema: str, tables: Mapping[str, str], destination: Path
) -> dict[str, int]:
    """Copy tables of the warehouse into a new folder: ``clv.duckdb`` and a Parquet file each.

    Of each table, by name, the rows of which a piece of SQL is true.

    In ``clv.duckdb`` they lie in the main schema: the file's own name is the catalog, so that both
    ``clv.customer_clv`` and ``customer_clv`` find the table (a schema of the same name as the
    catalog would make the first ambiguous).

    Raises
    ------
    FileExistsError
        If the folder exists.

    Returns
    -------
    dict of str to int
        Rows per table.
    """
    destination.mkdir(parents=True)
    rows: dict[str, int] = {}
    with open_warehouse(settings) as connection:
        connection.execute(
            f"ATTACH {quote_literal(str(destination / 'clv.duckdb'))} AS publication "
            f"(STORAGE_VERSION {quote_literal(PUBLISHED_STORAGE_VERSION)})"
        )
        try:
            for table, condition in tables.items():
                source = f"FROM {quote_identifier(schema)}.{quote_identifier(table)}"
                source = f"{source} WHERE {condition}"
                target = f"publication.main.{quote_identifier(table)}"
                connection.execute(f"CREATE TABLE {target} AS {source}")
                parquet = quote_literal(str(destination / f"{table}.parquet"))
                connection.execute(f"COPY ({source}) TO {parquet} (FORMAT parquet)")
                (rows[table],) = read_row(connection, f"SELECT count(*) FROM {target}")
        finally:
            connection.execute("DETACH publication")
    for file in destination.iterdir():
        _sync_to_disk(file)
    return rows


def _sync_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
