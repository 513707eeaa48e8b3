"""The proposed clv.toml says the right thing, loads, and lands."""

from __future__ import annotations

import gzip
import random
from datetime import date, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pytest

from clv_pipeline.ingest.inspect import look_at_files, propose_config
from clv_pipeline.ingest.joining import propose_join
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.ingest.report import LandingError, LandingReport
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.warehouse import open_warehouse, read_row
from tests.ingest.conftest import as_csv


def propose(folder: Path, *names: Path | str) -> tuple[Settings, str]:
    text = propose_config([folder / name for name in names], folder)
    (folder / "clv.toml").write_text(text, encoding="utf-8")
    return load_settings(folder, environ={}), text


def land(settings: Settings, *inputs: str) -> LandingReport:
    return land_inputs(settings, "run-1", inputs or None)


def orders(count: int, **columns: Any) -> str:
    draw = random.Random(1)
    names = list(columns)
    rows = [[columns[name](n, draw) for name in names] for n in range(count)]
    return as_csv(rows, names, delimiter=";")


def day(n: int, _: random.Random) -> date:
    return date(2022, 1, 1) + timedelta(days=n % 400)


def test_a_german_export(tmp_path: Path) -> None:
    text = orders(
        900,
        Bestellnummer=lambda n, _: n // 2,
        Kundennummer=lambda n, draw: draw.randrange(200),
        Bestelldatum=lambda n, draw: day(n, draw).strftime("%d.%m.%Y %H:%M"),
        Betrag=lambda n, draw: f"{draw.randrange(1, 3)}.{draw.randrange(100, 999)},5{n % 10} €",
        Land=lambda n, _: "Österreich" if n % 3 else "Schweiz",
    )
    (tmp_path / "export.csv").write_bytes(text.encode("cp1252"))
    settings, proposed = propose(tmp_path, "export.csv")
    chosen = settings.inputs["transactions"]
    assert chosen.files == ("export.csv",)
    assert chosen.columns == {
        "transaction_id": "Bestellnummer",
        "user_id": "Kundennummer",
        "ts": "Bestelldatum",
        "amount": "Betrag",
        "country": "Land",
    }
    assert (chosen.decimal_separator, chosen.thousands_separator) == (",", ".")
    assert (chosen.currency_symbols, chosen.encoding) == (("€",), "cp1252")
    assert (chosen.date_format, chosen.grain) == ("%d.%m.%Y %H:%M", "line")
    assert settings.project.reporting_currency == "EUR"
    assert settings.value.horizons == (30, 90, 180)
    assert "# 365 days ahead: too little to train on, which takes 455 days." in proposed
    report = land(settings).inputs["transactions"]
    assert (report.new.count_in, report.new.count_kept) == (900, 900)
    assert report.new.sum_kept > 900_000


def test_day_and_month_that_could_be_swapped_are_to_be_confirmed(tmp_path: Path) -> None:
    rows = [(n, "u", f"0{1 + n % 9}/0{1 + n % 7}/2022", "1.5") for n in range(50)]
    (tmp_path / "a.csv").write_text(as_csv(rows, ("order_id", "user_id", "date", "amount")))
    _, text = propose(tmp_path, "a.csv")
    assert 'date_format = "%d/%m/%Y"' in text
    assert "day and month could be the other way round" in text
    rows = [(n, "u", f"01/{10 + n % 20}/2022", "1.5") for n in range(50)]
    (tmp_path / "a.csv").write_text(as_csv(rows, ("order_id", "user_id", "date", "amount")))
    settings, text = propose(tmp_path, "a.csv")
    assert settings.inputs["transactions"].date_format == "%m/%d/%Y"
    assert "other way round" not in text


def test_several_files_become_a_glob_and_each_input_is_found(tmp_path: Path) -> None:
    header = ("order_id", "customer_id", "ordered_at", "total", "currency")
    for month in (1, 2, 3):
        rows = [
            (f"{month}-{n}", f"c{n % 5}", f"2024-0{month}-11T10:00:00Z", "10.50", "CHF")
            for n in range(20)
        ]
        (tmp_path / f"orders-2024-0{month}.csv").write_text(as_csv(rows, header))
    people = [(f"c{n}", "2023-05-01", "web", "x") for n in range(5)]
    (tmp_path / "people.csv").write_text(
        as_csv(people, ("customer_id", "registered_at", "utm_source", "shoe_size"))
    )
    rates = [("2024-01-01", "USD", "0.9"), ("2024-01-02", "USD", "0.8")]
    (tmp_path / "fx.csv").write_text(as_csv(rates, ("date", "currency", "exchange_rate")))
    merges = [("c1", "c2", "2024-01-01")]
    (tmp_path / "m.csv").write_text(as_csv(merges, ("old_user_id", "new_user_id", "ts")))
    (tmp_path / "other.csv").write_text(as_csv([("a", "b")], ("foo", "bar")))
    names = [*sorted(file.name for file in tmp_path.glob("*.csv"))]
    settings, text = propose(tmp_path, *names)
    assert settings.inputs["transactions"].files == ("orders-*-*.csv",)
    assert settings.inputs["transactions"].grain == "order"
    assert settings.project.reporting_currency == "CHF"
    assert set(settings.inputs) == {"transactions", "users", "exchange_rates", "account_merges"}
    assert "# - other.csv: no user_id, no ts, no amount was found in it" in text
    assert "# kept as attributes: shoe_size" in text
    report = land(settings)
    assert report.inputs["transactions"].new.count_kept == 60
    assert report.inputs["users"].new.count_kept == 5
    assert report.inputs["exchange_rates"].new.count_kept == 2


