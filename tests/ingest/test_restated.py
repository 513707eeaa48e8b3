"""An order that is delivered again with other content: said, and never in silence."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.ingest.conftest import HEADER, Shop, as_csv

SEEN = (*HEADER, "ingested_at")
FIRST = [("o1", "anna", "2024-01-05", "10.00"), ("o2", "bert", "2024-01-06", "20.00")]
WARNINGS = "SELECT path, message FROM ops.landing_warnings WHERE kind = 'restated_order'"


def test_new_content_of_an_order_in_another_file_is_said(shop: Shop) -> None:
    shop.write("a.csv", as_csv(FIRST))
    assert shop.land_transactions().warnings == ()
    shop.write("b.csv", as_csv([("o1", "anna", "2024-01-05", "99.00"), FIRST[1]]))
    report = shop.land_transactions()
    assert report.warnings == (
        "b.csv: 1 of its orders were delivered with other content too. The newest version counts, "
        "by ingested_at and then by file; staging.stg_transactions keeps the others with the days "
        "they were true.",
    )
    assert shop.query(WARNINGS) == [("b.csv", report.warnings[0])]
    # Both versions are kept, and one of them counts.
    build_stages(shop.settings, [Cutoff.parse("2024-01-31")], Cutoff.parse("2024-01-31"), "run")
    with open_warehouse(shop.settings, read_only=True) as connection:
        lines = read_frame(
            connection,
            "SELECT amount, is_current FROM staging.stg_transactions "
            "WHERE transaction_id = 'o1' ORDER BY amount",
        )
        history = read_frame(
            connection, "SELECT customer_id, sum_value FROM as_of.customer_history ORDER BY 1"
        )
    assert lines["amount"].tolist() == [Decimal("10"), Decimal("99")]
    assert lines["is_current"].tolist() == [False, True]
    assert history["sum_value"].tolist() == [99.0, 20.0]


def test_versions_within_a_file_are_said(shop: Shop) -> None:
    rows = [
        ("o1", "anna", "2024-01-05", "10.00", "2024-01-06"),
        ("o1", "anna", "2024-01-05", "12.00", "2024-01-09"),
        ("o2", "bert", "2024-01-05", "5.00", "2024-01-06"),
        ("o2", "bert", "2024-01-05", "5.00", "2024-01-09"),
    ]
    shop.write("a.csv", as_csv(rows, SEEN))
    assert [text[:20] for text in shop.land_transactions().warnings] == ["a.csv: 1 of its orde"]


@pytest.mark.parametrize(
    ("grain", "again"),
    [
        ("line", FIRST),
        ("line", [*FIRST, ("o3", "carl", "2024-01-07", "1.00")]),
        # A refund on another day is another refund, and belongs to the same order.
        ("line", [*FIRST, ("o1", "anna", "2024-01-08", "-10.00")]),
        ("order", [FIRST[0], *FIRST]),
        # Without an id no two rows are one order.
        ("line", [("", "anna", "2024-01-05", "99.00")]),
    ],
    ids=["the same", "a further order", "a refund", "a repeated row", "no id"],
)
def test_what_was_not_restated_is_not_said(
    shop: Shop, grain: str, again: Sequence[Sequence[object]]
) -> None:
    shop.inputs["transactions"]["grain"] = grain
    shop.write("a.csv", as_csv(FIRST))
    shop.land()
    shop.write("b.csv", as_csv(again).replace("\n", "\r\n"))
    report = shop.land_transactions()
    assert report.files_new == 1
    assert report.warnings == ()
    assert shop.query(WARNINGS) == []


def test_a_line_more_or_less_is_other_content_where_orders_have_lines(shop: Shop) -> None:
    shop.write("a.csv", as_csv(FIRST))
    shop.land()
    shop.write("b.csv", as_csv([FIRST[0], *FIRST]))
    assert [text[:20] for text in shop.land_transactions().warnings] == ["b.csv: 1 of its orde"]


def test_an_order_of_ten_million_is_kept_from_the_file_to_its_features(shop: Shop) -> None:
    shop.project["reporting_currency"] = "EUR"
    rows = [
        ("o1", "giant", "2024-01-05", "10000000.01"),
        ("o2", "giant", "2024-01-09", "30.00"),
        ("o3", "bert", "2024-01-06", "20.00"),
        ("o4", "bert", "2024-01-07", "1e308"),
        ("o5", "bert", "2024-01-08", "inf"),
        ("o6", "bert", "2024-01-09", "NaN"),
        ("o7", "giant", "2024-02-10", "10000000.01"),
    ]
    shop.write("a.csv", as_csv(rows))
    report = shop.land_transactions()
    assert report.new.count_kept == 4
    assert report.new.sum_kept == Decimal("20000050.02")
    cutoff = Cutoff.parse("2024-01-31")
    build_stages(shop.settings, [cutoff], cutoff.shift(30), "run")
    with open_warehouse(shop.settings, read_only=True) as connection:
        features = read_frame(
            connection,
            "SELECT sum_value, max_order_day_value, monetary_value, sum_value_30d "
            "FROM features.customer_features WHERE customer_id = 'giant'",
        )
        staged = connection.execute(
            "SELECT sum(value) FROM staging.stg_transactions WHERE is_current"
        ).fetchall()
        labels = connection.execute(
            "SELECT label_value FROM as_of.customer_labels "
            "WHERE customer_id = 'giant' AND horizon_days = 30"
        ).fetchall()
    assert staged == [(Decimal("20000050.02"),)]
    assert features.iloc[0].tolist() == [10_000_030.01, 10_000_000.01, 30.0, 10_000_030.01]
    assert labels == [(10_000_000.01,)]
