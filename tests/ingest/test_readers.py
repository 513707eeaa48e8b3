"""CSV as it really comes: dialects, encodings, malformed records, files that break off."""

from __future__ import annotations

import csv
import gzip
import random
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clv_pipeline.ingest.report import LandingError
from clv_pipeline.settings import SettingsError
from tests.ingest.conftest import HEADER, Shop, as_csv

ROWS = [
    ("o1", 'says "hi", twice', "2024-01-01", "1.50"),
    ("o2", "line\nbreak", "2024-01-02", "2.50"),
    ("o3", "semi;colon\ttab|pipe", "2024-01-03", "4.00"),
    ("o4", "Zoë 🙂 Ж 中", "2024-01-04", "8.00"),
]
KEPT = "SELECT transaction_id, user_id, amount FROM raw.transactions ORDER BY _row_number"
QUARANTINE = (
    "SELECT row_number, reason, record_json::JSON->>'line' FROM ops.quarantine ORDER BY row_number"
)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_dialects_are_read_alike(shop: Shop, bom: bytes, line_break: str, delimiter: str) -> None:
    # Python's writer leaves a line feed unquoted where lines end with a carriage return.
    quoting = csv.QUOTE_ALL if line_break == "\r" else csv.QUOTE_MINIMAL
    text = as_csv(ROWS, delimiter=delimiter, lineterminator=line_break, quoting=quoting)
    shop.write("a.csv", bom + text.encode())
    shop.land()
    assert shop.query(KEPT) == [(o, u, Decimal(a)) for o, u, _, a in ROWS]


def test_delimiter_as_configured(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS, delimiter=":"))
    shop.inputs["transactions"]["delimiter"] = ":"
    assert shop.land_transactions().new.count_kept == 4


def test_blank_lines_mixed_line_breaks_and_no_last_one(shop: Shop) -> None:
    text = "user_id,ts,amount\r\na,2024-01-01,1\n\n\r\nb,2024-01-01,2\r\nc,2024-01-01,4"
    shop.write("a.csv", text)
    shop.land()
    assert shop.query("SELECT _row_number, user_id FROM raw.transactions ORDER BY 1") == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
    ]


def test_header_with_blanks_and_repeats(shop: Shop) -> None:
    shop.write("a.csv", "user_id, ts ,amount,Amount,\nu,2024-01-01,1,2,3\n")
    report = shop.land_transactions()
    assert shop.amounts() == [Decimal(1)]
    assert "Amount_2, column_5" in report.warnings[0]


def test_malformed_records_are_quarantined_with_their_row_numbers(shop: Shop) -> None:
    lines = [
        ",".join(HEADER),
        "o1,u,2024-01-01,1",
        "o2,u,2024-01-01",
        "o3,u,2024-01-01,3,4",
        'o4,"u\nv",2024-01-01,4',
        'o5,"u"v,2024-01-01,5',
        "o6,u,2024-01-01,6",
        'o7,"u,2024-01-01,7',
        "o8,u,2024-01-01,8",
    ]
    shop.write("a.csv", "\n".join(lines) + "\n")
    report = shop.land_transactions()
    assert shop.query("SELECT _row_number, transaction_id FROM raw.transactions ORDER BY 1") == [
        (1, "o1"),
        (4, "o4"),
        (6, "o6"),
        (8, "o8"),
    ]
    assert shop.query(QUARANTINE) == [
        (2, "this record has 3 columns instead of 4", "o2,u,2024-01-01"),
        (3, "this record has 5 columns instead of 4", "o3,u,2024-01-01,3,4"),
        (5, "the quotes of this record don't match", 'o5,"u"v,2024-01-01,5'),
        (7, "the quotes of this record don't match", 'o7,"u,2024-01-01,7'),
    ]
    assert report.new.count_in == 8


def test_an_open_quote_costs_its_own_row_alone(shop: Shop) -> None:
    """Neither the rest of a long file nor the rows up to the next quote get lost."""
    lines = [f"o{n},u,2024-01-01,1" for n in range(1, 60_001)]
    lines[20_000] = 'oX,"open,2024-01-01,1'
    lines[40_000] = 'oY,"quoted",2024-01-01,1'
    shop.write("a.csv", "\n".join([",".join(HEADER), *lines]) + "\n")
    report = shop.land_transactions()
    assert report.new.count_in == 60_000
    assert shop.query("SELECT row_number FROM ops.quarantine") == [(20_001,)]
    numbers = "SELECT count(*), count(DISTINCT _row_number), max(_row_number) FROM raw.transactions"
    assert shop.query(numbers) == [(59_999, 59_999, 60_000)]


def test_one_malformed_row_does_not_change_how_the_others_are_read(tmp_path: Path) -> None:
    """DuckDB's reader and the careful one agree on every well-formed record."""
    draw = random.Random(5)
    pieces = ["a", "é", '"', ",", "\n", "\r\n", ";", " ", "''", "\\", "\t", "🙂"]
    rows = [
        (f"o{n}", "x" + "".join(draw.choices(pieces, k=draw.randrange(9))) + "x", "2024-01-01", n)
        for n in range(3_000)
    ]
    outcomes = []
    for name, last in (("fast", ""), ("careful", "malformed\n")):
        shop = Shop(tmp_path / name)
        shop.write("a.csv", as_csv(rows) + last)
        shop.land()
        outcomes.append(shop.query(KEPT))
        assert len(shop.reasons()) == bool(last)
    assert outcomes[0] == outcomes[1] == [(o, u, Decimal(a)) for o, u, _, a in rows]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "shift_jis"])