def test_a_table_of_a_duckdb_file(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE sales AS SELECT i AS invoice_no, i % 7 AS customer_id, "
            "TIMESTAMP '2023-01-01' + INTERVAL (i) DAY AS sold_at, i * 1.5 AS revenue "
            "FROM range(300) t(i)"
        )
    settings, _ = propose(tmp_path, "shop.duckdb")
    chosen = settings.inputs["transactions"]
    assert (str(chosen.duckdb), chosen.table) == ("shop.duckdb", "main.sales")
    assert chosen.columns["ts"] == "sold_at"
    assert land(settings).inputs["transactions"].new.count_kept == 300


def test_names_with_quotes_survive(tmp_path: Path) -> None:
    rows = [(f"o{n}", "u", "2024-01-01", "1.5") for n in range(9)]
    name = "o\"r'd\\er.csv"
    (tmp_path / name).write_text(as_csv(rows, ("order id", 'customer "id"', "date", "to\\tal")))
    settings, _ = propose(tmp_path, name)
    assert settings.inputs["transactions"].columns["user_id"] == 'customer "id"'
    assert land(settings).inputs["transactions"].new.count_kept == 9


def test_a_short_history_gets_a_short_horizon(tmp_path: Path) -> None:
    rows = [(n, f"u{n % 9}", date(2024, 1, 1) + timedelta(days=n), "1.5") for n in range(60)]
    (tmp_path / "a.csv").write_text(as_csv(rows, ("order_id", "user_id", "date", "amount")))
    settings, text = propose(tmp_path, "a.csv")
    assert settings.value.horizons == (15,)
    assert settings.cadence.min_history_days == 15
    assert "The history is too short" in text


def test_no_personal_data_in_the_configuration(tmp_path: Path) -> None:
    rows = [(f"order-{n}", f"anna{n % 3}@example.org", "2024-01-01", "1.5") for n in range(9)]
    (tmp_path / "a.csv").write_text(as_csv(rows, ("order_id", "email", "date", "amount")))
    settings, text = propose(tmp_path, "a.csv")
    assert settings.inputs["transactions"].columns["user_id"] == "email"
    assert "example.org" not in text
    assert "order-" not in text


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LandingError, match=r"no file .*a\.csv"):
        propose(tmp_path, "a.csv")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(LandingError, match=r"a\.csv is empty"):
        propose(tmp_path, "a.csv")


def test_cdnow(tmp_path: Path) -> None:
    bundled = files("clv_pipeline.datasets").joinpath("cdnow.csv.gz").read_bytes()
    (tmp_path / "cdnow.csv.gz").write_bytes(bundled)
    settings, text = propose(tmp_path, "cdnow.csv.gz")
    assert settings.inputs["transactions"].columns == {
        "user_id": "customer_id",
        "ts": "date",
        "amount": "amount",
        "quantity": "quantity",
    }
    assert settings.value.horizons == (30, 90, 180, 365)
    assert "# The orders cover 546 days, from 1997-01-01 to 1998-06-30." in text
    assert land(settings).inputs["transactions"].new.count_kept == 69_659


@pytest.mark.real_data
def test_online_retail(tmp_path: Path, shared_data: Path) -> None:
    file = shared_data / "online_retail_ii" / "online_retail_2009-12_2010-12.parquet"
    settings, text = propose(tmp_path, file)
    assert settings.project.reporting_currency == "GBP"
    assert settings.project.time_zone == "Europe/London"
    assert settings.value.horizons == (30, 90, 180)
    report = land(settings).inputs["transactions"]
    assert report.new.count_in == 525_461
    assert report.new.sum_in == Decimal("9539484.634")
    assert "of the lines have no CustomerID: guests" in text
    assert "stock corrections?" in text
    with duckdb.connect(str(settings.paths.warehouse), read_only=True) as connection:
        marked = "count(*) FILTER (is_refund), count(*) FILTER (transaction_id LIKE 'C%')"
        found = connection.execute(f"SELECT {marked} FROM raw.transactions").fetchall()
    assert found[0][0] == found[0][1] == 10_206


