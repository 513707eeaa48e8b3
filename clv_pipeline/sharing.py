"""Threads of one process take turns where they open the warehouse in different ways.

DuckDB lets a process open a file several times, but only in one way: to read, or to write. Dagster
asks sensors, schedules and partitions in threads of one process, each of which opens the warehouse
for a moment. Whoever comes in between in the other way waits for that moment, not for an error.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Longer than any look at the warehouse; a thread that waits for more is told what DuckDB says.
WAIT_SECONDS = 60.0

_turns = threading.Condition()
# (file, way, thread) of each connection that is open.
_held: list[tuple[Path, bool, int]] = []


@contextmanager
def take_turn(path: Path, *, read_only: bool) -> Iterator[None]:
    """Hold a file open in one way, once no other thread holds it open in the other.

    Parameters
    ----------
    path
        The database file.
    read_only
        The way.
    """
    mine = (path, read_only, threading.get_ident())
    with _turns:
        _turns.wait_for(lambda: not _is_taken(mine), WAIT_SECONDS)
        _held.append(mine)
    try:
        yield
    finally:
        with _turns:
            _held.remove(mine)
            _turns.notify_all()


def explain_refusal(path: Path, error: Exception) -> str:
    """Say why DuckDB could not open a file, and what to do."""
    text = str(error)
    if "lock" in text.lower():
        return (
            f"{path} is open in another program, so it can't be written now. Close that program "
            "(analysts read published/clv.duckdb instead), then run again."
        )
    return (
        f"{path} can't be opened: {text.splitlines()[0]} If the file is damaged, move it away and "
        "run again: everything in it is rebuilt from the raw files."
    )


def _is_taken(wanted: tuple[Path, bool, int]) -> bool:
    path, read_only, thread = wanted
    # A thread that waited for itself would wait in vain.
    return any(
        held_path == path and held_way != read_only and held_by != thread
        for held_path, held_way, held_by in _held
    )
