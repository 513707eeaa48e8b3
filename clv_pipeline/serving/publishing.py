"""What serving adds to a publication before it becomes visible, and after."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd

from clv_pipeline.serving import fresh, online, redis_store
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import has_table, open_warehouse, read_frame, replace_rows

_QUERIES = "ops.feature_queries"


def add_online_store(settings: Settings, folder: Path) -> int:
    """Write the online store, and what computes features of new rows, into a new version.

    Parameters
    ----------
    settings
        Name the warehouse and the kind of the online store.
    folder
        The version, not visible yet.

    Returns
    -------
    int
        Customers written.
    """
    _keep_queries(settings)
    published_at = datetime.now(UTC).isoformat(timespec="seconds")
    with open_warehouse(settings) as connection:
        version = online.describe_version(connection, folder.name, published_at)
        layout = online.read_layout(settings, connection)
        rows = online.read_rows(connection, layout)
        if settings.serving.online_store == "redis":
            client = redis_store.connect(settings)
            prefix = settings.serving.redis_prefix
            count = redis_store.write_redis(client, prefix, version, layout, rows)
        else:
            count = online.write_sqlite(folder / online.FILE, version, layout, rows)
        fresh.publish_queries(connection, folder / fresh.FILE, Cutoff.parse(version.cutoff_date))
    for name in (online.FILE, fresh.FILE):
        if (folder / name).exists():
            with (folder / name).open("rb+") as file:
                os.fsync(file.fileno())
    return count


def finish_publication(settings: Settings, folder: Path) -> None:
    """Let a version that has become visible serve wherever servers look."""
    if settings.serving.online_store == "redis":
        client = redis_store.connect(settings)
        redis_store.point_to(client, settings.serving.redis_prefix, folder.name)


def open_version(settings: Settings, folder: Path) -> online.OnlineStore:
    """Open the online store of a version.

    Raises
    ------
    OnlineStoreError
        If it can't be read.
    """
    if settings.serving.online_store == "redis":
        client = redis_store.connect(settings)
        return redis_store.RedisStore(client, settings.serving.redis_prefix, folder.name)
    return online.SqliteStore(folder / online.FILE)


def _keep_queries(settings: Settings) -> None:
    """Compile dbt's SQL where it is not held yet under the definition that was built."""
    with open_warehouse(settings) as connection:
        definition = _definition(connection)
        if has_table(connection, *_QUERIES.split(".")):
            held = read_frame(connection, f"SELECT DISTINCT definition FROM {_QUERIES}")
            if definition and held["definition"].tolist() == [definition]:
                return
    queries = fresh.compile_queries(settings)
    with open_warehouse(settings) as connection:
        # Compiling prepares the sources, which may have found another definition.
        held = pd.DataFrame(queries).assign(definition=_definition(connection))
        connection.execute(f"DROP TABLE IF EXISTS {_QUERIES}")
        replace_rows(connection, _QUERIES, held)


def _definition(connection: duckdb.DuckDBPyConnection) -> str:
    if not has_table(connection, "ops", "built_definition"):
        return ""
    rows = connection.execute("SELECT definition FROM ops.built_definition").fetchall()
    return str(rows[0][0]) if rows else ""
