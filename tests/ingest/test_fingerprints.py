"""Orders are found in all that has landed, whatever became of their fingerprints."""

from __future__ import annotations

import pytest

from clv_pipeline.ingest.fingerprints import COLUMN
from clv_pipeline.warehouse import open_warehouse
from tests.ingest.conftest import Shop, as_csv

# So long a history that what comes after it is a night.
HISTORY = [(f"o{n}", "anna", "2024-01-05", f"{n + 1}.00") for n in range(60)]
NIGHT = [("o7", "anna", "2024-01-05", "99.00"), ("new", "bert", "2024-02-01", "5.00")]


def land_history(shop: Shop) -> None:
    shop.write("a.csv", as_csv(HISTORY))
    shop.land()


def land_night(shop: Shop) -> tuple[str, ...]:
    shop.write("b.csv", as_csv(NIGHT))
    return shop.land_transactions().warnings


def found(shop: Shop, ids: list[str]) -> list[tuple[str, ...]]:
    with open_warehouse(shop.settings) as connection:
        connection.execute("CREATE TEMPORARY TABLE wanted (transaction_id VARCHAR)")
        connection.executemany("INSERT INTO wanted VALUES (?)", [[one] for one in ids])
        return connection.execute(
            "SELECT transaction_id FROM raw.transactions WHERE rowid IN "
            "(SELECT landed_row FROM raw.rows_of_orders('wanted')) ORDER BY ALL"
        ).fetchall()


def test_every_landed_order_has_its_fingerprint_and_rows_without_id_have_none(shop: Shop) -> None:
    shop.write("a.csv", as_csv([*HISTORY, ("", "carl", "2024-01-06", "1.00")]))
    shop.land()
    assert shop.query(
        f"SELECT transaction_id IS NULL, count({COLUMN}), count(DISTINCT {COLUMN}) "
        "FROM raw.transactions GROUP BY 1 ORDER BY 1"
    ) == [(False, 60, 60), (True, 0, 0)]
    assert found(shop, ["o3", "o44", "unknown"]) == [("o3",), ("o44",)]


@pytest.mark.parametrize(
    "change",
    [
        "SELECT 1",
        # As of rows that others than the pipeline put there.
        f"UPDATE raw.transactions SET {COLUMN} = NULL",
        f"UPDATE raw.transactions SET {COLUMN} = NULL WHERE transaction_id < 'o3'",
        # As in a warehouse of an earlier release.
        f"ALTER TABLE raw.transactions DROP COLUMN {COLUMN}",
        # Another order's, by chance.
        f"UPDATE raw.transactions SET {COLUMN} = (SELECT {COLUMN} FROM raw.transactions "
        "WHERE transaction_id = 'o7') WHERE transaction_id IN ('o8', 'o9')",
        # As after a release of DuckDB that hashes otherwise.
        f"UPDATE raw.transactions SET {COLUMN} = {COLUMN} + 1;"
        f"COMMENT ON COLUMN raw.transactions.{COLUMN} IS '1'",
    ],
    ids=["none", "no fingerprints", "some fingerprints", "no column", "collision", "other hash"],
)
def test_a_night_finds_the_order_that_it_restates(shop: Shop, change: str) -> None:
    land_history(shop)
    with open_warehouse(shop.settings) as connection:
        connection.execute(change)
    assert [text[:20] for text in land_night(shop)] == ["b.csv: 1 of its orde"]
    assert ("new",) in found(shop, ["new", "o7"])
    assert found(shop, ["new", "o7"]).count(("o7",)) == 2


@pytest.mark.parametrize(
    ("change", "is_made_anew"),
    [
        (f"COMMENT ON COLUMN raw.transactions.{COLUMN} IS '1'", True),
        (f"ALTER TABLE raw.transactions DROP COLUMN {COLUMN}", True),
        ("SELECT 1", False),
    ],
)
def test_fingerprints_are_made_anew_where_they_may_not_hold(
    shop: Shop, change: str, is_made_anew: bool
) -> None:
    land_history(shop)
    right = shop.query(f"SELECT transaction_id, {COLUMN} FROM raw.transactions ORDER BY 1")
    with open_warehouse(shop.settings) as connection:
        connection.execute(f"UPDATE raw.transactions SET {COLUMN} = 1")
        connection.execute(change)
    shop.land()
    after = shop.query(f"SELECT transaction_id, {COLUMN} FROM raw.transactions ORDER BY 1")
    assert (after == right) is is_made_anew
