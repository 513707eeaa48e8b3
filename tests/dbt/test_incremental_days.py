"""The daily tables take only what is new, and hold what building at once gives, whatever happened.

A random shop with late, repeated and restated rows is delivered file by file. Between two files a
run ends after staging, as one that is killed does; then a file is taken back. Each time, what was
built a little at a time is held to what a second home builds at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from clv_pipeline import dbt_project
from clv_pipeline.settings import EngineSettings, Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import STAGES, build_stages, run_dbt
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.dbt.random_shop import LAST_DAY, TIME_ZONE, random_shop
from tests.support import fill_raw

DAYS = ("int_customer_days", "int_customer_day_items", "int_customer_day_places")
TABLES = ("staging.stg_transactions", *(f"intermediate.{name}" for name in DAYS))
MARK = 4711


def settings_of(root: Path) -> Settings:
    return build_settings(root, {"project": {"time_zone": TIME_ZONE, "reporting_currency": "EUR"}})


def build(settings: Settings, *stages: str) -> None:
    cutoff = Cutoff(LAST_DAY)
    build_stages(settings, [cutoff], cutoff, "run", stages or ("staging", "intermediate"))


def read_all(settings: Settings) -> dict[str, pd.DataFrame]:
    with open_warehouse(settings, read_only=True) as connection:
        return {
            table: read_frame(connection, f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES
        }


def run(settings: Settings, statement: str) -> list[tuple[object, ...]]:
    with open_warehouse(settings) as connection:
        return connection.execute(statement).fetchall()


def assert_equal(grown: Settings, fresh: Settings) -> None:
    got, expected = read_all(grown), read_all(fresh)
    for table in TABLES:
        assert len(expected[table]) > 0
        assert_frame_equal(got[table], expected[table], obj=table)


@pytest.fixture(scope="module")
def shop() -> dict[str, pd.DataFrame]:
    return random_shop(7, customers=60)


@pytest.fixture(scope="module")
def homes(
    shop: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Settings]]:
    root = tmp_path_factory.mktemp("days")
    yield settings_of(root / "grown"), settings_of(root / "fresh")


def files(shop: dict[str, pd.DataFrame], wanted: set[int]) -> dict[str, pd.DataFrame]:
    return {name: frame[frame["_file_id"].isin(wanted)] for name, frame in shop.items()}


def test_what_is_new_is_taken_and_what_it_touches_is_rewritten(
    shop: dict[str, pd.DataFrame], homes: tuple[Settings, Settings]
) -> None:
    grown, fresh = homes
    fill_raw(grown, files(shop, {1, 2}))
    build(grown)
    fill_raw(grown, files(shop, {3}), append=True)
    build(grown, "staging")  # and there the run is killed
    fill_raw(grown, files(shop, {4, 5}), append=True)
    # As landing does; the rows before were put there without.
    run(
        grown,
        "UPDATE raw.transactions SET _order_fingerprint = raw.fingerprint_order(transaction_id)",
    )
    build(grown)
    fill_raw(fresh, shop)
    build(fresh)
    assert_equal(grown, fresh)


def test_days_that_nothing_touches_are_left_alone(
    shop: dict[str, pd.DataFrame], homes: tuple[Settings, Settings]
) -> None:
    grown, _ = homes
    day = date(2024, 2, 20)
    new = pd.DataFrame(
        {"user_id": ["user 1"], "ts": [pd.Timestamp(day) + pd.Timedelta(hours=12)], "amount": 5.0}
    ).assign(is_refund=False, _file_id=6)
    touched = f"user_id = 'user 1' AND activity_date = DATE '{day}'"
    run(grown, "CREATE TABLE before AS FROM intermediate.int_customer_days")
    before = int(str(run(grown, "SELECT count(*) FROM before")[0][0]))
    # Whoever rewrites a row that nothing touches loses the mark.
    mark = "UPDATE intermediate.int_customer_days SET delta_count_refunds = delta_count_refunds {} "
    run(grown, mark.format(f"+ {MARK}"))
    fill_raw(grown, {"transactions": new}, append=True)
    build(grown)
    marked = "SELECT count(*) FROM intermediate.int_customer_days WHERE delta_count_refunds > 1000"
    (had,) = run(grown, f"SELECT count(*) FROM before WHERE {touched}")[0]
    assert run(grown, marked)[0] == (before - int(str(had)),)
    run(grown, mark.format(f"- {MARK}") + "WHERE delta_count_refunds > 1000")
    assert run(
        grown,
        "SELECT user_id, activity_date FROM ops.changed_days WHERE change_number = "
        "(SELECT max(change_number) FROM ops.changed_days)",
    ) == [("user 1", day)]
    value = f"SELECT sum(delta_value) FROM {{}} WHERE {touched}"
    old, now = (
        float(str(run(grown, value.format(table))[0][0] or 0))
        for table in ("before", "intermediate.int_customer_days")
    )
    assert now - old == pytest.approx(5.0)


def test_a_file_that_is_gone_takes_its_days_along(
    shop: dict[str, pd.DataFrame],
    homes: tuple[Settings, Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grown, fresh = homes
    for home in homes:
        run(home, "DELETE FROM raw.transactions WHERE _file_id IN (2, 6)")
    build(grown)
    run(fresh, "DROP SCHEMA staging CASCADE")  # staged in full, so that every day may have changed
    build(fresh)
    assert_equal(grown, fresh)
    # As if memory held a few hundred rows: built at first in slices, the tables are the same.
    run(fresh, "DROP SCHEMA staging CASCADE; DROP SCHEMA intermediate CASCADE")
    monkeypatch.setattr(EngineSettings, "memory_bytes", lambda engine: 30_000)
    told: list[str] = []
    cutoff = Cutoff(LAST_DAY)
    variables = dbt_project.dbt_variables(fresh, [cutoff], cutoff, "run")
    selected = ["--select", STAGES["staging"], "--select", STAGES["intermediate"]]
    run_dbt(fresh, ["build", *selected], variables, told.append)
    count = run(fresh, "SELECT count(*) FROM raw.transactions")[0][0]
    assert any(
        text.startswith("stg_transactions: ") and f"{count:,} of {count:,} rows read" in text
        for text in told
    ), told
    for name, mark in {"stg_transactions": "order_state % ", DAYS[0]: "activity_date < "}.items():
        (compiled,) = (fresh.paths.dbt_target / "compiled").rglob(f"{name}.sql")
        assert mark in compiled.read_text()
    assert_equal(grown, fresh)
