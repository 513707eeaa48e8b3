"""The map of merged accounts may not run in a circle."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import duckdb

from clv_pipeline.ingest.report import LandingError


def find_cycle(merges: Iterable[tuple[object, str, str]]) -> list[str] | None:
    """Return the accounts of the first circle that the map ever runs in, or None.

    Parameters
    ----------
    merges
        Instant, old account and new account, in the order in which they take effect. An account
        that names itself as its owner is split off again.
    """
    owner: dict[str, str] = {}
    for _, group in groupby(merges, key=lambda merge: merge[0]):
        changed = []
        for _, old, new in group:
            owner.pop(old, None)
            if old != new:
                owner[old] = new
                changed.append(old)
        for start in changed:
            path = [start]
            while (following := owner.get(path[-1])) is not None:
                if following == start:
                    return [*path, start]
                if following in path:
                    break
                path.append(following)
    return None


def refuse_cycle(connection: duckdb.DuckDBPyConnection, path: str) -> None:
    """Refuse a map of merges that runs in a circle.

    Parameters
    ----------
    path
        The file that was landed last.

    Raises
    ------
    LandingError
        Naming the accounts.
    """
    merges = connection.execute(
        "SELECT ts, old_user_id, new_user_id FROM raw.account_merges "
        "ORDER BY ts, _file_id, _row_number"
    ).fetchall()
    cycle = find_cycle(merges)
    if cycle is not None:
        shown = " -> ".join(cycle if len(cycle) <= 10 else [*cycle[:9], "..."])
        raise LandingError(
            f"The account merges in {path} run in a circle: {shown}. No account owns itself by way "
            "of others; take one of these rows out and run again."
        )
