"""How the simulated shop is written: in chunks, in files by day of delivery, as a benchmark."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.ingest.shop import (
    ShopParameters,
    write,
    write_orders_parquet,
    write_shop,
)
from clv_pipeline.settings import load_settings
from clv_pipeline.warehouse import open_warehouse


def test_chunks_make_one_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "CHUNK_CUSTOMERS", 100)
    shop = write_shop(tmp_path, customers=350, days=300, file_format="parquet")
    people = pd.read_parquet(shop.truth / "customers.parquet")
    assert len(people) == 350
    assert people.customer_id.is_unique
    rows = pd.read_parquet(sorted((shop.folder / "transactions").glob("transactions_*.parquet")))
    owners = rows[~rows.is_refund].groupby("transaction_id").user_id.nunique()
    assert (owners <= 1).all()
    assert len(rows) + 10 == shop.count_rows["transactions"]
    assert len(set(people.customer_id) - set(rows.user_id)) < 10
    files = list((shop.folder / "transactions").glob("transactions_*.parquet"))
    for file in files:
        month = file.stem.removeprefix("transactions_")
        known = pd.read_parquet(file).ingested_at.dt.tz_convert("Europe/Berlin")
        assert (known.dt.strftime("%Y-%m") == month).all()


@pytest.mark.parametrize(
    ("per", "days", "count"),
    [("all", 400, 1), ("year", 400, 2), ("month", 400, 14), ("day", 50, 50)],
)
def test_files_are_split_by_the_day_of_delivery(
    tmp_path: Path, per: str, days: int, count: int
) -> None:
    shop = write_shop(
        tmp_path,
        customers=300,
        days=days,
        files_per=per,  # type: ignore[arg-type]
        parameters=ShopParameters(bad_rows=0),
    )
    files = list((shop.folder / "transactions").iterdir())
    assert len(files) == count
    assert shop.planted["quarantine:users"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"customers": 0}, "customers = 0"),
        ({"days": 20}, "days = 20"),
        ({"horizons": (0,)}, r"horizons = \[0\]"),
        ({"customers": 10_001, "files_per": "day"}, "files_per='day'"),
        ({"cutoffs": (date(2021, 1, 1),)}, "The cutoff 2021-01-01 lies outside the data"),
    ],
)
def test_arguments_that_make_no_shop_are_refused(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_shop(tmp_path, **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_settings_bound_the_cutoffs(tmp_path: Path) -> None:
    settings = load_settings(write_shop(tmp_path, customers=50, days=200).folder, {})
    assert settings.cadence.first_cutoff == date(2022, 3, 31)
    assert settings.cadence.last_cutoff == date(2022, 7, 19)
    assert settings.project.name == "shop"


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_a_shop_lands_whole(tmp_path: Path, file_format: str) -> None:
    shop = write_shop(
        tmp_path,
        customers=200,
        days=200,
        files_per="year",
        file_format=file_format,  # type: ignore[arg-type]
        duplicate_file=True,
    )
    settings = load_settings(shop.folder, {})
    report = land_inputs(settings, "run")
    with open_warehouse(settings, read_only=True) as connection:
        landed = connection.execute(
            "SELECT input, sum(count_rows_in), sum(count_rows_kept), sum(count_rows_quarantined) "
            "FROM ops.landed_files GROUP BY input"
        ).fetchall()
        for name, rows_in, kept, quarantined in landed:
            assert rows_in == shop.count_rows[name]
            assert rows_in == kept + quarantined
            assert quarantined == shop.planted.get(f"quarantine:{name}", 0)
            count = connection.execute(f"SELECT count(*) FROM raw.{name}").fetchone()
            assert count == (kept,)
        assert {row[0] for row in landed} == set(CONTRACTS)
        guests = connection.execute(
            "SELECT count(DISTINCT transaction_id) FROM raw.transactions "
            "WHERE user_id IS NULL AND NOT is_refund"
        ).fetchone()
    assert report.inputs["transactions"].files_skipped == 1
    assert guests is not None
    assert 0 <= shop.planted["guest_orders"] - guests[0] <= 2


def test_benchmark_orders_are_exact_and_heavy_tailed(tmp_path: Path) -> None:
    files = write_orders_parquet(tmp_path / "orders.parquet", 100_000, seed=3)
    again = write_orders_parquet(tmp_path / "again.parquet", 100_000, seed=3)
    assert files[0].read_bytes() == again[0].read_bytes()
    schema = pq.read_schema(files[0])
    assert schema.names == [field.name for field in CONTRACTS["transactions"].fields]
    frame = pd.read_parquet(files[0])
    assert len(frame) == 100_000
    sales = frame[~frame.is_refund]
    assert sales.transaction_id.is_unique
    assert frame.is_refund.mean() == pytest.approx(0.047, abs=0.01)
    refunds = frame[frame.is_refund].merge(sales, on="transaction_id", suffixes=("", "_order"))
    assert (refunds.user_id == refunds.user_id_order).all()
    spent = sales.astype({"amount": float}).groupby("user_id").amount.sum().sort_values()
    assert spent.tail(len(spent) // 100).sum() > 0.08 * spent.sum()


def test_benchmark_orders_stream_into_files(tmp_path: Path) -> None:
    files = write_orders_parquet(tmp_path / "orders", 60_000, orders_per_customer=20)
    months = [pd.read_parquet(file, columns=["ingested_at"]).ingested_at for file in files]
    assert [file.name for file in files] == [f"orders_{m.max():%Y%m}.parquet" for m in months]
    assert all(f"{m.min():%Y%m}" == f"{m.max():%Y%m}" for m in months)
    frame = pd.read_parquet(list(files))
    assert len(frame) == 60_000
    # However few orders are written, the shop is open until its last day.
    per_month = frame.set_index("ts").resample("MS").size()
    assert per_month.tail(2).min() > 0.5 * per_month.median()
    sales = frame[~frame.is_refund]
    assert sales.transaction_id.is_unique
    # All chunks but the last are whole: their customers show the mean that was asked for.
    number = sales.user_id.str[1:-1].astype(int)
    orders = sales[number <= 2_000].groupby("user_id").size()
    assert len(orders) == 2_000
    assert orders.mean() == pytest.approx(20, abs=4 * orders.std() / np.sqrt(2_000))
    with pytest.raises(ValueError, match="orders = 0"):
        write_orders_parquet(tmp_path / "none", 0)


def test_orders_per_customer_overrides_the_parameters(tmp_path: Path) -> None:
    laws = replace(ShopParameters(), guest_share=0.0)
    few = write_shop(
        tmp_path / "a", customers=500, days=400, orders_per_customer=2, parameters=laws
    )
    many = write_shop(tmp_path / "b", customers=500, days=400, parameters=laws)
    assert few.rate_scale > 2 * many.rate_scale
    assert many.count_rows["transactions"] > 2 * few.count_rows["transactions"]