def test_other_encodings_are_read_when_configured(shop: Shop, encoding: str) -> None:
    name = "José" if encoding != "shift_jis" else "日本"
    shop.write("a.csv", as_csv([("o1", name, "2024-01-01", "1")]).encode(encoding))
    with pytest.raises(LandingError, match=r"a\.csv is not in the encoding 'utf-8': line \d+"):
        shop.land()
    shop.inputs["transactions"]["encoding"] = encoding
    shop.land()
    assert shop.query("SELECT user_id FROM raw.transactions") == [(name,)]


def test_wrong_encoding_names_the_line_and_the_remedy(shop: Shop) -> None:
    shop.write("a.csv", b"user_id,ts,amount\nu,2024-01-01,1\nJos\xe9,2024-01-01,1\n")
    with pytest.raises(LandingError, match=r'line 3 has the bytes e9.*encoding = "cp1252"'):
        shop.land()
    shop.write("a.csv", "user_id,ts,amount\n".encode("utf-16"))
    with pytest.raises(LandingError, match='encoding = "utf-16"'):
        shop.land()


def test_unknown_encoding_is_refused_at_start(shop: Shop) -> None:
    shop.inputs["transactions"]["encoding"] = "klingon"
    with pytest.raises(SettingsError, match="'klingon' can't be used: utf-8, latin-1"):
        shop.land()


def test_text_of_ten_thousand_characters_is_carried(shop: Shop) -> None:
    name = "'; DROP TABLE raw.transactions; --\"" * 300
    shop.write("a.csv", as_csv([("o1", name, "2024-01-01", "1")]))
    shop.land()
    assert shop.query("SELECT user_id FROM raw.transactions") == [(name,)]


def test_empty_file_is_a_day_without_orders(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    shop.write("b.csv", "")
    shop.write("c.csv", ",".join(HEADER) + "\n")
    report = shop.land_transactions()
    assert (report.files_new, report.new.count_in) == (3, 4)
    assert report.warnings == ("b.csv is empty: it has not even a header.",)
    assert shop.land_transactions().files_new == 0


def damaged(shop: Shop, name: str, kind: str) -> None:
    rows = [("u", "2024-01-01", str(n)) for n in range(5_000)]
    header = ("user_id", "ts", "amount" if name == "transactions" else "event_name")
    if kind == "gzip cut":
        content = gzip.compress(as_csv(rows, header).encode())
        shop.write(name, content[: len(content) // 2])
    elif kind == "gzip broken":
        content = bytearray(gzip.compress(as_csv(rows, header).encode()))
        content[len(content) // 2] ^= 0xFF
        shop.write(name, bytes(content))
    else:
        table = pa.table(dict(zip(header, zip(*rows, strict=True), strict=True)))
        pq.write_table(table, shop.root / name, compression="none")
        whole = (shop.root / name).read_bytes()
        if kind == "parquet cut":
            shop.write(name, whole[: len(whole) // 2])
        else:
            shop.write(name, whole[:40] + b"\xff" * 2_000 + whole[2_040:])


MESSAGES = {
    "gzip cut": r"is cut off: its gzip stream stops [\d,]+ bytes",
    "gzip broken": r"is (damaged|cut off): its gzip stream",
    "parquet cut": r"is cut off at byte [\d,]+",
    "parquet broken": r"can't be read",
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_damaged_file_of_a_required_input_stops(shop: Shop, kind: str) -> None:
    damaged(shop, "transactions", kind)
    shop.inputs["transactions"]["files"] = ["transactions"]
    with pytest.raises(LandingError, match=r"^transactions " + MESSAGES[kind]):
        shop.land()
    assert shop.query("SELECT count(*) FROM raw.transactions") == [(0,)]
    assert shop.query("SELECT count(*) FROM ops.landed_files") == [(0,)]


@pytest.mark.parametrize("kind", MESSAGES)
def test_damaged_file_of_an_optional_input_is_set_aside(shop: Shop, kind: str) -> None:
    shop.write("a.csv", as_csv(ROWS))
    damaged(shop, "events", kind)
    shop.inputs["events"] = {"files": ["events"]}
    for _ in range(2):
        report = shop.land().inputs["events"]
        assert (report.files_quarantined, report.new.count_in) == (1, 0)
        assert "The file was set aside" in report.warnings[0]
        ((path, row, reason),) = shop.query("SELECT path, row_number, reason FROM ops.quarantine")
        assert (path, row) == ("events", None)
        assert reason.startswith("events ")
    shop.write("events", as_csv([("u", "2024-01-01", "x")], ("user_id", "ts", "event_name")))
    report = shop.land().inputs["events"]
    assert (report.files_new, report.new.count_kept) == (1, 1)
    assert shop.reasons() == []


def test_cut_off_csv_loses_its_last_row_alone(shop: Shop) -> None:
    text = as_csv([(f"o{n}", "u", "2024-01-01", "10.50") for n in range(100)])
    shop.write("a.csv", text[: text.rindex("2024")])
    report = shop.land_transactions()
    assert (report.new.count_kept, report.new.count_quarantined) == (99, 1)
    assert shop.reasons() == ["this record has 3 columns instead of 4"]


def test_a_reader_that_loses_rows_is_not_believed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clv_pipeline.ingest import landing
    from clv_pipeline.ingest.readers import Rows

    read = landing.read_csv_fast

    def read_but_lose(*arguments: object) -> Rows:
        rows = read(*arguments)  # type: ignore[arg-type]
        parts = [f"(SELECT * FROM {part} LIMIT 3)" for part in rows.parts]
        return Rows(rows.columns, rows.count, parts)

    monkeypatch.setattr(landing, "read_csv_fast", read_but_lose)
    shop.write("a.csv", as_csv(ROWS))
    assert shop.land_transactions().new.count_kept == 4
