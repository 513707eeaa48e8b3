"""Of how many customers a cutoff is built: of everybody, or of a share that is drawn by their ids.

This is the one place that decides it. A cutoff holds everybody where a run was asked for it, where
it was scored and is kept (`clv_pipeline.keeping`), where all cutoffs of a training together stay
within ``max_panel_rows``, and on an engine whose workers learn from every row.
The others are only learned from: their as-of tables and features hold one of 2, 4, 8, ... of the
customers, the most with which the panel stays within that limit. Such a share lasts until the shop
has doubled, and whom a smaller one takes, the larger one took.

``as_of.customer_spine`` says of each row what share its cutoff holds; who reads a cutoff as the
whole shop asks `whole_days`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from clv_pipeline.keeping import kept_nights
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import has_table, open_warehouse, read_row

SPINE = ("as_of", "customer_spine")
_DAYS, _USERS = ("intermediate", "int_customer_days"), ("staging", "stg_users")
# Hashes are compared by so many binary digits.
_DIGITS = 32
# The condition on rows of a table by customer; its parameter is from `ceiling_of`.
IS_DRAWN = "md5(customer_id) < ?"
# When each account was known first: near enough to the spine's own day, which knows of merges.
_COUNT_KNOWN = """
SELECT count(*) FROM (
    SELECT user_id, min(known_day) AS known_day FROM ({accounts}) GROUP BY user_id
) INNER JOIN (SELECT unnest(?::DATE[]) AS cutoff_date) ON known_day <= cutoff_date
"""
_KNOWN = {
    _DAYS: "SELECT user_id, greatest(activity_date, known_date) AS known_day FROM {table}",
    _USERS: "SELECT user_id, least(signup_date, first_signup_date, "
    "nullif(valid_from_date, DATE '0001-01-01')) AS known_day FROM {table}",
}


@dataclass(frozen=True)
class Draw:
    """Which cutoffs of a run hold a part of the customers.

    Attributes
    ----------
    cutoffs
        Those; the others hold everybody.
    halvings
        They hold one customer of 2 to this power.
    """

    cutoffs: frozenset[Cutoff] = frozenset()
    halvings: int = 0


NOBODY_DRAWN = Draw()


def plan_draw(settings: Settings, cutoffs: Sequence[Cutoff], asked: Cutoff) -> Draw:
    """Decide which cutoffs of a run hold a share of the customers, and what share.

    Parameters
    ----------
    cutoffs
        All that the run builds.
    asked
        The one that it was asked for.
    """
    others = set(cutoffs) - {asked}
    # An engine whose workers learn from every row needs every row.
    if not others or settings.engine.distributes(settings.model.max_panel_rows):
        return NOBODY_DRAWN
    with open_warehouse(settings, read_only=True) as connection:
        days = [cutoff.day for cutoff in cutoffs]
        halvings = needed_halvings(connection, settings, days)
        if not halvings:
            return NOBODY_DRAWN
        kept = kept_nights(connection, settings)
    return Draw(frozenset(c for c in others if c.day not in kept), halvings)


def needed_halvings(
    connection: duckdb.DuckDBPyConnection, settings: Settings, days: Sequence[date]
) -> int:
    """Return how often the customers must be halved for a panel of some cutoffs to fit."""
    most = settings.model.max_panel_rows
    held = [table for table in _KNOWN if has_table(connection, *table)]
    counts = [read_row(connection, f"SELECT count(*) FROM {'.'.join(t)}")[0] for t in held]
    if sum(counts) * len(days) <= most:
        return 0
    accounts = " UNION ALL ".join(_KNOWN[t].format(table=".".join(t)) for t in held)
    (rows,) = read_row(connection, _COUNT_KNOWN.format(accounts=accounts), [list(days)])
    return min(math.ceil(math.log2(rows / most)), _DIGITS) if rows > most else 0


def panel_halvings(
    connection: duckdb.DuckDBPyConnection, settings: Settings, days: Sequence[date]
) -> int:
    """Return the halvings of a panel: what it needs, or more where a cutoff holds no more.

    So all cutoffs of a panel hold the same customers, whatever they were built for.
    """
    held = round(-math.log2(held_share(connection, days)))
    return max(needed_halvings(connection, settings, days), held)


def share_of(halvings: int) -> float:
    """Return the share of the customers that is drawn."""
    return float(0.5**halvings)


def ceiling_of(halvings: int) -> str:
    """Return below which hash an id is drawn: the twin of the macro ``is_held``.

    Parameters
    ----------
    halvings
        At least 1.
    """
    return f"{2 ** (_DIGITS - halvings):08x}"


def held_share(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> float:
    """Return the least share of the customers that any of some cutoffs holds."""
    if not has_table(connection, *SPINE):
        return 1.0
    query = f"SELECT min(share_of_customers) FROM {'.'.join(SPINE)}"
    (found,) = read_row(connection, f"{query} WHERE list_contains(?, cutoff_date)", [list(days)])
    return 1.0 if found is None else float(found)


def whole_days(connection: duckdb.DuckDBPyConnection, table: str) -> list[date]:
    """List the cutoffs of which a table by customer holds everybody, oldest first.

    Parameters
    ----------
    table
        Schema and name. Where it and the spine differ in size, one of them was built anew since.
    """
    if not (has_table(connection, *SPINE) and has_table(connection, *table.split("."))):
        return []
    rows = connection.execute(
        f"""
        SELECT cutoff_date
        FROM (
            SELECT cutoff_date, count(*) AS count_known, min(share_of_customers) AS share
            FROM {".".join(SPINE)} GROUP BY cutoff_date
        )
        INNER JOIN (SELECT cutoff_date, count(*) AS count_held FROM {table} GROUP BY cutoff_date)
            USING (cutoff_date)
        WHERE share = 1 AND count_held = count_known
        ORDER BY cutoff_date
        """
    ).fetchall()
    return [row[0] for row in rows]
