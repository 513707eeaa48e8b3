"""The oracle on small exact cases, and features that peek, which it must find."""

from __future__ import annotations

from datetime import date
from itertools import permutations
from typing import Any

import pandas as pd
import pytest

from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.warehouse import open_warehouse
from data_quality import recomputing
from data_quality.recomputing import compute
from tests.data_quality.quality_shop import RunGate, spoil, write_raw

DAY = date(2024, 3, 31)


def known(settings: Settings, cutoff: date = DAY, **inputs: list[dict[str, Any]]) -> pd.DataFrame:
    with open_warehouse(settings) as connection:
        write_raw(connection, inputs)
        return compute(connection, settings, cutoff, ["anna", "bert"], ["sum_value_30d"])


def line(day: str, amount: float, **more: Any) -> dict[str, Any]:
    return {"user_id": "anna", "ts": f"{day} 12:00:00", "amount": amount, **more}


def test_history_and_window(settings: Settings) -> None:
    found = known(
        settings,
        transactions=[
            line("2024-01-10", 10),
            line("2024-01-10", 5),
            line("2024-02-09", 20),
            line("2024-03-02", 40),
            line("2024-03-05", -15, is_refund=True),
            line("2024-04-01", 1000),
        ],
    )
    anna = found.loc["anna"]
    assert anna.to_dict() == {
        "frequency": 2,
        "recency": 52,
        "T": 81,
        "monetary_value": 30,
        "count_order_days": 3,
        "count_orders": 4,
        "sum_value": 60,
        "sum_refunds": 15,
        "days_since_last_order": 29,
        "sum_value_30d": 25,
    }
    bert = found.loc["bert"]
    assert bert["sum_value"] == bert["count_orders"] == bert["frequency"] == 0
    assert pd.isna(bert["T"]) and pd.isna(bert["days_since_last_order"])


def test_late_row_is_not_known_yet(settings: Settings) -> None:
    late = line("2024-03-01", 7, ingested_at="2024-04-02 08:00:00")
    assert known(settings, transactions=[late]).loc["anna", "sum_value"] == 0
    assert known(settings, date(2024, 4, 2), transactions=[late]).loc["anna", "sum_value"] == 7


VERSIONS = [
    line("2024-03-01", 10, transaction_id="o", ingested_at="2024-03-02 00:00:00"),
    line("2024-03-01", 12, transaction_id="o", ingested_at="2024-03-20 00:00:00"),
    line("2024-03-01", 99, transaction_id="o", ingested_at="2024-04-20 00:00:00"),
]


@pytest.mark.parametrize("rows", list(permutations(VERSIONS)))
def test_newest_version_known_at_the_cutoff_counts(
    settings: Settings, rows: tuple[dict[str, Any], ...]
) -> None:
    assert known(settings, transactions=list(rows)).loc["anna", "sum_value"] == 12
    before = known(settings, date(2024, 3, 19), transactions=list(rows))
    assert before.loc["anna", "sum_value"] == 10


def test_order_that_moved_to_another_account(settings: Settings) -> None:
    rows = [
        line("2024-03-01", 10, transaction_id="o", ingested_at="2024-03-02 00:00:00"),
        {
            **line("2024-03-01", 10, transaction_id="o", ingested_at="2024-03-20 00:00:00"),
            "user_id": "bert",
        },
    ]
    found = known(settings, transactions=rows)
    assert found["sum_value"].to_dict() == {"anna": 0, "bert": 10}


def test_merged_account_belongs_to_its_owner_from_that_day_on(settings: Settings) -> None:
    rows = [{**line("2024-03-01", 10), "user_id": "annie"}, line("2024-03-02", 5)]
    merges = [{"old_user_id": "annie", "new_user_id": "anna", "ts": "2024-03-15 00:00:00"}]
    after = known(settings, transactions=rows, account_merges=merges)
    assert after.loc["anna", "sum_value"] == 15
    before = known(settings, date(2024, 3, 14), transactions=rows, account_merges=merges)
    assert before.loc["anna", "sum_value"] == 5


def test_rate_that_was_known_at_the_cutoff(settings: Settings) -> None:
    rows = [line("2024-03-01", 10, currency="USD")]
    rates = [
        {"day": "2024-03-01", "currency": "USD", "rate": 0.9},
        {"day": "2024-03-01", "currency": "USD", "rate": 0.8, "known_at": "2024-04-05 00:00:00"},
    ]
    assert known(settings, transactions=rows, exchange_rates=rates).loc[
        "anna", "sum_value"
    ] == pytest.approx(9)
    later = known(settings, date(2024, 4, 5), transactions=rows, exchange_rates=rates)
    assert later.loc["anna", "sum_value"] == pytest.approx(8)


