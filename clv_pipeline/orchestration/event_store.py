"""Keep Dagster's event log open during a run: opening it for each event costs more than the event.

Dagster's SQLite storage opens a database, writes one row, closes it, and so makes SQLite copy its
journal and wait for the disk, several times for each of the hundreds of events of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import SingletonThreadPool

TIMEOUT_SECONDS = 60


@contextmanager
def keep_open(instance: dg.DagsterInstance) -> Iterator[None]:
    """Write the events of runs in this process through connections that stay open.

    What is written is the same, and other processes see it as soon as before. A row is on disk
    when SQLite next waits for the disk: a power cut may lose the last lines of a log, a killed
    process loses none. Another storage than SQLite files is left as it is.

    Parameters
    ----------
    instance
        Whose event log is meant.
    """
    storage: Any = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        yield
        return
    engines: dict[str, Engine] = {}

    @contextmanager
    def connect(shard: str) -> Iterator[Connection]:
        with storage._db_lock:
            if shard not in engines:
                engines[shard] = _open(storage.conn_string_for_shard(shard))
            if shard not in storage._initialized_dbs:
                storage._initdb(engines[shard])
                storage._initialized_dbs.add(shard)
            with engines[shard].connect() as connection, connection.begin():
                yield connection

    vars(storage)["_connect"] = connect
    try:
        yield
    finally:
        del vars(storage)["_connect"]
        for engine in engines.values():
            engine.dispose()


def _open(address: str) -> Engine:
    engine = create_engine(
        address, poolclass=SingletonThreadPool, connect_args={"timeout": TIMEOUT_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def relax(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
