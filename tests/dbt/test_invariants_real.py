"""What must hold of time and of totals in two real shops, from their files to their features.

The rows of a shop come in two deliveries: what was known by the end of the cutoff, and the rest,
which is all that came later and every twentieth of the earlier orders, known late. A second home
gets everything at once; a third one never gets many of the orders on or before the cutoff.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from clv_pipeline.datasets import __name__ as datasets_name
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.ingest.report import Totals
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages
from clv_pipeline.warehouse import open_warehouse, read_frame, read_row
from tests.conftest import SHARED_DATA

pytestmark = pytest.mark.slow

RETAIL = SHARED_DATA / "online_retail_ii" / "online_retail_2009-12_2010-12.parquet"
RETAIL_CONFIG = Path(__file__).parents[1] / "data" / "online_retail_ii.toml"
SERVICES = ["POST", "DOT", "M", "D", "C2", "C3", "S", "B", "CRUK", "AMAZONFEE", "BANK CHARGES"]
SERVICES += ["ADJUST", "ADJUST2", "GIFT", "TEST001", "TEST002"]
HORIZONS = (30, 90)
SNAPSHOTS = ("as_of.customer_spine", "as_of.customer_history", "features.customer_features")
TABLES = (*SNAPSHOTS, "as_of.customer_labels")
LOTS = 20
LATE, JUST_IN_TIME, NEVER_COMES = (0,), (1,), range(2, 9)


@dataclass(frozen=True)
class Shop:
    """A real shop.

    Attributes
    ----------
    rows
        As they stand in the file, with ``ingested_at`` where an order was known late.
    meaning
        The same rows, read by pandas: ``user_id`` (null for a guest), ``day``, ``known_day``,
        ``units`` (ten-thousandths of the currency, refunds below 0), ``raw_units`` (of rows as
        they stand), ``is_kept`` and ``lot`` (each order's draw, 0 to 19).
    document
        What its clv.toml says.
    """

    rows: pd.DataFrame
    meaning: pd.DataFrame
    document: dict[str, Any]
    cutoff: date
    end: date
    suffix: str

    @property
    def is_early(self) -> pd.Series[bool]:
        return self.meaning["day"] <= pd.Timestamp(self.cutoff)

    def is_seen(self, day: date) -> pd.Series[bool]:
        """Whether a row of a customer happened, and was known, by the end of a day."""
        known = self.meaning[["day", "known_day"]].max(axis=1) <= pd.Timestamp(day)
        return known & self.meaning["is_kept"] & self.meaning["user_id"].notna()

    def settings(self, root: Path) -> Settings:
        root.mkdir(exist_ok=True)
        return build_settings(root, self.document)

    def deliver(self, settings: Settings, chosen: pd.Series[bool], name: str) -> Totals:
        rows, path = self.rows[chosen], settings.root / f"{name}{self.suffix}"
        if self.suffix == ".parquet":
            rows.to_parquet(path)
        else:
            rows.to_csv(path, index=False, date_format="%Y-%m-%d")
        return land_inputs(settings, "run").inputs["transactions"].new


@dataclass(frozen=True)
class Built:
    """A shop, and the tables of its homes: after the first delivery, after both, and so on."""

    shop: Shop
    then: dict[str, pd.DataFrame]
    later: dict[str, pd.DataFrame]
    at_once: dict[str, pd.DataFrame]
    few: dict[str, pd.DataFrame]
    totals: Totals
    settings: Settings


def cdnow() -> Shop:
    """Return every tenth customer of CDNOW; an order is a row there."""
    folder = files(datasets_name)
    with (folder / "cdnow.csv.gz").open("rb") as stream:
        rows = pd.read_csv(stream, compression="gzip", dtype=str)
    rows = rows[rows["customer_id"].astype(int) % 10 == 0].reset_index(drop=True)
    units = rows["amount"].astype(float).mul(10_000).round().astype("int64")
    meaning = pd.DataFrame(
        {
            "user_id": rows["customer_id"],
            "day": pd.to_datetime(rows["date"]),
            "units": units,
            "raw_units": units,
            "is_kept": True,
            "lot": draw(rows.index.astype(str)),
        }
    )
    document = tomllib.loads((folder / "cdnow.toml").read_text(encoding="utf-8"))
    return make_shop(rows, meaning, document, date(1997, 9, 30), date(1998, 6, 30), ".csv")


def online_retail() -> Shop:
    """Return the invoices of every third customer and of every third guest of Online Retail II."""
    if not RETAIL.is_file():
        pytest.skip("the public data sets do not lie beside this checkout")
    rows = pd.read_parquet(RETAIL)
    who = rows["CustomerID"].fillna(rows["Invoice"].str.extract(r"(\d+)")[0].astype(float))
    rows = rows[who % 3 == 0].reset_index(drop=True)
    is_refund = rows["Invoice"].str.startswith("C")
    raw = np.rint(rows["Price"] * 10_000).astype("int64") * rows["Quantity"]
    is_service = rows["StockCode"].str.upper().isin(SERVICES)
    meaning = pd.DataFrame(
        {
            "user_id": rows["CustomerID"].astype("Int64").astype("string"),
            "day": rows["InvoiceDate"].dt.normalize(),
            "units": raw.mask(is_refund, -raw.abs()),
            "raw_units": raw,
            "is_kept": ~rows["Invoice"].str.startswith("A")
            & ((rows["Quantity"] >= 0) | is_refund)
            & (rows["Price"] > 0)
            & ~is_service
            & ~rows["StockCode"].str.startswith("gift_"),
            "lot": draw(rows["Invoice"]),
        }
    )
    document = tomllib.loads(RETAIL_CONFIG.read_text(encoding="utf-8"))
    return make_shop(rows, meaning, document, date(2010, 8, 31), date(2010, 12, 9), ".parquet")


def draw(orders: pd.Series[str] | pd.Index[str]) -> np.ndarray:
    """Return a draw from 0 to 19 for each order, the same for the same name on every machine."""
    return (pd.util.hash_array(np.asarray(orders, dtype=object)) % LOTS).astype("int64")


def make_shop(
    rows: pd.DataFrame,
    meaning: pd.DataFrame,
    document: dict[str, Any],
    cutoff: date,
    end: date,
    suffix: str,
) -> Shop:
    """Let some early orders become known after the cutoff, and some on that very day."""
    is_early = meaning["day"] <= pd.Timestamp(cutoff)
    late = pd.Timestamp(cutoff) + pd.to_timedelta(1 + meaning["day"].dt.day_of_year % 45, unit="D")
    known = late.where(is_early & meaning["lot"].isin(LATE))
    known = known.mask(is_early & meaning["lot"].isin(JUST_IN_TIME), pd.Timestamp(cutoff))
    document["inputs"]["transactions"]["files"] = [f"*{suffix}"]
    document["value"]["horizons"] = list(HORIZONS)
    return Shop(
        rows.assign(ingested_at=known),
        meaning.assign(known_day=known.fillna(meaning["day"])),
        document,
        cutoff,
        end,
        suffix,
    )


def build(settings: Settings, days: tuple[date, ...]) -> dict[str, pd.DataFrame]:
    build_stages(settings, [Cutoff(day) for day in days], Cutoff(days[-1]), "run")
    with open_warehouse(settings, read_only=True) as connection:
        return {
            table: read_frame(connection, f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES
        }


@pytest.fixture(
    scope="module",
    params=[cdnow, pytest.param(online_retail, marks=pytest.mark.real_data)],
    ids=["cdnow", "online_retail"],
)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    shop: Shop = request.param()
    root = tmp_path_factory.mktemp("shop")
    both = (shop.cutoff, shop.end)
    grown, whole, fewer = (shop.settings(root / name) for name in ("grown", "whole", "fewer"))
    is_known = shop.is_early & (shop.meaning["known_day"] <= pd.Timestamp(shop.cutoff))
    shop.deliver(grown, is_known, "1")
    then = build(grown, both[:1])
    shop.deliver(grown, ~is_known, "2")
    everything = pd.Series(True, index=shop.rows.index)
    totals = shop.deliver(whole, everything, "all")
    is_never = shop.is_early & shop.meaning["lot"].isin([*LATE, *NEVER_COMES])
    shop.deliver(fewer, ~is_never, "fewer")
    later, at_once, few = (build(home, both) for home in (grown, whole, fewer))
    return Built(shop, then, later, at_once, few, totals, whole)


def at(tables: dict[str, pd.DataFrame], table: str, cutoff: date) -> pd.DataFrame:
    rows = tables[table]
    return rows[rows["cutoff_date"] == pd.Timestamp(cutoff)].reset_index(drop=True)


def money(units: float) -> Decimal:
    return Decimal(int(units)) / 10_000


@pytest.mark.parametrize("table", SNAPSHOTS)
def test_what_came_after_the_cutoff_changes_nothing_at_it(built: Built, table: str) -> None:
    shop = built.shop
    is_late = shop.is_early & (shop.meaning["known_day"] > pd.Timestamp(shop.cutoff))
    assert is_late.sum() > 100
    before = at(built.then, table, shop.cutoff)
    assert len(before) > 1_000
    assert_frame_equal(at(built.later, table, shop.cutoff), before)


@pytest.mark.parametrize("table", TABLES)
def test_a_snapshot_rebuilt_from_the_files_is_the_one_built_then(built: Built, table: str) -> None:
    assert_frame_equal(built.at_once[table], built.later[table])
    if table in SNAPSHOTS:
        cutoff = built.shop.cutoff
        assert_frame_equal(at(built.at_once, table, cutoff), at(built.then, table, cutoff))


def test_orders_on_or_before_the_cutoff_change_no_label(built: Built) -> None:
    keys = ["customer_id", "horizon_days"]
    full, few = (
        at(tables, "as_of.customer_labels", built.shop.cutoff).set_index(keys)
        for tables in (built.at_once, built.few)
    )
    assert 1_000 < len(few) <= len(full)
    assert_frame_equal(full.loc[few.index], few)
    # The orders that are missing did matter: to what is known of the same people.
    values = [
        at(tables, "as_of.customer_history", built.shop.cutoff).set_index("customer_id")
        for tables in (built.at_once, built.few)
    ]
    common = values[1].index
    assert (values[0].loc[common, "sum_value"] != values[1]["sum_value"]).sum() > 100


@pytest.mark.parametrize("horizon", HORIZONS)
def test_labels_are_what_the_file_holds_after_the_cutoff(built: Built, horizon: int) -> None:
    shop, meaning = built.shop, built.shop.meaning
    rows = at(built.at_once, "as_of.customer_labels", shop.cutoff)
    labels = rows[rows["horizon_days"] == horizon].set_index("customer_id")["label_value"]
    last = pd.Timestamp(shop.cutoff) + pd.Timedelta(days=horizon)
    after = meaning[shop.is_seen(shop.end) & ~shop.is_early & (meaning["day"] <= last)]
    expected = after.groupby("user_id")["units"].sum().reindex(labels.index, fill_value=0)
    assert (expected != 0).sum() > 100
    np.testing.assert_allclose(labels, expected.astype(float) / 10_000, rtol=0, atol=1e-6)


def test_the_file_is_kept_or_quarantined_to_the_penny(built: Built) -> None:
    meaning, totals = built.shop.meaning, built.totals
    is_kept, is_guest = meaning["is_kept"], meaning["user_id"].isna()
    chosen: dict[str, pd.Series[bool]] = {
        "in": is_kept | ~is_kept,
        "kept": is_kept,
        "guest": is_kept & is_guest,
        "quarantined": ~is_kept,
    }
    for name, is_chosen in chosen.items():
        units = meaning.loc[is_chosen, "raw_units"].sum()
        assert getattr(totals, f"count_{name}") == is_chosen.sum(), name
        assert getattr(totals, f"sum_{name}") == money(units), name


@pytest.mark.parametrize("which", ["cutoff", "end"])
def test_history_ties_to_staging_and_to_the_file(built: Built, which: str) -> None:
    shop = built.shop
    day: date = getattr(shop, which)
    seen = shop.meaning[shop.is_seen(day)]
    with open_warehouse(built.settings, read_only=True) as connection:
        count, value = read_row(
            connection,
            "SELECT count(*), sum(value) FROM staging.stg_transactions WHERE NOT is_guest "
            "AND activity_date <= ? AND known_from_date <= ? "
            "AND (known_to_date IS NULL OR known_to_date > ?)",
            [day, day, day],
        )
    assert count == len(seen)
    assert value == money(seen["units"].sum())
    history = at(built.at_once, "as_of.customer_history", day)
    assert history["sum_value"].sum() == pytest.approx(float(value), abs=1e-4)
    refunds = seen.loc[seen["units"] < 0, "units"].sum()
    assert history["sum_refunds"].sum() == pytest.approx(float(money(-refunds)), abs=1e-4)
    spine = at(built.at_once, "as_of.customer_spine", day)
    assert set(spine["customer_id"]) == set(history["customer_id"]) == set(seen["user_id"])