def test_day_of_the_business_time_zone(settings: Settings) -> None:
    berlin = build_settings(settings.root, {"project": {"time_zone": "Europe/Berlin"}})
    rows = [{"user_id": "anna", "ts": "2024-03-31 22:30:00", "amount": 7}]
    # Summer time began that day: 22:30 UTC is half past midnight of the next one.
    assert known(berlin, transactions=rows).loc["anna", "sum_value"] == 0
    assert known(settings, transactions=rows).loc["anna", "sum_value"] == 7


def test_contribution_margin_and_orders_of_identical_lines(settings: Settings) -> None:
    sections = {
        "value": {"definition": "contribution_margin"},
        "inputs": {"transactions": {"files": ["x.csv"], "grain": "order"}},
    }
    chosen = build_settings(settings.root, sections)
    rows = [line("2024-03-01", 10, transaction_id="o", variable_cost=4)] * 2
    found = known(chosen, transactions=rows)
    assert found.loc["anna", "sum_value"] == 6
    assert found.loc["anna", "count_orders"] == 1


PEEK = """
    UPDATE features.customer_features AS f SET {column} = coalesce((
        SELECT {what} FROM raw.transactions AS t WHERE t.user_id = f.customer_id
            AND ts::DATE > f.cutoff_date - 90 AND ts::DATE <= f.cutoff_date + {days}
    ), 0)
"""


@pytest.mark.parametrize(
    ("column", "what"),
    [("sum_value_90d", "sum(amount)"), ("count_orders_90d", "count(*) FILTER (NOT is_refund)")],
)
def test_feature_that_peeks_past_the_cutoff_is_caught(
    shop: Settings, check: RunGate, column: str, what: str
) -> None:
    spoil(shop, PEEK.format(column=column, what=what, days=0))
    assert check("as_of").is_passed
    spoil(shop, PEEK.format(column=column, what=what, days=7))
    report = check("as_of")
    assert not report.is_passed
    assert "features of a sample differ from what the landed rows say as known" in report.sentence


def test_feature_that_peeks_only_where_it_trains_is_caught(shop: Settings, check: RunGate) -> None:
    peek = PEEK.format(column="sum_value_90d", what="sum(amount)", days=7)
    spoil(shop, f"{peek} WHERE f.cutoff_date < '2024-05-31'")
    report = check("as_of")
    assert not report.is_passed
    assert "at a training cutoff" in report.sentence


def test_new_feature_that_knows_the_label_is_caught(shop: Settings, check: RunGate) -> None:
    spoil(
        shop,
        "UPDATE features.customer_features AS f SET count_orders_30d = coalesce((SELECT "
        "any_value(label_value) FROM as_of.customer_labels AS l WHERE l.customer_id = "
        "f.customer_id AND l.cutoff_date = f.cutoff_date AND horizon_days = 30), 0)",
    )
    results = check("as_of").results
    found = results[results["check_name"] == "no_feature_knows_the_label"].iloc[0]
    assert not found["is_passed"]
    assert found["observed"] == "1"
    assert found["failed_keys"] == '["count_orders_30d"]'


def test_cutoff_built_before_late_rows_only_warns(shop: Settings, check: RunGate) -> None:
    """A source without ingested_at delivers late: the old cutoff can't know, and is not wrong."""
    spoil(
        shop,
        "UPDATE as_of.customer_history SET sum_value = sum_value - 1 WHERE cutoff_date < "
        "'2024-05-31' AND customer_id < 'customer 2'",
        "UPDATE features.customer_features SET sum_value = sum_value - 1, sum_value_90d = "
        "sum_value_90d - 1 WHERE cutoff_date < '2024-05-31' AND customer_id < 'customer 2'",
    )
    report = check("as_of")
    assert report.is_passed
    broken = set(report.results.loc[~report.results["is_passed"], "check_name"])
    assert broken == {"history_rebuilt", "total_of_training_cutoffs_ties_to_staging"}


def test_an_error_of_the_oracle_says_where_and_names_nobody(
    check: RunGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ValueError("anna@example.org")

    monkeypatch.setattr(recomputing, "_sample", break_down)
    sentence = check("as_of").sentence
    assert "could not be carried out: ValueError in recomputing.py, line" in sentence
    assert "anna" not in sentence
