"""What is read, what is refused, and why: nothing unreadable becomes null, or another value."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.ingest.conftest import HEADER, NO_NUMBER, Shop, as_csv

NO_DATE = "ts is no date or time in ISO form"


def land_amounts(shop: Shop, amounts: list[str], **settings: Any) -> dict[str, Decimal | str]:
    """Land one row per amount; return what became of each: the amount, or the reason."""
    shop.write("a.csv", as_csv((f"o{n}", "u", "2024-01-01", a) for n, a in enumerate(amounts)))
    shop.inputs["transactions"].update(settings)
    shop.land()
    kept = dict(shop.query("SELECT _row_number, amount FROM raw.transactions"))
    refused = dict(shop.query("SELECT row_number, reason FROM ops.quarantine"))
    assert not kept.keys() & refused.keys()
    return {a: {**kept, **refused}[n] for n, a in enumerate(amounts, start=1)}


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        (
            {},
            {
                "12.5": "12.5",
                " +12.50 ": "12.5",
                "-0.01": "-0.01",
                ".5": ".5",
                "5.": "5",
                "1.5e3": "1500",
                "0": "0",
                "10000000": "10000000",
                "99999999999999.9999": "99999999999999.9999",
                "12,50": None,
                "1.234,56": None,
                "1,234.56": None,
                "€ 12": None,
                "12 EUR": None,
                "(12.50)": None,
                "nan": None,
                "NaN": None,
                "inf": None,
                "-Infinity": None,
                "1e308": None,
                "999999999999999": None,
                "1_000": None,
                "0x10": None,
                "--1": None,
                "1 000": None,
                "١٢": None,
                "e5": None,
                ".": None,
            },
        ),
        (
            {"decimal_separator": ",", "thousands_separator": "."},
            {
                "12,50": "12.5",
                "1.234,56": "1234.56",
                "-1.234.567,8": "-1234567.8",
                "1234,56": "1234.56",
                "12.50": None,
                "1.23,4": None,
                "1,234.56": None,
            },
        ),
        (
            {"thousands_separator": " ", "currency_symbols": ["€", "EUR", "kr."]},
            {
                "€ 12": "12",
                "-€12.50": "-12.5",
                "€-12.50": "-12.5",
                "1 234.5 €": "1234.5",
                "1\u00a0234.5\u00a0EUR": "1234.5",
                "5 kr.": "5",
                "$ 12": None,
                "1€2": None,
                "12 krx": None,
            },
        ),
        ({"thousands_separator": "'"}, {"1'234'567.5": "1234567.5", "1'23": None}),
    ],
)
def test_amounts_are_read_as_the_settings_say(
    shop: Shop, settings: dict[str, Any], read: dict[str, str | None]
) -> None:
    outcome = land_amounts(shop, list(read), **settings)
    assert {a: v for a, v in outcome.items() if isinstance(v, Decimal)} == {
        a: Decimal(v) for a, v in read.items() if v is not None
    }
    reasons = {v for v in outcome.values() if isinstance(v, str)}
    assert len(reasons) == 1
    assert reasons.pop().startswith(NO_NUMBER.format(settings.get("decimal_separator", ".")))


def test_missing_amount_is_named(shop: Shop) -> None:
    assert land_amounts(shop, ["", "1"])[""] == "amount is missing"


def test_sums_keep_what_is_quarantined_for_another_reason(shop: Shop) -> None:
    shop.write("a.csv", as_csv([("o1", "u", "never", "5.55"), ("o2", "u", "2024-01-01", "1.10")]))
    report = shop.land_transactions()
    assert (report.new.sum_in, report.new.sum_kept) == (Decimal("6.65"), Decimal("1.10"))
    assert report.new.sum_quarantined == Decimal("5.55")


@pytest.mark.parametrize(
    ("setting", "reasons"),
    [
        ({"negative_amounts": "quarantine"}, ["amount is negative on a row that is no refund"]),
        ({"zero_amounts": "quarantine"}, ["amount is zero"]),
        ({}, []),
    ],
)
def test_negative_and_zero_amounts_follow_the_rule(
    shop: Shop, setting: dict[str, str], reasons: list[str]
) -> None:
    rows = [("o1", "-5", ""), ("o2", "0", ""), ("o3", "-5", "yes")]
    shop.write(
        "a.csv",
        as_csv([(o, "u", "2024-01-01", a, r) for o, a, r in rows], (*HEADER, "is_refund")),
    )
    shop.inputs["transactions"].update(setting)
    shop.land()
    assert shop.reasons() == reasons
    assert ("o3", True) in shop.query("SELECT transaction_id, is_refund FROM raw.transactions")


INSTANTS = {
    "2024-01-15": datetime(2024, 1, 14, 23),
    "2024-07-15": datetime(2024, 7, 14, 22),
    "2024-01-15 10:30": datetime(2024, 1, 15, 9, 30),
    "2024-01-15T10:30:15.25": datetime(2024, 1, 15, 9, 30, 15, 250000),
    "2024-01-15T10:30:15,25": datetime(2024, 1, 15, 9, 30, 15, 250000),
    "2024-01-15T10:30:15Z": datetime(2024, 1, 15, 10, 30, 15),
    "2024-01-15 10:30:15 UTC": datetime(2024, 1, 15, 10, 30, 15),
    "2024-01-15 10:30:15+05:30": datetime(2024, 1, 15, 5, 0, 15),
    "2024-01-15T10:30:15-0800": datetime(2024, 1, 15, 18, 30, 15),
    "2024-01-15T10:30+02": datetime(2024, 1, 15, 8, 30),
    # The hour that does not exist, and the hour that exists twice.
    "2024-03-31 02:30": datetime(2024, 3, 31, 1, 30),
    "2024-10-27 02:30": datetime(2024, 10, 27, 1, 30),
    "2024-10-27 02:30+02:00": datetime(2024, 10, 27, 0, 30),
    "2024-1-5": NO_DATE,
    "2024-02-30": NO_DATE,
    "15/01/2024": NO_DATE,
    "20240115": NO_DATE,
    "2024-01-15 25:00": NO_DATE,
    "2024-01-15 24:00:00": NO_DATE,
    "infinity": NO_DATE,
    "now": NO_DATE,
    "epoch": NO_DATE,
    "1705312215": NO_DATE,
    "": "ts is missing",
    "1970-01-01": "ts lies before 1990-01-01",
    "1989-12-31 23:59": "ts lies before 1990-01-01",
    "1990-01-01": datetime(1989, 12, 31, 23),
    "2201-01-01": "ts lies in the future",
    "9999-12-31": "ts lies in the future",
}


def land_instants(shop: Shop, instants: list[str], received_at: datetime | None = None) -> Any:
    shop.write("a.csv", as_csv((f"o{n}", "u", t, "1") for n, t in enumerate(instants)))
    shop.land(received_at=received_at)
    kept = dict(shop.query("SELECT _row_number, ts FROM raw.transactions"))
    refused = dict(shop.query("SELECT row_number, reason FROM ops.quarantine"))
    return {t: {**kept, **refused}[n] for n, t in enumerate(instants, start=1)}


def test_instants_are_stored_in_utc(shop: Shop) -> None:
    assert land_instants(shop, list(INSTANTS)) == INSTANTS


def test_midnight_that_does_not_exist_stays_on_its_day(shop: Shop) -> None:
    shop.project["time_zone"] = "America/Sao_Paulo"
    assert land_instants(shop, ["2017-10-15"]) == {"2017-10-15": datetime(2017, 10, 15, 3)}


def test_every_hour_of_long_and_short_days_is_kept(shop: Shop) -> None:
    """Instants with offsets on days of 23 and 25 hours fall on the right business days."""
    instants = [
        f"{day}T{hour:02d}:00:00Z"
        for day in ("2024-03-30", "2024-03-31", "2024-10-26", "2024-10-27")
        for hour in range(24)
    ]
    land_instants(shop, instants)
    days = shop.query(
        "SELECT CAST(timezone('Europe/Berlin', timezone('UTC', ts)) AS DATE)::VARCHAR, count(*) "
        "FROM raw.transactions GROUP BY 1 ORDER BY 1"
    )
    assert dict(days)["2024-03-31"] == 23
    assert dict(days)["2024-10-27"] == 25
    assert sum(count for _, count in days) == 96


def test_future_is_what_lies_more_than_a_day_after_the_files_came(shop: Shop) -> None:
    received = datetime(2024, 6, 1, 12, tzinfo=UTC)
    outcome = land_instants(
        shop, ["2024-06-01", "2024-06-02 11:00Z", "2024-06-02T12:00:01Z", "2025-01-01"], received
    )
    assert list(outcome.values()) == [
        datetime(2024, 5, 31, 22),
        datetime(2024, 6, 2, 11),
        "ts lies in the future",
        "ts lies in the future",
    ]


def test_configured_date_format(shop: Shop) -> None:
    shop.inputs["transactions"]["date_format"] = "%d/%m/%Y %H:%M"
    assert land_instants(
        shop, ["03/02/2024 08:05", "3/2/2024 8:05", "2024-02-03", "02-03-2024", "31/02/2024 08:00"]
    ) == {
        "03/02/2024 08:05": datetime(2024, 2, 3, 7, 5),
        "3/2/2024 8:05": datetime(2024, 2, 3, 7, 5),
        "2024-02-03": datetime(2024, 2, 2, 23),
        "02-03-2024": f"{NO_DATE} or in the form %d/%m/%Y %H:%M",
        "31/02/2024 08:00": f"{NO_DATE} or in the form %d/%m/%Y %H:%M",
    }


def test_configured_date_format_with_offset(shop: Shop) -> None:
    shop.inputs["transactions"]["date_format"] = "%d.%m.%Y %H:%M %z"
    assert land_instants(shop, ["03.02.2024 08:05 +0300"]) == {
        "03.02.2024 08:05 +0300": datetime(2024, 2, 3, 5, 5)
    }


def test_year_first_format_is_not_mixed_with_iso(shop: Shop) -> None:
    shop.inputs["transactions"]["date_format"] = "%Y-%d-%m"
    outcome = land_instants(shop, ["2024-13-01", "2024-01-13"])
    assert outcome["2024-13-01"] == datetime(2024, 1, 12, 23)
    assert outcome["2024-01-13"] == f"{NO_DATE} or in the form %Y-%d-%m"


def test_flags_numbers_and_keys(shop: Shop) -> None:
    header = (*HEADER, "is_refund", "quantity", "currency", "sku", "ingested_at")
    rows = [
        ("o1", " u1 ", "2024-01-01", "1", "TRUE", "2.5", " eur ", " A;'\"1 ", "2024-01-02"),
        ("  ", "\u00a0", "2024-01-01", "1", "n", "", "", "", ""),
        ("o3", "u", "2024-01-01", "1", "maybe", "1", "", "", ""),
        ("o4", "u", "2024-01-01", "1", "", "many", "", "", ""),
        ("o5", "u", "2024-01-01", "1", "", "inf", "", "", ""),
        ("o6", "u", "2024-01-01", "1", "", "", "€uro", "", ""),
        ("o7", "u", "2024-01-01", "1", "", "", "", "", "soon"),
        ("o8", "u", "2024-01-01", "1", "", "", "", "", "1970-01-01"),
    ]
    shop.write("a.csv", as_csv(rows, header))
    shop.land()
    assert shop.query(
        "SELECT transaction_id, user_id, is_refund, quantity, currency, sku, ingested_at "
        "FROM raw.transactions ORDER BY _row_number"
    ) == [
        ("o1", "u1", True, 2.5, "EUR", "A;'\"1", datetime(2024, 1, 1, 23)),
        (None, None, False, 1.0, "EUR", None, None),
    ]
    assert shop.query(
        "SELECT row_number, column_name, reason FROM ops.quarantine ORDER BY row_number"
    ) == [
        (3, "is_refund", "is_refund is neither true nor false"),
        (4, "quantity", "quantity is no finite number with '.' before the decimals"),
        (5, "quantity", "quantity is no finite number with '.' before the decimals"),
        (6, "currency", "currency is no ISO 4217 code"),
        (7, "ingested_at", "ingested_at is no date or time in ISO form"),
        (8, "ingested_at", "ingested_at lies before 1990-01-01"),
    ]


def test_blank_keys_of_other_inputs_are_quarantined(shop: Shop) -> None:
    shop.write("a.csv", as_csv([("o1", "u", "2024-01-01", "1")]))
    shop.write(
        "events.txt",
        as_csv(
            [
                ("u", "2024-01-01", "page_view", '{"a": 1}'),
                (" ", "2024-01-01", "page_view", ""),
                ("u", "2024-01-01", "", ""),
                ("u", "2024-01-01", "x", "{a: 1"),
            ],
            ("user_id", "ts", "event_name", "metadata_json"),
        ),
    )
    shop.inputs["events"] = {"files": ["events.txt"]}
    report = shop.land().inputs["events"]
    assert report.reasons == {
        "event_name is missing": 1,
        "metadata_json is no JSON": 1,
        "user_id is missing": 1,
    }
    assert shop.query("SELECT metadata_json FROM raw.events") == [('{"a": 1}',)]


def test_typed_columns_of_parquet(shop: Shop) -> None:
    instants = [datetime(2024, 1, 1, 12), None, datetime(2024, 1, 3), datetime(1970, 1, 1)]
    table = pa.table(
        {
            "transaction_id": pa.array([1, 2, 3, 4]),
            "user_id": pa.array([13085.0, float("nan"), None, 1.5]),
            "ts": pa.array(instants, pa.timestamp("ns")),
            "amount": pa.array([12.35, 1.0, float("nan"), 1.0]),
            "ingested_at": pa.array(instants[:1] * 4, pa.timestamp("us", tz="UTC")),
            "is_refund": pa.array([True, None, None, None]),
            "quantity": pa.array([2, 1, 1, 1], pa.int8()),
        }
    )
    pq.write_table(table, shop.root / "a.parquet")
    shop.inputs["transactions"]["files"] = ["a.parquet"]
    shop.land()
    assert shop.query(
        "SELECT transaction_id, user_id, ts, amount, ingested_at, is_refund, quantity "
        "FROM raw.transactions"
    ) == [
        (
            "1",
            "13085",
            datetime(2024, 1, 1, 11),
            Decimal("12.35"),
            datetime(2024, 1, 1, 12),
            True,
            2.0,
        )
    ]
    assert shop.reasons() == [
        "ts is missing",
        NO_NUMBER.format("."),
        "ts lies before 1990-01-01",
    ]
