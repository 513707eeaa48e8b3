"""Files that have not changed since they were read are known again without being read.

A shop of years has far more in files that landed long ago than in those of the night. What the file
system says of a file (size, inode, when its content and when its entry changed last, as git's index
keeps them) is noted once it was read to its end, beside the hash of its content. The hash stays
what a file is known by: this only saves reading it.
"""

from __future__ import annotations

import time
from pathlib import Path

import duckdb

from clv_pipeline.ingest.sources import Source, name_below
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import has_table, open_warehouse

# A clock of a file system may tick no more often than this; what changed within the tick in which
# it was read may change again and look the same.
TICK_NS = 2_000_000_000

_SEEN_FILES = """
CREATE TABLE IF NOT EXISTS ops.seen_files (
  path VARCHAR, sha256 VARCHAR, bytes BIGINT, modified_ns BIGINT, changed_ns BIGINT, inode UBIGINT)
"""


class Sightings:
    """What files looked like when they were last read to their end.

    Parameters
    ----------
    connection
        To the warehouse.
    root
        Files below it are named relative to it.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, root: Path) -> None:
        connection.execute(_SEEN_FILES)
        self._connection, self._root = connection, root
        rows = connection.execute("FROM ops.seen_files").fetchall()
        self._seen = {path: (sha256, state) for path, sha256, *state in rows}
        self._began: dict[str, tuple[list[int], int]] = {}

    def recall(self, file: Path) -> Source | None:
        """Return what a file is known by, when it is as it was; note what it looks like now."""
        path, state = name_below(self._root, file), _state_of(file)
        self._began[path] = (state, time.time_ns())
        sha256, seen = self._seen.get(path, ("", []))
        if seen != state:
            return None
        # What it is does not matter: it is not read.
        return Source(file, path, "csv", sha256, state[0], state[1])

    def note(self, source: Source) -> None:
        """Note a file that was read to its end since :meth:`recall` looked at it."""
        state, began = self._began[source.path]
        self._connection.execute("DELETE FROM ops.seen_files WHERE path = ?", [source.path])
        _, modified_ns, changed_ns, _ = state
        if max(modified_ns, changed_ns) + TICK_NS < began and _state_of(source.file) == state:
            self._connection.execute(
                "INSERT INTO ops.seen_files VALUES (?, ?, ?, ?, ?, ?)",
                [source.path, source.sha256, *state],
            )


def read_sightings(settings: Settings) -> dict[str, tuple[int, int]]:
    """Return size and time of change (ns) of each file when it last landed, by its name.

    Nothing where nothing has landed yet.

    Raises
    ------
    WarehouseError
        If the warehouse can't be opened.
    """
    if not settings.paths.warehouse.exists():
        return {}
    with open_warehouse(settings, read_only=True) as connection:
        if not has_table(connection, "ops", "seen_files"):
            return {}
        rows = connection.execute("SELECT path, bytes, modified_ns FROM ops.seen_files").fetchall()
    return {path: (size, modified) for path, size, modified in rows}


def _state_of(file: Path) -> list[int]:
    state = file.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