@pytest.mark.real_data
def test_olist_is_joined(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "olist_sample"
    names = ("orders", "order_items", "customers", "products")
    tables = [folder / f"sample_{name}.parquet" for name in names]
    settings, text = propose(tmp_path, *tables)
    join = propose_join([finding.guess for finding in look_at_files(tables, tmp_path)])
    assert join is not None
    statement = join.sql(tmp_path / "transactions.parquet")
    assert all(f"#   {line}" in text for line in statement.splitlines())
    assert "sample_products.parquet: no" in text
    duckdb.connect().execute(statement)
    report = land(settings).inputs["transactions"]
    with duckdb.connect() as connection:
        ((rows, total, people),) = connection.execute(
            "SELECT count(*), sum(price)::DECIMAL(18, 4), count(DISTINCT customer_unique_id) "
            f"FROM '{tables[1]}' JOIN '{tables[0]}' USING (order_id) "
            f"JOIN '{tables[2]}' USING (customer_id)"
        ).fetchall()
    assert (report.new.count_kept, report.new.sum_kept) == (rows, total)
    with duckdb.connect(str(settings.paths.warehouse), read_only=True) as connection:
        found = connection.execute("SELECT count(DISTINCT user_id) FROM raw.transactions")
        assert found.fetchall() == [(people,)]


@pytest.mark.real_data
def test_events_alone(tmp_path: Path, shared_data: Path) -> None:
    settings, text = propose(tmp_path, shared_data / "retentioneering" / "events.parquet")
    assert "There is no [inputs.transactions] yet" in text
    assert settings.inputs["events"].columns["event_name"] == "event"
    assert land(settings, "events").inputs["events"].new.count_kept == 31_106


@pytest.mark.real_data
def test_fuzzyfactory(tmp_path: Path, shared_data: Path) -> None:
    names = ("orders", "order_items", "order_item_refunds")
    tables = [shared_data / "fuzzyfactory" / f"{name}.parquet" for name in names]
    settings, text = propose(tmp_path, *tables)
    chosen = settings.inputs["transactions"]
    assert chosen.columns["variable_cost"] == "cogs_usd"
    assert settings.project.reporting_currency == "USD"
    assert "order_item_refunds.parquet: no user_id was found in it" in text
    assert land(settings).inputs["transactions"].new.count_kept == 32_313


def test_days_are_those_of_all_files_of_orders(tmp_path: Path) -> None:
    for year in (2022, 2023):
        rows = [
            (f"{year}-{n}", f"c{n % 9}", date(year, 1, 1) + timedelta(days=n), "1.50")
            for n in range(365)
        ]
        rows.append((f"{year}-x", "c1", date(2199, 1, 1), "1.50"))
        text = as_csv(rows, ("order_id", "customer_id", "ordered_at", "total"))
        (tmp_path / f"orders-{year}.csv").write_text(text)
    settings, proposed = propose(tmp_path, "orders-2022.csv", "orders-2023.csv")
    assert "# The orders cover 730 days, from 2022-01-01 to 2023-12-31." in proposed
    assert "# last_cutoff = 2023-12-31" in proposed
    assert settings.value.horizons == (30, 90, 180, 365)


def test_what_a_contact_cost_is_no_revenue(tmp_path: Path) -> None:
    contacts = [(f"c{n % 9}", "2024-01-05", f"k{n % 3}", "0.05") for n in range(90)]
    for cost in ("cost", "spend", "contact_fee"):
        header = ("customer_id", "sent_at", "campaign", cost)
        (tmp_path / "a_campaigns.csv").write_text(as_csv(contacts, header))
        sales = [(f"o{n}", f"c{n % 9}", "2024-01-09", "10.50") for n in range(90)]
        header = ("order_id", "customer_id", "ordered_at", "total")
        (tmp_path / "orders.csv").write_text(as_csv(sales, header))
        settings, _ = propose(tmp_path, "a_campaigns.csv", "orders.csv")
        assert settings.inputs["transactions"].files == ("orders.csv",)
        assert settings.inputs["campaign_exposures"].files == ("a_campaigns.csv",)


def test_of_two_files_of_orders_the_one_that_tells_more_is_taken(tmp_path: Path) -> None:
    payments = [(f"c{n % 9}", "2024-01-09", "10.50") for n in range(90)]
    header = ("customer_id", "paid_at", "amount")
    (tmp_path / "a_payments.csv").write_text(as_csv(payments, header))
    sales = [(f"o{n}", f"c{n % 9}", "2024-01-09", "10.50", "web") for n in range(90)]
    names = ("order_id", "customer_id", "ordered_at", "total", "channel")
    (tmp_path / "orders.csv").write_text(as_csv(sales, names))
    settings, proposed = propose(tmp_path, "a_payments.csv", "orders.csv")
    assert settings.inputs["transactions"].files == ("orders.csv",)
    assert "# - a_payments.csv: also looks like transactions, but has other columns" in proposed


def test_every_input_gets_its_separators(tmp_path: Path) -> None:
    rows = [
        (f"o{n}", f"c{n % 9}", "2024-01-09", "10,50", "GBP", "ja" if n % 5 else "nein")
        for n in range(90)
    ]
    header = ("Bestellnummer", "Customer Email", "Datum", "Betrag", "Währung", "Retoure")
    (tmp_path / "o.csv").write_text(as_csv(rows, header, delimiter=";"))
    rates = [("09.01.2024", "GBP", "1,1525"), ("10.01.2024", "GBP", "1,1530")]
    names = ("Datum", "Currency", "Kurs")
    (tmp_path / "rates.csv").write_text(as_csv(rates, names, delimiter=";"))
    settings, _ = propose(tmp_path, "o.csv", "rates.csv")
    assert settings.inputs["exchange_rates"].decimal_separator == ","
    assert settings.inputs["transactions"].columns["user_id"] == "Customer Email"
    assert settings.inputs["transactions"].columns["is_refund"] == "Retoure"
    report = land(settings)
    assert report.inputs["exchange_rates"].new.count_kept == 2
    assert report.inputs["transactions"].new.count_kept == 90


def test_a_word_tells_which_lines_are_refunds(tmp_path: Path) -> None:
    rows = [
        (f"o{n}", f"c{n % 9}", "2024-01-09", "10.50", "Refund" if n % 5 == 0 else "Sale")
        for n in range(90)
    ]
    header = ("order_id", "customer_id", "ordered_at", "total", "line's type")
    (tmp_path / "o.csv").write_text(as_csv(rows, header))
    settings, _ = propose(tmp_path, "o.csv")
    land(settings)
    with open_warehouse(settings, read_only=True) as connection:
        assert read_row(
            connection, "SELECT count(*) FILTER (is_refund), count(*) FROM raw.transactions"
        ) == (18, 90)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_a_spreadsheet_saves_as_unicode_text(tmp_path: Path, suffix: str) -> None:
    text = orders(
        300,
        fecha=lambda n, draw: day(n, draw).strftime("%d/%m/%Y"),
        cliente=lambda n, draw: f"Peña {draw.randrange(90)}",
        importe=lambda n, draw: f"{draw.randrange(5, 90)},{n % 10}0",
    ).replace(";", "\t")
    content = text.encode("utf-16")
    name = f"ventas.txt{suffix}"
    (tmp_path / name).write_bytes(gzip.compress(content) if suffix else content)
    settings, proposed = propose(tmp_path, name)
    assert 'encoding = "utf-16"' in proposed
    chosen = settings.inputs["transactions"]
    assert chosen.columns == {"user_id": "cliente", "ts": "fecha", "amount": "importe"}
    landed = land(settings).inputs["transactions"].new
    assert (landed.count_in, landed.count_kept) == (300, 300)
    with open_warehouse(settings, read_only=True) as connection:
        (count,) = read_row(
            connection,
            "SELECT count(DISTINCT user_id) FROM raw.transactions WHERE user_id[1:4] = 'Peña'",
        )
    assert count == len({line.split("\t")[1] for line in text.splitlines()[1:]})


def test_columns_that_tell_nothing_are_listed_in_a_section_to_complete(tmp_path: Path) -> None:
    text = orders(
        200,
        wer=lambda n, draw: f"k{draw.randrange(60)}",
        wann=lambda n, draw: day(n, draw).strftime("%d.%m.%Y"),
        wieviel=lambda n, draw: f"{draw.randrange(5, 90)},{n % 10}0",
    )
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    _, proposed = propose(tmp_path, "x.csv")
    assert "# Say which of these is which: wer, wann, wieviel." in proposed
    assert '# user_id = "..."' in proposed
    # Its reader takes the marks away and writes the one name that was not found.
    section = proposed[proposed.index("# [inputs.transactions]") : proposed.index("# Not used")]
    written = section.replace("# [", "[").replace("\n# ", "\n").replace('"..."', '"wer"')
    (tmp_path / "clv.toml").write_text(f'[project]\nname = "x"\n{written}', encoding="utf-8")
    settings = load_settings(tmp_path, environ={})
    assert settings.inputs["transactions"].columns == {
        "user_id": "wer",
        "ts": "wann",
        "amount": "wieviel",
    }
    assert land(settings).inputs["transactions"].new.count_kept == 200
