"""Each file once, in one transaction, whatever its name and whenever it comes."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clv_pipeline.ingest.landing import land_input, land_inputs
from clv_pipeline.ingest.report import LandingError
from tests.ingest.conftest import ROWS, Shop, as_csv, header

LANDED = "SELECT * EXCLUDE (_file_id) FROM raw.transactions ORDER BY ALL"


def test_counts_and_sums_tie_and_are_said(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    report = shop.land_transactions()
    assert report.new.count_in == 5
    assert report.new.count_kept == 4
    assert report.new.count_guest == 1
    assert report.new.count_quarantined == 1
    assert report.new.sum_in == report.new.sum_kept == Decimal("23.75")
    assert report.new.sum_guest == Decimal("3.25")
    assert report.reasons == {"amount is no finite number with '.' before the decimals": 1}
    assert report.sentence == (
        "transactions: 1 file seen, 1 new, 0 already landed; 5 rows in = 4 kept (1 of guests) + "
        "1 quarantined; amounts 23.75 in = 23.75 kept (3.25 of guests) + 0.00 quarantined. "
        "Quarantined: 1 x amount is no finite number with '.' before the decimals."
    )
    assert shop.query(
        "SELECT transaction_id, user_id, ts, amount, currency, channel, sku, quantity, country, "
        "is_refund, variable_cost, ingested_at, _file_id, _row_number "
        "FROM raw.transactions ORDER BY _row_number"
    ) == [
        (
            order,
            user,
            instant,
            Decimal(amount),
            "EUR",
            "unknown",
            None,
            1.0,
            "unknown",
            is_refund,
            Decimal(0),
            None,
            1,
            row,
        )
        for order, user, instant, amount, is_refund, row in [
            ("o1", "anna", datetime(2024, 1, 4, 23), "10", False, 1),
            ("o2", "ben", datetime(2024, 1, 6, 11, 30), "20.5", False, 2),
            ("o3", None, datetime(2024, 1, 6, 23), "3.25", False, 3),
            ("o5", "anna", datetime(2024, 1, 8, 23), "-10", True, 5),
        ]
    ]
    assert shop.query(
        "SELECT input, file_id, path, row_number, column_name, record_json, run_id "
        "FROM ops.quarantine"
    ) == [
        (
            "transactions",
            1,
            "a.csv",
            4,
            "amount",
            '{"transaction_id":"o4","user_id":"anna","ts":"2024-01-08","amount":"x"}',
            "run-1",
        )
    ]


def test_every_raw_table_is_there_when_only_transactions_are(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    shop.land()
    tables = shop.query("SELECT table_name FROM information_schema.tables WHERE table_schema='raw'")
    assert {name for (name,) in tables} == {
        "transactions",
        "users",
        "events",
        "texts",
        "campaign_exposures",
        "acquisition_costs",
        "account_merges",
        "exchange_rates",
    }


def test_landing_twice_is_landing_once(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    first = shop.land_transactions()
    before = shop.query("FROM raw.transactions ORDER BY ALL")
    again = shop.land_transactions()
    assert (again.files_new, again.files_skipped, again.new.count_in) == (0, 1, 0)
    assert again.landed == first.landed == first.new
    assert shop.query("FROM raw.transactions ORDER BY ALL") == before
    assert not again.needs_full_refresh


def test_same_content_under_another_name_counts_once_and_is_said(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    shop.write("copy/b.csv", as_csv(ROWS))
    shop.inputs["transactions"]["files"] = ["a.csv", "copy/*.csv"]
    report = shop.land_transactions()
    assert (report.files_new, report.files_skipped, report.new.count_in) == (1, 1, 5)
    assert report.warnings == ("copy/b.csv has the same content as a.csv and is counted once.",)
    kinds = "SELECT kind, path FROM ops.landing_warnings"
    assert shop.query(kinds) == [("duplicate_file", "copy/b.csv")]
    shop.land()
    assert shop.query(kinds) == [("duplicate_file", "copy/b.csv")]


def test_the_order_of_delivery_does_not_matter(tmp_path: Path) -> None:
    files = {
        "a.csv": as_csv(ROWS[:2]),
        "b.csv": as_csv(ROWS[2:4]),
        "c.csv": as_csv([*ROWS[4:], ("o1", "anna", "2024-01-05", "11.00")]),
    }
    outcomes = []
    for number, order in enumerate(("abc", "cab", "bca")):
        shop = Shop(tmp_path / str(number))
        for name in (f"{letter}.csv" for letter in order):
            shop.write(name, files[name])
            shop.land()
        quarantine = "SELECT path, row_number, reason, record_json FROM ops.quarantine ORDER BY ALL"
        outcomes.append((shop.query(LANDED), shop.query(quarantine)))
    assert len(outcomes[0][0]) == 5
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_files_of_one_landing_are_numbered_by_name(shop: Shop) -> None:
    for name in ("c.csv", "a.csv", "b.csv"):
        shop.write(name, as_csv([(name, "u", "2024-01-01", "1")]))
    shop.land()
    entries = shop.query("SELECT file_id, path FROM ops.landed_files ORDER BY file_id")
    assert entries == [(1, "a.csv"), (2, "b.csv"), (3, "c.csv")]


def test_changed_file_adds_versions_where_orders_have_ids(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS[:1]))
    shop.land()
    shop.write("a.csv", as_csv([("o1", "anna", "2024-01-05", "99.00")]))
    report = shop.land_transactions()
    assert shop.amounts() == [Decimal("10"), Decimal("99")]
    assert "a.csv changed since it was landed" in report.warnings[0]
    assert not report.needs_full_refresh


@pytest.mark.parametrize(
    ("manner", "amounts", "refresh"),
    [("add", ["1", "1", "2"], False), ("replace", ["1", "2"], True)],
)
def test_changed_file_without_keys_stops_until_the_settings_say_what_it_is(
    shop: Shop, manner: str, amounts: list[str], refresh: bool
) -> None:
    header = ("user_id", "ts", "amount")
    shop.write("a.csv", as_csv([("u", "2024-01-01", "1")], header))
    shop.land()
    shop.write("a.csv", as_csv([("u", "2024-01-01", "1"), ("u", "2024-01-02", "2")], header))
    with pytest.raises(LandingError, match=r"a\.csv was landed before.*when_changed"):
        shop.land()
    assert shop.amounts() == [Decimal(1)]
    shop.inputs["transactions"]["when_changed"] = manner
    report = shop.land_transactions()
    assert shop.amounts() == [Decimal(a) for a in amounts]
    assert report.needs_full_refresh is refresh
    assert report.landed.count_kept == len(amounts)


def test_changed_settings_land_the_files_anew_under_their_numbers(shop: Shop) -> None:
    shop.write("a.csv", as_csv([("o1", "u", "2024-01-01", "12,50")]))
    shop.write("b.csv", as_csv([("o2", "u", "2024-01-01", "13,50")]))
    assert shop.land_transactions().new.count_quarantined == 2
    shop.inputs["transactions"]["decimal_separator"] = ","
    report = shop.land_transactions()
    assert report.needs_full_refresh
    assert shop.amounts() == [Decimal("12.5"), Decimal("13.5")]
    assert shop.reasons() == []
    assert shop.query("SELECT file_id, path FROM ops.landed_files ORDER BY 1") == [
        (1, "a.csv"),
        (2, "b.csv"),
    ]


def test_settings_changed_after_a_file_is_gone_is_said(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS[:1]))
    shop.land()
    (shop.root / "a.csv").unlink()
    shop.inputs["transactions"]["thousands_separator"] = ","
    report = shop.land_transactions()
    assert "its file is gone" in report.warnings[-1]
    assert len(shop.amounts()) == 1


def test_kill_leaves_nothing_half(shop: Shop) -> None:
    many = [(f"o{n}", f"u{n % 97}", "2024-01-01", f"{n}.25") for n in range(30_000)]
    for name in "abcd":
        shop.write(f"{name}.csv", as_csv([(name + o, u, t, a) for o, u, t, a in many]))
    program = (
        "import sys; from pathlib import Path; from tests.ingest.conftest import Shop; "
        "shop = Shop(Path(sys.argv[1])); print('go', flush=True); shop.land()"
    )
    root = Path(__file__).parents[2]
    for delay in (0.2, 0.5):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(shop.root)], cwd=root, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if not shop.settings.paths.warehouse.exists():
            continue
        whole = (
            "SELECT (SELECT count(*) FROM raw.transactions), "
            "(SELECT coalesce(sum(count_rows_kept), 0) FROM ops.landed_files)"
        )
        try:
            rows, ledger = shop.query(whole)[0]
        except duckdb.CatalogException:
            continue
        assert rows == ledger
        assert rows % len(many) == 0
    shop.land()
    expected = sum(Decimal(a) for _, _, _, a in many) * 4
    assert shop.query("SELECT count(*), sum(amount) FROM raw.transactions") == [(120_000, expected)]


@pytest.mark.parametrize("form", ["csv", "gz", "parquet", "duckdb"])
def test_every_form_of_source_gives_the_same_rows(shop: Shop, form: str) -> None:
    delivered = pa.table(dict(zip(header(), zip(*ROWS, strict=True), strict=True)))
    name = {"csv": "a.csv", "gz": "a.csv.gz", "parquet": "a.parquet", "duckdb": "a.db"}[form]
    if form == "csv":
        shop.write(name, as_csv(ROWS))
    elif form == "gz":
        # Two members, as `cat a.gz b.gz` makes them.
        text = as_csv(ROWS).encode()
        shop.write(name, gzip.compress(text[:60]) + gzip.compress(text[60:]))
    elif form == "parquet":
        pq.write_table(delivered, shop.root / name)
    else:
        with duckdb.connect(str(shop.root / name)) as connection:
            connection.execute('CREATE TABLE "my orders" AS SELECT * FROM delivered')
    shop.inputs["transactions"] = (
        {"duckdb": name, "table": "my orders"} if form == "duckdb" else {"files": [name]}
    )
    report = shop.land_transactions()
    assert (report.new.count_in, report.new.count_kept, report.new.count_guest) == (5, 4, 1)
    assert shop.amounts() == [Decimal(a) for a in ("-10", "3.25", "10", "20.5")]
    rows = shop.query("SELECT row_number FROM ops.quarantine")
    assert rows == [(4,)]
    assert shop.land_transactions().files_skipped == 1


def test_new_content_of_a_table_replaces_the_earlier_one(shop: Shop) -> None:
    with duckdb.connect(str(shop.root / "a.db")) as connection:
        connection.execute(
            "CREATE TABLE orders AS SELECT 'u' AS user_id, DATE '2024-01-01' AS ts, 5 AS amount"
        )
    shop.inputs["transactions"] = {"duckdb": "a.db", "table": "orders"}
    shop.land()
    with duckdb.connect(str(shop.root / "a.db")) as connection:
        connection.execute("INSERT INTO orders VALUES ('u', DATE '2024-01-02', 7)")
    report = shop.land_transactions()
    assert report.needs_full_refresh
    assert shop.amounts() == [Decimal(5), Decimal(7)]
    assert report.landed.count_kept == 2


def test_table_that_is_not_there_names_those_that_are(shop: Shop) -> None:
    with duckdb.connect(str(shop.root / "a.db")) as connection:
        connection.execute("CREATE TABLE orders (x INT)")
    shop.inputs["transactions"] = {"duckdb": "a.db", "table": "order"}
    with pytest.raises(LandingError, match=r"no table 'order'. It has main\.orders"):
        shop.land()


def test_names_with_quotes_and_wildcards_are_names(shop: Shop) -> None:
    for name in ("o'r\"d;er.csv", "[a]*?.csv"):
        (shop.root / name).write_text(as_csv([(name, "u", "2024-01-01", "1")]))
        shop.inputs["transactions"]["files"] = [name]
        assert shop.land_transactions().new.count_kept == 1
    assert shop.query("SELECT path FROM ops.landed_files ORDER BY file_id") == [
        ("o'r\"d;er.csv",),
        ("[a]*?.csv",),
    ]


def test_file_that_changes_while_it_is_read_is_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shop.write("a.csv", as_csv(ROWS))
    from clv_pipeline.ingest import landing

    look_at = landing.look_at

    def look_then_append(*arguments: object) -> object:
        source = look_at(*arguments)  # type: ignore[arg-type]
        with path.open("a") as stream:
            stream.write("o9,u,2024-01-01,5\n")
        os.utime(path, (1, 1))
        return source

    monkeypatch.setattr(landing, "look_at", look_then_append)
    with pytest.raises(LandingError, match="changed while it was being read"):
        shop.land()
    assert shop.query("SELECT count(*) FROM raw.transactions") == [(0,)]


@pytest.mark.parametrize("right", [ROWS, ROWS[:0]])
def test_a_wrong_file_gives_way_to_what_was_there_before(
    shop: Shop, right: list[tuple[str, ...]]
) -> None:
    shop.write("a.csv", as_csv(right))
    # A header alone has the same content under every name.
    shop.write("b.csv", as_csv(right))
    shop.land()
    shop.write("b.csv", as_csv([("o9", "eve", "2024-02-01", "99999.00")]))
    shop.land()
    assert (Decimal("99999.00"),) in shop.query("SELECT amount FROM raw.transactions")
    shop.write("b.csv", as_csv(right))
    shop.inputs["transactions"]["when_changed"] = "replace"
    report = shop.land_transactions()
    assert report.needs_full_refresh
    assert any("is again what it was" in warning for warning in report.warnings)
    expected = sorted(Decimal(row[3]) for row in right if row[3] != "x")
    assert sorted(shop.amounts()) == expected
    again = shop.land_transactions()
    assert (again.files_new, again.needs_full_refresh) == (0, False)


def test_one_input_lands_alone(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    heard: list[str] = []
    report = land_input(shop.settings, "transactions", "run-7", progress=heard.append)
    assert report.new.count_kept == 4
    assert heard == ["transactions: a.csv: 5 rows, 1 of them quarantined"]
    assert shop.query("SELECT run_id FROM ops.landed_files") == [("run-7",)]
    assert land_inputs(shop.settings, "run-8", ["users"]).sentence == "No input has any file."


def test_landed_at_is_when_the_caller_says_that_files_came(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    shop.land(received_at=datetime(2024, 2, 1, 3, tzinfo=UTC))
    assert shop.query("SELECT landed_at FROM ops.landed_files") == [(datetime(2024, 2, 1, 3),)]
