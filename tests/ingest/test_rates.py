"""Amounts in other currencies: a rate of the day, or the quarantine. Never 1:1."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from currency_converter import CurrencyConverter

from clv_pipeline.ingest.rates import central_bank_rate
from tests.ingest.conftest import HEADER, Shop, as_csv

HEAD = (*HEADER, "currency")
RATES = ("day", "currency", "rate")


def write_orders(shop: Shop, *orders: tuple[str, str, str]) -> None:
    rows = [(order, "u", day, "10", currency) for order, day, currency in orders]
    shop.write("a.csv", as_csv(rows, HEAD))


def test_blank_is_the_reporting_currency(shop: Shop) -> None:
    write_orders(shop, ("o1", "2024-01-05", ""), ("o2", "2024-01-05", "eur"))
    shop.land()
    assert shop.query("SELECT DISTINCT currency FROM raw.transactions") == [("EUR",)]
    assert shop.query("SELECT count(*) FROM raw.exchange_rates") == [(0,)]


def test_rates_of_the_central_bank_are_landed_as_they_are_needed(shop: Shop) -> None:
    # The 6th and the 7th of January 2024 are a weekend.
    write_orders(
        shop, ("o1", "2024-01-05", "USD"), ("o2", "2024-01-07", "USD"), ("o3", "2024-01-07", "GBP")
    )
    report = shop.land_transactions()
    assert report.new.count_kept == 3
    bank = CurrencyConverter()
    friday = date(2024, 1, 5)
    assert shop.query(
        "SELECT day, currency, rate, known_at, _file_id, _row_number "
        "FROM raw.exchange_rates ORDER BY _row_number"
    ) == [
        (friday, "USD", pytest.approx(bank.convert(1, "USD", "EUR", friday)), None, 0, 1),
        (date(2024, 1, 7), "GBP", bank.convert(1, "GBP", "EUR", friday), None, 0, 2),
        (date(2024, 1, 7), "USD", bank.convert(1, "USD", "EUR", friday), None, 0, 3),
    ]
    write_orders(shop, ("o1", "2024-01-05", "USD"), ("o4", "2024-01-07", "GBP"))
    shop.land()
    assert shop.query("SELECT count(*) FROM raw.exchange_rates") == [(3,)]


def test_rates_between_two_others_are_crossed_over_the_euro() -> None:
    day = date(2024, 1, 5)
    crossed = central_bank_rate("USD", "GBP", day)
    in_euro, pound = central_bank_rate("USD", "EUR", day), central_bank_rate("EUR", "GBP", day)
    assert in_euro is not None
    assert pound is not None
    assert crossed == pytest.approx(in_euro * pound)
    # Published for that day: 1 EUR = 1.0921 USD.
    assert in_euro == pytest.approx(1 / 1.0921)


def test_no_rate_before_the_euro_nor_for_unknown_currencies() -> None:
    assert central_bank_rate("USD", "EUR", date(1998, 12, 31)) is None
    assert central_bank_rate("XXX", "EUR", date(2024, 1, 5)) is None
    assert central_bank_rate("USD", "XAU", date(2024, 1, 5)) is None
    # Lithuania's currency ended with 2014.
    assert central_bank_rate("LTL", "EUR", date(2024, 1, 5)) is None


def test_currency_without_a_rate_is_quarantined(shop: Shop) -> None:
    write_orders(
        shop,
        ("o1", "2024-01-05", "XXX"),
        ("o2", "1995-01-05", "USD"),
        ("o3", "2024-01-05", "dollar"),
        ("o4", "2024-01-05", "USD"),
    )
    report = shop.land_transactions()
    assert shop.query("SELECT row_number, column_name, reason FROM ops.quarantine ORDER BY 1") == [
        (1, "currency", "no exchange rate for XXX on 2024-01-05"),
        (2, "currency", "no exchange rate for USD on 1995-01-05"),
        (3, "currency", "currency is no ISO 4217 code"),
    ]
    assert "2 rows have no exchange rate to EUR" in report.warnings[-1]
    record = shop.query(
        "SELECT record_json::JSON->>'transaction_id' FROM ops.quarantine WHERE row_number = 1"
    )
    assert record == [("o1",)]


def test_the_day_of_a_rate_is_the_business_day(shop: Shop) -> None:
    shop.write("rates.txt", as_csv([("2024-01-06", "USD", "0.5")], RATES))
    shop.inputs["exchange_rates"] = {"files": ["rates.txt"]}
    write_orders(shop, ("o1", "2024-01-05T23:30Z", "USD"), ("o2", "2024-01-05T22:30Z", "USD"))
    shop.land()
    assert shop.reasons() == ["no exchange rate for USD on 2024-01-05"]
    assert shop.query("SELECT transaction_id, amount, currency FROM raw.transactions") == [
        ("o1", 10, "USD")
    ]


def test_the_users_table_stands_alone(shop: Shop) -> None:
    """With a table of the user's own, the central bank's rates fill no gap of it."""
    shop.write(
        "rates.txt",
        as_csv(
            [
                ("2024-01-05", "usd", "0.9", ""),
                ("2024-01-05", "USD", "0.91", "2024-01-08 09:00"),
                ("2024-01-05", "GBP", "0", ""),
                ("2024-01-05", "GBP", "-1", ""),
                ("2024-01-05", "£", "1.2", ""),
                ("2024-01-05", "GBP", "nan", ""),
            ],
            (*RATES, "known_at"),
        ),
    )
    shop.inputs["exchange_rates"] = {"files": ["rates.txt"]}
    write_orders(shop, ("o1", "2024-01-05", "USD"), ("o2", "2024-01-05", "GBP"))
    report = shop.land()
    assert next(iter(report.inputs)) == "exchange_rates"
    assert shop.query("SELECT day, currency, rate, known_at, _file_id FROM raw.exchange_rates") == [
        (date(2024, 1, 5), "USD", 0.9, None, 1),
        (date(2024, 1, 5), "USD", 0.91, datetime(2024, 1, 8, 8), 1),
    ]
    reasons = {reason for reason in shop.reasons() if reason.startswith("no")}
    assert reasons == {"no exchange rate for GBP on 2024-01-05"}
    assert "exchange_rates input lacks them" in report.inputs["transactions"].warnings[-1]


def test_rows_that_waited_for_a_rate_land_when_it_comes(shop: Shop) -> None:
    shop.write("rates-1.txt", as_csv([("2024-01-05", "USD", "0.9")], RATES))
    shop.inputs["exchange_rates"] = {"files": ["rates-*.txt"]}
    write_orders(shop, ("o1", "2024-01-05", "USD"), ("o2", "2024-01-06", "USD"))
    assert shop.land_transactions().new.count_quarantined == 1
    assert shop.land_transactions().files_new == 0
    shop.write("rates-2.txt", as_csv([("2024-01-06", "USD", "0.8")], RATES))
    report = shop.land_transactions()
    assert (report.files_new, report.new.count_kept, report.new.count_quarantined) == (1, 2, 0)
    assert shop.reasons() == []
    assert shop.query("SELECT max(_file_id) FROM raw.transactions") == [(2,)]


def test_a_table_of_the_users_own_replaces_the_central_banks_rates(shop: Shop) -> None:
    write_orders(shop, ("o1", "2024-01-05", "USD"))
    shop.land()
    assert shop.query("SELECT _file_id FROM raw.exchange_rates") == [(0,)]
    shop.write("rates.txt", as_csv([("2024-01-05", "USD", "0.5")], RATES))
    shop.inputs["exchange_rates"] = {"files": ["rates.txt"]}
    shop.land()
    assert shop.query("SELECT rate FROM raw.exchange_rates") == [(0.5,)]
