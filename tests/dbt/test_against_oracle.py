"""The SQL against an independent computation, on random histories with everything that goes wrong.

One shop is delivered in two parts. After the first, some cutoffs are built; after the second, the
same cutoffs and later ones. A second home gets everything at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.dbt.oracle import Oracle
from tests.dbt.random_shop import LAST_DAY, SPLIT, TIME_ZONE, part_one, part_two, random_shop
from tests.support import fill_raw

EARLY = (date(2023, 3, 12), date(2023, 6, 30), SPLIT)
LATE = (date(2023, 11, 5), LAST_DAY)
HORIZONS = (30, 90)
TABLES = (
    "intermediate.int_customer_days",
    "intermediate.int_customer_day_items",
    "intermediate.int_customer_day_places",
    "intermediate.int_event_days",
    "staging.stg_transactions",
    "as_of.customer_spine",
    "as_of.customer_history",
    "as_of.customer_labels",
    "features.customer_features",
)
SEEDS = (1, pytest.param(2, marks=pytest.mark.slow))


@dataclass(frozen=True)
class Built:
    """A shop, what was built after its first part, after its second, and at once."""

    oracle: Oracle
    first: dict[str, pd.DataFrame]
    second: dict[str, pd.DataFrame]
    fresh: dict[str, pd.DataFrame]


def settings_of(root: Path) -> Settings:
    return build_settings(
        root,
        {
            "project": {"time_zone": TIME_ZONE, "reporting_currency": "EUR"},
            "value": {"horizons": list(HORIZONS)},
        },
    )


def read_all(settings: Settings) -> dict[str, pd.DataFrame]:
    with open_warehouse(settings, read_only=True) as connection:
        return {
            table: read_frame(connection, f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES
        }


def build(settings: Settings, cutoffs: tuple[date, ...], data_through: date) -> None:
    build_stages(settings, [Cutoff(day) for day in cutoffs], Cutoff(data_through), "run")


@pytest.fixture(scope="module", params=SEEDS)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Built]:
    shop = random_shop(request.param, customers=120)
    root = tmp_path_factory.mktemp(f"shop{request.param}")
    grown, fresh = settings_of(root / "grown"), settings_of(root / "fresh")
    fill_raw(grown, part_one(shop))
    build(grown, EARLY, SPLIT)
    first = read_all(grown)
    fill_raw(grown, part_two(shop), append=True)
    build(grown, EARLY + LATE, LAST_DAY)
    fill_raw(fresh, shop)
    build(fresh, EARLY + LATE, LAST_DAY)
    yield Built(Oracle(shop, TIME_ZONE, "EUR"), first, read_all(grown), read_all(fresh))


def at(frame: pd.DataFrame, cutoff: date) -> pd.DataFrame:
    rows = frame[pd.to_datetime(frame["cutoff_date"]).dt.date == cutoff]
    return rows.sort_values("customer_id").reset_index(drop=True)


def assert_same(got: pd.DataFrame, expected: pd.DataFrame, columns: list[str]) -> None:
    expected = expected.sort_values("customer_id").reset_index(drop=True)
    assert list(got["customer_id"]) == list(expected["customer_id"])
    for column in columns:
        left, right = got[column], expected[column]
        if column.endswith("_date"):
            left, right = (pd.to_datetime(side).astype("datetime64[us]") for side in (left, right))
        else:
            left, right = left.astype(float), right.astype(float)
        pd.testing.assert_series_equal(
            left, right, check_dtype=False, rtol=1e-9, atol=1e-6, obj=column
        )


@pytest.mark.parametrize("cutoff", EARLY + LATE, ids=str)
def test_the_spine_holds_whom_the_shop_knew(built: Built, cutoff: date) -> None:
    rows = at(built.second["as_of.customer_spine"], cutoff)
    expected = pd.DataFrame(
        [(c, first, signup) for c, (first, signup) in built.oracle.spine(cutoff).items()],
        columns=["customer_id", "first_known_date", "signup_date"],
    )
    assert_same(rows, expected, ["first_known_date", "signup_date"])


@pytest.mark.parametrize("cutoff", EARLY + LATE, ids=str)
def test_histories_are_what_was_known(built: Built, cutoff: date) -> None:
    rows = at(built.second["as_of.customer_history"], cutoff)
    expected = built.oracle.history(cutoff)
    assert_same(rows, expected, [c for c in expected.columns if c != "customer_id"])
    assert expected["sum_refunds"].sum() > 0


@pytest.mark.parametrize("cutoff", EARLY + LATE, ids=str)
def test_windows_are_what_was_known(built: Built, cutoff: date) -> None:
    rows = at(built.second["features.customer_features"], cutoff)
    expected = built.oracle.windows(cutoff)
    assert_same(rows, expected, [c for c in expected.columns if c != "customer_id"])


@pytest.mark.parametrize("cutoff", EARLY + LATE, ids=str)
@pytest.mark.parametrize("width", [7, 30, 90])
def test_visits_are_what_was_known(built: Built, cutoff: date, width: int) -> None:
    rows = at(built.second["features.customer_features"], cutoff)
    expected = built.oracle.visits(cutoff, width)
    assert_same(rows, expected, [c for c in expected.columns if c != "customer_id"])


@pytest.mark.parametrize("cutoff", EARLY + LATE, ids=str)
@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("built_with, data_through", [("first", SPLIT), ("second", LAST_DAY)])
def test_labels_are_what_came_after(
    built: Built, cutoff: date, horizon: int, built_with: str, data_through: date
) -> None:
    table: pd.DataFrame = getattr(built, built_with)["as_of.customer_labels"]
    rows = at(table[table["horizon_days"] == horizon], cutoff)
    expected = built.oracle.labels(cutoff, horizon, data_through)
    if expected.empty or (built_with == "first" and cutoff in LATE):
        assert rows.empty
    else:
        assert_same(rows, expected, ["label_value", "label_orders"])
        assert list(rows["has_purchase"]) == list(rows["label_orders"] > 0)


@pytest.mark.parametrize("table", TABLES)
def test_growing_by_files_gives_what_building_at_once_gives(built: Built, table: str) -> None:
    assert_frame_equal(built.second[table], built.fresh[table])


@pytest.mark.parametrize(
    "table", ["as_of.customer_spine", "as_of.customer_history", "features.customer_features"]
)
@pytest.mark.parametrize("cutoff", EARLY, ids=str)
def test_what_became_known_later_changes_no_snapshot(
    built: Built, table: str, cutoff: date
) -> None:
    first, second = at(built.first[table], cutoff), at(built.second[table], cutoff)
    assert len(first) > 0
    assert_frame_equal(first, second)


def test_value_is_conserved(built: Built) -> None:
    lines = built.second["staging.stg_transactions"]
    seen = lines[lines["is_current"] & ~lines["is_guest"]]
    history = at(built.second["as_of.customer_history"], LAST_DAY)
    known = (pd.to_datetime(seen["activity_date"]).dt.date <= LAST_DAY) & (
        pd.to_datetime(seen["known_from_date"]).dt.date <= LAST_DAY
    )
    # Versions that were replaced after the last cutoff, and those that replace them, are few.
    replaced = lines[
        ~lines["is_guest"]
        & (pd.to_datetime(lines["known_to_date"]) > pd.Timestamp(LAST_DAY))
        & (pd.to_datetime(lines["known_from_date"]) <= pd.Timestamp(LAST_DAY))
    ]
    expected = float(seen.loc[known, "value"].sum() + replaced["value"].sum())
    assert history["sum_value"].sum() == pytest.approx(expected, abs=1e-4)
