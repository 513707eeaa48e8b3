"""The online store: of each customer the features and the latest value, by id.

The embedded one is a SQLite file in the folder of a publication, written before that folder becomes
visible; so it moves with the published tables, by the same rename. Rows are JSON arrays whose
columns the file names once: numbers are read back exactly as they were written.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

from clv_pipeline.features.registry import load_features, online_schema
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import quote_identifier, read_row

FILE = "online.sqlite"
BATCH_ROWS = 5_000
# SQLite takes this many parameters in a statement, whatever it was built with.
_MOST_PARAMETERS = 500
_VALUES = "clv.customer_clv"
_FEATURES = "features.customer_features"


class OnlineStoreError(RuntimeError):
    """An online store that can't be read or written; the message says why and what to do."""


@dataclass(frozen=True)
class Version:
    """One publication.

    Attributes
    ----------
    name
        Its folder below ``versions``.
    run_id, cutoff_date, model_version
        As in every published table.
    published_at
        When it was written: an ISO instant in UTC.
    """

    name: str
    run_id: str
    cutoff_date: str
    model_version: str
    published_at: str


@dataclass(frozen=True)
class Layout:
    """What the rows of a version are made of.

    Attributes
    ----------
    features
        Columns of the registry's online schema, with their DuckDB types.
    values
        Columns of ``clv.customer_clv``, with theirs.
    """

    features: dict[str, str]
    values: dict[str, str]


@dataclass(frozen=True)
class Record:
    """What is known of one customer.

    Attributes
    ----------
    features
        By column of the online schema; empty where no snapshot of that cutoff is held.
    values
        By column of ``clv.customer_clv``.
    """

    features: dict[str, Any]
    values: dict[str, Any]


class OnlineStore(Protocol):
    """One version of the online store, open for reading."""

    version: Version

    def read(self, customer_ids: Sequence[str]) -> dict[str, Record]:
        """Return what is known of some customers; those who are unknown are left out."""

    def close(self) -> None:
        """Close what is open."""


def describe_version(
    connection: duckdb.DuckDBPyConnection, name: str, published_at: str
) -> Version:
    """Describe the publication that is about to be made of the warehouse's marts.

    Raises
    ------
    OnlineStoreError
        If the marts hold no value.
    """
    count, run_id, day, model = read_row(
        connection,
        f"SELECT count(*), any_value(run_id), any_value(cutoff_date), any_value(model_version) "
        f"FROM {_VALUES}",
    )
    if not count:
        raise OnlineStoreError(f"{_VALUES} is empty: there is nothing to serve.")
    return Version(name, str(run_id), str(day), str(model), published_at)


def read_layout(settings: Settings, connection: duckdb.DuckDBPyConnection) -> Layout:
    """Return the columns to serve: the registry's, and those of the published values."""
    installed = settings.paths.dbt_project
    features = load_features(installed if installed.exists() else None)
    described = connection.execute(f"DESCRIBE {_VALUES}").fetchall()
    return Layout(online_schema(features), {str(row[0]): str(row[1]) for row in described})


def read_rows(
    connection: duckdb.DuckDBPyConnection, layout: Layout
) -> Iterator[list[tuple[str, str, str]]]:
    """Read the customers of the warehouse's marts in batches: id, features, values, as JSON.

    Features are missing where the snapshot of that cutoff was dropped with an older definition.
    """

    def packed(alias: str, columns: Mapping[str, str]) -> str:
        cells = (f"{alias}.{quote_identifier(name)}::{kind}" for name, kind in columns.items())
        packed_cells = f"json_array({', '.join(cells)})::VARCHAR"
        return f"if({alias}.customer_id IS NULL, 'null', {packed_cells})"

    found = connection.execute(
        f"SELECT clv.customer_id, {packed('features', layout.features)}, "
        f"{packed('clv', layout.values)} FROM {_VALUES} AS clv LEFT JOIN {_FEATURES} AS features "
        "ON clv.customer_id = features.customer_id AND clv.cutoff_date = features.cutoff_date "
        "ORDER BY 1"
    )
    while rows := found.fetchmany(BATCH_ROWS):
        yield rows


def write_sqlite(
    path: Path, version: Version, layout: Layout, batches: Iterator[list[tuple[str, str, str]]]
) -> int:
    """Write a version to a file, readable by its owner alone: features may be personal.

    Returns
    -------
    int
        Customers written.
    """
    path.touch(mode=0o600)
    connection = sqlite3.connect(path)
    try:
        # The file is flushed to disk as a whole, before it becomes visible.
        connection.execute("PRAGMA page_size = 16384")  # several rows to a page
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.execute(
            "CREATE TABLE customers (customer_id TEXT PRIMARY KEY, features TEXT NOT NULL, "
            '"values" TEXT NOT NULL)'
        )
        meta = {"version": asdict(version), "layout": asdict(layout)}
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)", [(key, json.dumps(v)) for key, v in meta.items()]
        )
        count = 0
        for rows in batches:
            connection.executemany("INSERT INTO customers VALUES (?, ?, ?)", rows)
            count += len(rows)
        connection.commit()
    finally:
        connection.close()
    return count


class SqliteStore:
    """A version in a SQLite file.

    Parameters
    ----------
    path
        The file, in a folder that no link leads to: it must not change while it is open.

    Raises
    ------
    OnlineStoreError
        If it can't be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(
                f"file:{_quote_uri(path)}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            self._close = weakref.finalize(self, self._connection.close)
            meta = dict(self._connection.execute("SELECT key, value FROM meta").fetchall())
            self.version = Version(**json.loads(meta["version"]))
            self.layout = Layout(**json.loads(meta["layout"]))
        except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
            raise OnlineStoreError(
                f"{path} can't be read: {error}. Publish again with `clv run`."
            ) from error

    def read(self, customer_ids: Sequence[str]) -> dict[str, Record]:
        """Return what is known of some customers; those who are unknown are left out."""
        found: dict[str, Record] = {}
        for start in range(0, len(customer_ids), _MOST_PARAMETERS):
            asked = customer_ids[start : start + _MOST_PARAMETERS]
            marks = ", ".join("?" * len(asked))
            rows = self._connection.execute(
                f'SELECT customer_id, features, "values" FROM customers '
                f"WHERE customer_id IN ({marks})",
                asked,
            )
            for customer_id, features, values in rows.fetchall():
                found[customer_id] = unpack(self.layout, features, values)
        return found

    def close(self) -> None:
        """Close the file; it is closed with its last reader anyhow."""
        self._close()


def unpack(layout: Layout, features: str | bytes, values: str | bytes) -> Record:
    """Name the cells of a customer's packed rows."""
    return Record(_name(layout.features, features), _name(layout.values, values))


def _name(columns: Mapping[str, str], packed: str | bytes) -> dict[str, Any]:
    cells = json.loads(packed)
    return {} if cells is None else dict(zip(columns, cells, strict=True))


def _quote_uri(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
