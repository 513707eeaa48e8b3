"""Whether data can carry a model is said with the reason and the remedy; nothing is changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from clv_pipeline.datasets import write_cdnow
from clv_pipeline.ingest.doctor import DoctorReport, examine
from clv_pipeline.settings import build_settings, load_settings
from clv_pipeline.timeline import Cutoff
from tests.ingest.conftest import Shop, as_csv

HEADER = ("user_id", "ts", "amount")


def write(shop: Shop, people: int, orders: int, every: int = 30) -> None:
    rows = [
        (f"u{person}", date(2022, 1, 1) + timedelta(days=every * order), "10")
        for person in range(people)
        for order in range(orders)
    ]
    shop.write("a.csv", as_csv(rows, HEADER))


def severities(report: DoctorReport) -> dict[str, str]:
    return {finding.check: finding.severity for finding in report.findings}


def test_cdnow_can_carry_a_model_and_nothing_is_written(tmp_path: Path) -> None:
    settings = load_settings(write_cdnow(tmp_path), environ={})
    before = sorted(tmp_path.rglob("*"))
    report = examine(settings, Cutoff.parse("1998-06-30"))
    assert sorted(tmp_path.rglob("*")) == before
    assert report.can_train
    assert severities(report) == {
        "rows": "ok",
        "quarantine": "ok",
        "buyers": "ok",
        "repeat": "ok",
        "largest_customer": "ok",
        "guests": "ok",
        "refunds": "ok",
        "history": "ok",
        "horizon_30": "ok",
        "horizon_90": "ok",
        "horizon_180": "ok",
        "horizon_365": "warn",
        "freshness": "ok",
        "users": "ok",
        "events": "ok",
    }
    text = str(report)
    assert "23,570 customers have bought." in text
    assert "Orders cover 546 days, from 1997-01-01 to 1998-06-30." in text
    # 1997-06-30 less 30 days at a time, back to the 90th day, which is 1997-03-31.
    assert "365 days ahead: 4 cutoffs can train and 0 can evaluate." in text
    assert text.endswith("These data can carry a model, with 1 weakness.")


def test_three_customers_and_a_short_history_stop(shop: Shop) -> None:
    write(shop, people=3, orders=2)
    report = examine(shop.settings)
    assert not report.can_train
    assert report.severity("buyers") == "stop"
    assert report.severity("history") == "stop"
    assert str(report).endswith("can't carry a model yet: see what says stop.")
    with pytest.raises(KeyError):
        report.severity("freshness")


def test_an_order_of_the_future_does_not_lengthen_the_history(shop: Shop) -> None:
    rows = [(f"u{n}", date(2022, 1, 1) + timedelta(days=n), "10") for n in range(60)]
    shop.write("a.csv", as_csv([*rows, ("u0", "2031-01-01", "10")], HEADER))
    text = str(examine(shop.settings, received_at=datetime(2022, 3, 5, tzinfo=UTC)))
    assert "Orders cover 60 days, from 2022-01-01 to 2022-03-01." in text
    assert "1.6% of the rows of an input are quarantined (transactions)" in text


def test_order_numbers_taken_for_people_stop(shop: Shop) -> None:
    write(shop, people=2_000, orders=1)
    report = examine(shop.settings)
    assert report.severity("buyers") == "ok"
    assert report.severity("repeat") == "stop"


def test_weaknesses_are_named(shop: Shop) -> None:
    rows = [("", "2022-01-01", "10")] * 60 + [("u", "2022-01-01", "x")] * 20
    rows += [(f"u{n % 60}", str(date(2022, 1, 1) + timedelta(days=n)), "10") for n in range(100)]
    rows += [("0", "2022-02-01", "10")] * 40 + [("u1", "2022-03-01", "-10")] * 70
    shop.write("a.csv", as_csv(rows, HEADER))
    shop.project["name"] = "x"
    settings = build_settings(
        shop.root,
        {
            "inputs": shop.inputs,
            "value": {"definition": "contribution_margin", "horizons": [10, 30, 90]},
            "cadence": {"min_history_days": 20},
        },
    )
    report = examine(settings, Cutoff.parse("2022-06-01"))
    warned = {check for check, severity in severities(report).items() if severity == "warn"}
    assert warned == {
        "quarantine",
        "buyers",
        "largest_customer",
        "refunds",
        "horizon_90",
        "freshness",
        "costs",
    }
    assert report.can_train
    assert "The last order is 52 days older than the cutoff 2022-06-01" in str(report)
    assert "22.2% of the rows, with 46.2% of the amounts, have no customer." in str(report)


def test_what_stops_landing_stops_the_doctor(shop: Shop) -> None:
    shop.inputs["transactions"]["files"] = ["none.csv"]
    report = examine(shop.settings)
    assert [finding.check for finding in report.findings] == ["landing"]
    assert "none.csv" in str(report)


@pytest.mark.parametrize("seconds", [0, 1])
def test_lines_that_were_stamped_one_by_one_are_told(shop: Shop, seconds: int) -> None:
    rows = [
        (f"u{order % 60}", day, "10", f"o{order}", f"{day}T10:00:0{line * seconds}Z")
        for order in range(120)
        for day in [date(2022, 1, 1) + timedelta(days=order)]
        for line in range(2)
    ]
    shop.write("a.csv", as_csv(rows, (*HEADER, "transaction_id", "ingested_at")))
    text = str(examine(shop.settings))
    told = "Of 100.0% of the orders with several lines in a file, the lines have different "
    assert (told in text) == bool(seconds)
    assert ("50.0% of the amounts are left out" in text) == bool(seconds)
