"""Two warehouses side by side: the same keys and counts exactly, doubles within 1e-9."""

from __future__ import annotations

from pathlib import Path

import duckdb

from clv_pipeline.warehouse import quote_identifier, quote_literal

# What tells the rows of a table apart.
KEYS: dict[str, tuple[str, ...]] = {
    "staging.stg_account_merges": ("old_user_id", "valid_from_date"),
    "staging.stg_acquisition_costs": ("_file_id", "_row_number"),
    "staging.stg_campaign_exposures": ("_file_id", "_row_number"),
    "staging.stg_events": ("_file_id", "_row_number"),
    "staging.stg_exchange_rates": ("rate_date", "currency", "known_from_date"),
    "staging.stg_texts": ("_file_id", "_row_number"),
    "staging.stg_transactions": ("_file_id", "_row_number", "rate_version"),
    "staging.stg_users": ("user_id", "valid_from_date"),
    "intermediate.int_account_owners": ("user_id", "valid_from_date"),
    "intermediate.int_customer_day_items": (
        "user_id",
        "activity_date",
        "known_date",
        "sku",
        "category",
    ),
    "intermediate.int_customer_day_places": (
        "user_id",
        "activity_date",
        "known_date",
        "country",
        "channel",
    ),
    "intermediate.int_customer_days": ("user_id", "activity_date", "known_date"),
    "intermediate.int_event_days": ("user_id", "activity_date", "known_date"),
    "as_of.customer_labels": ("customer_id", "cutoff_date", "horizon_days"),
}
CUSTOMER = ("customer_id", "cutoff_date")
TOLERANCE = 1e-9
# Whole numbers are stored in more bytes here or fewer there.
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")


class Pair:
    """Two warehouses, attached to one connection for reading.

    Parameters
    ----------
    ours, theirs
        Their files.
    """

    def __init__(self, ours: Path, theirs: Path) -> None:
        self.connection = duckdb.connect()
        for name, path in (("ours", ours), ("theirs", theirs)):
            self.connection.execute(f"ATTACH {quote_literal(str(path))} AS {name} (READ_ONLY)")

    def close(self) -> None:
        """Let both files go."""
        self.connection.close()

    def count(self, query: str) -> int:
        """Return how many rows a query has."""
        row = self.connection.execute(f"SELECT count(*) FROM ({query})").fetchone()
        assert row is not None
        return int(row[0])

    def columns(self, name: str, table: str) -> dict[str, str]:
        """Return the kind of each column of a table: ``hash``, ``whole``, or DuckDB's type."""
        rows = self.connection.execute(f"DESCRIBE {name}.{table}").fetchall()
        return {
            row[0]: "hash" if row[0].endswith("_state") else "whole" if row[1] in _WHOLE else row[1]
            for row in rows
        }

    def differences(self, table: str) -> dict[str, int]:
        """Return rows that differ, by what they differ in; nothing where the tables are equal.

        A column that ends in ``_state`` is a hash, which each engine computes in its own way.
        """
        ours, theirs = self.columns("ours", table), self.columns("theirs", table)
        assert ours == theirs
        columns = [name for name in ours if ours[name] != "hash"]
        exact = [c for c in columns if ours[c] != "DOUBLE"]
        found = {}
        for name, one, other in (("missing", "ours", "theirs"), ("added", "theirs", "ours")):
            names = ", ".join(map(quote_identifier, exact))
            found[name] = self.count(
                f"SELECT {names} FROM {one}.{table} EXCEPT ALL SELECT {names} FROM {other}.{table}"
            )
        keys = KEYS.get(table, CUSTOMER)
        joined = " AND ".join(f"a.{k} IS NOT DISTINCT FROM b.{k}" for k in keys)
        both = f"SELECT * FROM ours.{table} AS a INNER JOIN theirs.{table} AS b ON {joined}"
        # Every row finds exactly one other: the keys are keys, in both.
        found["unpaired"] = abs(self.count(both) - self.count(f"FROM ours.{table}"))
        for column in columns:
            if column not in exact:
                c = quote_identifier(column)
                found[column] = self.count(
                    f"{both} WHERE (a.{c} IS NULL) <> (b.{c} IS NULL) OR abs(a.{c} - b.{c}) "
                    f"> {TOLERANCE} * greatest(abs(a.{c}), abs(b.{c}))"
                )
        return {name: count for name, count in found.items() if count}
