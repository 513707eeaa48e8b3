"""Files and columns that are missing, new or named otherwise: what stops, and what is only said."""

from __future__ import annotations

import pytest

from clv_pipeline.ingest.report import LandingError
from tests.ingest.conftest import ROWS, Shop, as_csv, header


def test_required_file_missing_names_where_it_was_looked_for(shop: Shop) -> None:
    shop.inputs["transactions"]["files"] = ["orders/*.csv"]
    with pytest.raises(LandingError) as caught:
        shop.land()
    assert str(shop.root / "orders/*.csv") in str(caught.value)
    assert "[inputs.transactions]" in str(caught.value)


def test_missing_files_are_said_once_something_was_landed(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    shop.inputs["users"] = {"files": ["users.csv"]}
    report = shop.land()
    assert "users.csv" in report.warnings[0]
    (shop.root / "a.csv").unlink()
    assert "No file of the input 'transactions'" in shop.land().warnings[0]


def test_no_transactions_in_the_settings_stops(shop: Shop) -> None:
    shop.inputs = {}
    with pytest.raises(LandingError, match=r"no \[inputs\.transactions\]"):
        shop.land()
    with pytest.raises(LandingError, match=r"'transaction' is no input.*'transactions'"):
        shop.land(["transaction"])


def test_renamed_column_names_the_nearest(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS, ("transaction_id", "usr_id", "ts", "amount")))
    with pytest.raises(LandingError, match=r"a\.csv has no column 'user_id'.*is 'usr_id'"):
        shop.land()
    shop.inputs["transactions"]["columns"] = {"user_id": "usr_ids"}
    with pytest.raises(LandingError, match=r"has no column 'usr_ids'.*is 'usr_id'"):
        shop.land()
    shop.inputs["transactions"]["columns"] = {"usr": "usr_id"}
    with pytest.raises(LandingError, match=r"columns\.usr' is no column of .*'user_id'"):
        shop.land()
    shop.inputs["transactions"]["columns"] = {"user_id": "USR_ID"}
    assert shop.land_transactions().new.count_kept == 4


def test_extra_column_goes_on_with_a_warning(shop: Shop) -> None:
    shop.write("a.csv", as_csv([(*row, "?") for row in ROWS], header("mood")))
    report = shop.land_transactions()
    assert report.warnings == (
        "a.csv has columns that transactions do not know, which are left out: mood.",
    )
    assert shop.query("SELECT kind, message FROM ops.landing_warnings") == [
        ("extra_column", report.warnings[0])
    ]


def test_optional_column_that_only_earlier_files_had_is_said(shop: Shop) -> None:
    shop.write("a.csv", as_csv([(*ROWS[0], "web")], header("channel")))
    shop.write("b.csv", as_csv([(*ROWS[1], "web")], header("chanel")))
    report = shop.land_transactions()
    assert (
        "b.csv lacks the column 'channel', which other files of transactions have. "
        "The nearest name there is 'chanel'."
    ) in report.warnings


def test_further_columns_of_users_become_attributes(shop: Shop) -> None:
    shop.write("a.csv", as_csv(ROWS))
    shop.write("users.txt", as_csv([("anna", "gold", 'a"b')], ("user_id", "tier", "note")))
    shop.inputs["users"] = {"files": ["users.txt"]}
    report = shop.land().inputs["users"]
    assert "kept as attributes: tier, note" in report.warnings[0]
    assert shop.query("SELECT user_id, country, attributes_json FROM raw.users") == [
        ("anna", None, '{"tier":"gold","note":"a\\"b"}')
    ]


def test_unknown_value_becomes_unknown_with_a_warning(shop: Shop) -> None:
    rows = [("u", "2024-01-01", kind, "hm") for kind in ("review", "letter", "letter", "")]
    shop.write("a.csv", as_csv(ROWS))
    shop.write("texts.txt", as_csv(rows, ("user_id", "ts", "kind", "text")))
    shop.inputs["texts"] = {"files": ["texts.txt"]}
    report = shop.land().inputs["texts"]
    kinds = [kind for (kind,) in shop.query("SELECT kind FROM raw.texts ORDER BY _row_number")]
    assert kinds == ["review", "unknown", "unknown", "unknown"]
    assert "'letter' (2 rows)" in report.warnings[0]
