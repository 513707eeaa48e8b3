"""How much of the past is kept: cutoffs as they fall behind.

A run adds a row of every feature for each customer at each of its cutoffs, and a training does so
for dozens of cutoffs that no later run reads again. Unless they are dropped, the warehouse grows by
many times what a shop sells. All of it follows from the orders and can be made again; what was
predicted can't, so values, reasons and reviews of every night stay.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import duckdb

from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import has_table, open_warehouse, quote_identifier

PREDICTIONS = ("scores", "customer_predictions")
HISTORY = ("clv", "customer_clv_history")
_STANDING = ("scores", "customer_standing")
# A cutoff's first table and its last; one that is being built may be in the first alone.
_SAYING_WHAT_IS_HELD = (("as_of", "customer_spine"), ("features", "customer_features"))
# Where rows of a cutoff can be made again.
_SCHEMAS = ("as_of", "features")
_TABLES_OF_CUTOFFS = """
SELECT table_schema, table_name
FROM information_schema.tables
INNER JOIN information_schema.columns USING (table_schema, table_name)
WHERE table_type = 'BASE TABLE' AND column_name = 'cutoff_date' AND list_contains(?, table_schema)
ORDER BY ALL
"""


def is_kept(source: str, count_newest: int) -> str:
    """Return SQL that says whether a row's ``cutoff_date`` is kept of all those in a table.

    The newest cutoffs are, and of each month the last.

    Parameters
    ----------
    source
        A table that holds every cutoff.
    count_newest
        How many of the newest are kept.
    """
    return (
        f"cutoff_date IN (SELECT cutoff_date FROM (SELECT DISTINCT cutoff_date FROM {source}) "
        f"QUALIFY row_number() OVER (ORDER BY cutoff_date DESC) <= {count_newest} OR "
        "cutoff_date = max(cutoff_date) OVER (PARTITION BY date_trunc('month', cutoff_date)))"
    )


def kept_nights(connection: duckdb.DuckDBPyConnection, settings: Settings) -> set[date]:
    """Return the scored cutoffs of which as-of tables and features are kept."""
    return _scored(connection, is_kept(".".join(PREDICTIONS), settings.features.keep_nights))


def drop_past_cutoffs(
    settings: Settings, wanted: Collection[Cutoff], *, is_training: bool
) -> list[date]:
    """Drop what as-of tables and features hold of cutoffs that are not needed any more.

    Those are scored ones that are not kept (`is_kept`), and before a training builds its own
    cutoffs all others that were never scored. What history still has to take in stays.

    Parameters
    ----------
    settings
        Say how many of the newest nights are kept.
    wanted
        Cutoffs of the run that is about to build.
    is_training
        Whether that run trains.

    Returns
    -------
    list of date
        The cutoffs that were dropped, oldest first.
    """
    with open_warehouse(settings) as connection:
        held = {
            day
            for relation in _SAYING_WHAT_IS_HELD
            if has_table(connection, *relation)
            for day in _days_of(connection, ".".join(relation))
        }
        past = held - kept_nights(connection, settings) - {cutoff.day for cutoff in wanted}
        if not is_training:
            past &= _scored(connection)
        past -= _missing_in_history(connection)
        dropped = sorted(past)
        if dropped:
            _drop(connection, dropped)
    return dropped


def _drop(connection: duckdb.DuckDBPyConnection, days: list[date]) -> None:
    connection.begin()
    if has_table(connection, "ops", "built_steps"):
        connection.execute(
            "DELETE FROM ops.built_steps WHERE list_contains(?::VARCHAR[], cutoff)", [days]
        )
    # What another engine has built are views here, and files there.
    for schema, name in connection.execute(_TABLES_OF_CUTOFFS, [_SCHEMAS]).fetchall():
        table = f"{quote_identifier(schema)}.{quote_identifier(name)}"
        connection.execute(
            f"DELETE FROM {table} WHERE list_contains(?::DATE[], cutoff_date)", [days]
        )
    connection.commit()


def _scored(connection: duckdb.DuckDBPyConnection, condition: str = "TRUE") -> set[date]:
    if not has_table(connection, *PREDICTIONS):
        return set()
    return set(_days_of(connection, ".".join(PREDICTIONS), condition))


def _missing_in_history(connection: duckdb.DuckDBPyConnection) -> set[date]:
    """Return the cutoffs whose run told where customers stand, and broke off before history."""
    if not (has_table(connection, *_STANDING) and has_table(connection, *HISTORY)):
        return set()
    scored, held = (
        f"SELECT DISTINCT cutoff_date, run_id FROM {'.'.join(table)}"
        for table in (_STANDING, HISTORY)
    )
    return {row[0] for row in connection.execute(f"{scored} EXCEPT {held}").fetchall()}


def _days_of(
    connection: duckdb.DuckDBPyConnection, table: str, condition: str = "TRUE"
) -> list[date]:
    query = f"SELECT DISTINCT cutoff_date FROM {table} WHERE {condition}"
    return [row[0] for row in connection.execute(query).fetchall()]
