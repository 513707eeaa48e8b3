"""Historical retrieval against plain Python: what was known of each customer at each moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as settings_of_tests
from hypothesis import strategies as st

from clv_pipeline.features.registry import RegistryError, load_features, online_schema
from clv_pipeline.features.store import FeatureStore, RetrievalError
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.dbt.oracle import Oracle
from tests.features.building import MAX_AGE, ZONE, rebuild

FIRST_DAY = date(2024, 1, 1)
SNAPSHOTS = (date(2024, 2, 15), date(2024, 3, 10), date(2024, 4, 20))  # one is 23 hours long
LAST_DAY = date(2024, 5, 31)
COMPARED = ("frequency", "recency", "T", "count_orders", "sum_value", "sum_refunds")
WINDOWED = ("count_orders_30d", "sum_value_90d", "sum_refunds_365d", "order_trend_90d")

# An order: day, second of the day, cents, days until it was known, delivered twice, and a refund's
# delay and share.
orders = st.tuples(
    st.integers(0, 140),
    st.integers(0, 86_399),
    st.integers(1, 50_000),
    st.sampled_from([None, 0, 1, 3, 30, 80]),
    st.booleans(),
    st.none() | st.tuples(st.integers(0, 60), st.sampled_from([0.5, 1.0])),
)
histories = st.lists(st.lists(orders, max_size=5), min_size=25, max_size=40)
# A question: customer, day, second of the day (None: asked as of the date).
questions = st.lists(
    st.tuples(st.integers(0, 42), st.integers(-20, 160), st.none() | st.integers(0, 86_399)),
    min_size=60,
    max_size=120,
)


def make_rows(customers: list[list[Any]]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for number, history in enumerate(customers):
        for k, (day, second, cents, late, is_repeated, refund) in enumerate(history):
            ts = pd.Timestamp(FIRST_DAY) + pd.Timedelta(days=day, seconds=second)
            known = None if late is None else ts + pd.Timedelta(days=late, hours=1)
            line = {
                "transaction_id": f"{number}/{k}",
                "user_id": f"c{number}",
                "ts": ts,
                "amount": cents / 100,
                "is_refund": False,
                "ingested_at": known,
                "_file_id": 1,
            }
            rows.append(line)
            if is_repeated and known is not None:
                rows.append({**line, "ingested_at": known + pd.Timedelta(days=9), "_file_id": 2})
            if refund is not None:
                back = ts + pd.Timedelta(days=refund[0])
                rows.append(
                    {
                        **line,
                        "ts": back,
                        "amount": round(refund[1] * cents / 100, 2),
                        "is_refund": True,
                        "ingested_at": None if known is None else max(known, back),
                    }
                )
    columns = ["transaction_id", "user_id", "ts", "amount", "is_refund", "ingested_at", "_file_id"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["ingested_at"] = pd.to_datetime(frame["ingested_at"])
    return frame.assign(
        currency=None, sku=None, country="unknown", channel="unknown",
        _row_number=range(1, len(frame) + 1),
    )  # fmt: skip


def fill(settings: Settings, rows: pd.DataFrame) -> None:
    rebuild(settings, {"transactions": rows}, SNAPSHOTS, LAST_DAY)


def some_histories() -> list[list[Any]]:
    return [
        [(10, 50_000, 1000, None, False, None), (60, 3600, 2000, 30, True, (5, 0.5))],
        [(44, 80_000, 500, 1, False, (0, 1.0))],
        [(140, 0, 700, None, False, None)],
    ]


@pytest.fixture(scope="module")
def store(home: Settings) -> FeatureStore:
    fill(home, make_rows(some_histories()))
    return FeatureStore(home)


def asked(*rows: tuple[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["customer_id", "timestamp"])


def days_of(found: pd.DataFrame) -> list[date | None]:
    return [None if pd.isna(day) else day.date() for day in found["snapshot_date"]]


def test_a_date_means_the_end_of_the_day_and_an_instant_what_was_over_by_then(
    store: FeatureStore,
) -> None:
    midnight = pd.Timestamp("2024-03-11 00:00:00", tz=ZONE)  # with which March 10th ends
    before = midnight - pd.Timedelta(seconds=1)
    at_dates = store.get_historical_features(asked(("c0", SNAPSHOTS[1]), ("c0", SNAPSHOTS[0])))
    assert days_of(at_dates) == [SNAPSHOTS[1], SNAPSHOTS[0]]
    instants = store.get_historical_features(asked(("c0", midnight), ("c0", before)))
    assert days_of(instants) == [SNAPSHOTS[1], SNAPSHOTS[0]]
    naive = [moment.tz_convert("UTC").tz_localize(None) for moment in (midnight, before)]
    in_utc = store.get_historical_features(asked(*(("c0", moment) for moment in naive)))
    assert days_of(in_utc) == [SNAPSHOTS[1], SNAPSHOTS[0]]
    # The order known 30 days late is not in the first two snapshots, and is in the third.
    spine = asked(*(("c0", day) for day in SNAPSHOTS))
    assert store.get_historical_features(spine)["count_orders"].tolist() == [1, 1, 2]


def test_rows_stay_as_they_were_asked(store: FeatureStore) -> None:
    spine = asked(("c1", SNAPSHOTS[0]), ("nobody", SNAPSHOTS[0]), ("c1", SNAPSHOTS[0]))
    spine["label"] = [3.0, 1.0, 2.0]
    found = store.get_historical_features(spine, "value_v1")
    assert found["customer_id"].tolist() == ["c1", "nobody", "c1"]
    assert found["label"].tolist() == [3.0, 1.0, 2.0]
    assert found["count_orders"].tolist()[::2] == [1, 1]
    assert found.loc[1, list(store.list_services()["value_v1"].feature_names)].isna().all()
    assert days_of(found) == [SNAPSHOTS[0]] * 3


def test_nothing_is_known_before_the_first_snapshot_or_from_one_that_is_too_old(
    store: FeatureStore,
) -> None:
    spine = asked(
        ("c0", SNAPSHOTS[0] - timedelta(days=1)),
        ("c0", SNAPSHOTS[2] + timedelta(days=MAX_AGE)),
        ("c0", SNAPSHOTS[2] + timedelta(days=MAX_AGE + 1)),
        ("c0", None),
    )
    assert days_of(store.get_historical_features(spine)) == [None, SNAPSHOTS[2], None, None]
    older = store.get_historical_features(spine, max_age=timedelta(days=MAX_AGE + 1))
    assert days_of(older) == [None, SNAPSHOTS[2], SNAPSHOTS[2], None]
    assert older["count_orders"].isna().tolist() == [True, False, False, True]
    none = store.get_historical_features(spine, max_age=0)
    assert days_of(none) == [None] * 4


def test_every_kind_of_spine_gives_the_same(store: FeatureStore) -> None:
    frame = asked(("c0", SNAPSHOTS[1]), ("c1", SNAPSHOTS[2]))
    expected = store.get_historical_features(frame, "contact_v1")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    sql = (
        "SELECT customer_id, timestamp FROM (VALUES ('c0', DATE '2024-03-10'), "
        "('c1', DATE '2024-04-20')) AS spine (customer_id, timestamp);"
    )
    for spine in (table, duckdb.sql(sql.rstrip(";")), sql):
        found = store.get_historical_features(spine, "contact_v1")
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert store.get_historical_table(frame, "contact_v1").column_names == list(expected.columns)
    # A spine may be read from the warehouse itself, thousands of rows at once.
    whole = "SELECT customer_id, cutoff_date AS timestamp FROM as_of.customer_spine"
    assert store.get_historical_features(whole, "contact_v1")["snapshot_date"].notna().all()


@pytest.mark.parametrize(
    ("spine", "why"),
    [
        (pd.DataFrame({"customer": ["a"]}), "has no column 'customer_id'; it has customer"),
        (pd.DataFrame({"customer_id": ["a"], "timestamp": [1.5]}), "of type DOUBLE; a date or"),
        (asked(("a", LAST_DAY)).assign(recency=1), "column 'recency', which is what a feature"),
        ([("a", LAST_DAY)], "this is a list"),
    ],
)
def test_a_spine_that_can_not_be_answered_is_refused(
    store: FeatureStore, spine: Any, why: str
) -> None:
    with pytest.raises(RetrievalError, match=why):
        store.get_historical_features(spine)


def test_what_else_can_not_be_asked(store: FeatureStore, make_settings: Any) -> None:
    spine = asked(("c0", LAST_DAY))
    with pytest.raises(RegistryError, match="no feature service 'value_v9'; there are value_v1"):
        store.get_historical_features(spine, "value_v9")
    with pytest.raises(RetrievalError, match="below 0"):
        store.get_historical_features(spine, max_age=-1)
    with pytest.raises(RetrievalError, match="whole number of days"):
        store.get_historical_features(spine, max_age=timedelta(hours=30))
    empty = make_settings()
    with open_warehouse(empty):
        pass
    with pytest.raises(RetrievalError, match="no features yet"):
        FeatureStore(empty).get_historical_features(spine)


def test_the_online_schema_is_that_of_the_table(store: FeatureStore) -> None:
    with open_warehouse(store.settings, read_only=True) as connection:
        rows = read_frame(connection, "DESCRIBE features.customer_features")
    table = {
        name: kind.lower()
        for name, kind in zip(*(rows[c] for c in ("column_name", "column_type")), strict=True)
    }
    assert online_schema(load_features()) == table


def answer(oracle: Oracle, customer: str, day: date | None) -> Mapping[str, Any] | None:
    """Return what was known of a customer at the end of a day, in plain Python."""
    if day is None:
        return None
    history = oracle.history(day)
    if history.empty or customer not in set(history["customer_id"]):
        return None
    rows = history.merge(oracle.windows(day), on="customer_id").set_index("customer_id")
    found: Mapping[str, Any] = rows.loc[customer].to_dict()
    return found


def usable(moment: Any, snapshots: tuple[date, ...] | None = SNAPSHOTS) -> date | None:
    """Return the snapshot that answers at a moment; the day itself where each day has one."""
    if isinstance(moment, datetime):
        day = moment.astimezone(ZoneInfo(ZONE)).date() - timedelta(days=1)
    else:
        day = moment
    if snapshots is None:
        return day
    found = max((snapshot for snapshot in snapshots if snapshot <= day), default=None)
    return found if found is not None and (day - found).days <= MAX_AGE else None


def assert_answers(found: pd.DataFrame, oracle: Oracle, days: list[date | None]) -> None:
    for row, day in zip(found.to_dict("records"), days, strict=True):
        expected = answer(oracle, str(row["customer_id"]), day)
        for name in (*COMPARED, *WINDOWED):
            value = None if expected is None else expected[name]
            if value is None or pd.isna(value):
                assert pd.isna(row[name]), (row["customer_id"], day, name)
            else:
                assert row[name] == pytest.approx(value, abs=1e-6), (row["customer_id"], day, name)


def test_an_exact_answer_is_as_of_the_day_itself(store: FeatureStore) -> None:
    transactions = make_rows(some_histories())
    oracle = Oracle({"transactions": transactions}, ZONE, "EUR")
    days = [date(2024, 3, 1), date(2024, 3, 2), date(2024, 4, 2)]
    found = store.get_historical_features(
        asked(*(("c0", day) for day in days), ("c0", date(2030, 1, 1))), exact=True
    )
    assert days_of(found) == [*days, None]  # nothing is made up about days without data
    assert_answers(found.iloc[:3], oracle, list(days))
    assert set(days) <= set(store.snapshot_dates())


@seed(20240229)
@settings_of_tests(
    max_examples=2,
    deadline=None,
    # Each example is a database; shrinking one takes longer than reading it.
    phases=[Phase.generate],
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large,
                           HealthCheck.large_base_example],
)  # fmt: skip
@given(customers=histories, rows=questions)
def test_what_is_retrieved_is_what_was_known(
    home: Settings, customers: list[list[Any]], rows: list[tuple[int, int, int | None]]
) -> None:
    """Many random customers in one database: late, repeated and refunded orders among them."""
    transactions = make_rows(customers)
    fill(home, transactions)
    oracle = Oracle({"transactions": transactions}, ZONE, "EUR")
    store = FeatureStore(home)
    by_date = [
        (f"c{customer}", FIRST_DAY + timedelta(days=day)) for customer, day, second in rows
        if second is None
    ]  # fmt: skip
    by_instant = [
        (
            f"c{customer}",
            datetime.combine(FIRST_DAY, datetime.min.time(), ZoneInfo("UTC"))
            + timedelta(days=day, seconds=second),
        )
        for customer, day, second in rows
        if second is not None
    ]
    for part in (by_date, by_instant):
        if part:
            found = store.get_historical_features(asked(*part))
            days = [usable(moment) for _, moment in part]
            assert days_of(found) == days
            assert_answers(found, oracle, days)
