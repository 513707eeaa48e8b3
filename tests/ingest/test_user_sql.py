"""Columns and exclusions that the user writes in SQL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.ingest.conftest import HEADER, NO_NUMBER, Shop, as_csv


def test_columns_computed_by_the_user(shop: Shop) -> None:
    shop.write(
        "a.csv",
        as_csv(
            [("C7", "2", "3.50", "u"), ("8", "2", "1.25", "u"), ("9", "two", "1", "u")],
            ("invoice", "pieces", "price", "who"),
        ),
    )
    shop.inputs["transactions"]["columns"] = {
        "transaction_id": "invoice",
        "user_id": "who",
        "ts": {"sql": "'2024-01-01'"},
        "amount": {"sql": "CAST(pieces AS INTEGER) * CAST(price AS DECIMAL(9, 2))"},
        "is_refund": {"sql": "invoice LIKE 'C%'"},
    }
    report = shop.land_transactions()
    assert shop.query("SELECT transaction_id, amount, is_refund FROM raw.transactions") == [
        ("C7", Decimal("7"), True),
        ("8", Decimal("2.5"), False),
    ]
    # What is needed and can't be computed for a row costs that row alone.
    assert report.reasons == {"amount is missing": 1}
    assert report.warnings == ()


def test_exclusions_see_typed_values_and_other_columns(shop: Shop) -> None:
    rows = [("o1", "u", "2024-01-01", amount, kind) for amount, kind in
            [("9.5", "test"), ("-3", "real"), ("x", "real"), ("2", "real")]]  # fmt: skip
    shop.write("a.csv", as_csv(rows, (*HEADER, "kind")))
    shop.inputs["transactions"]["exclude"] = [
        {"sql": "kind = 'test'", "reason": "test order"},
        {"sql": "amount <= 0", "reason": "not paid"},
    ]
    report = shop.land_transactions()
    assert shop.query("SELECT row_number, column_name, reason FROM ops.quarantine ORDER BY 1") == [
        (1, None, "test order"),
        (2, None, "not paid"),
        (3, "amount", NO_NUMBER.format(".")),
    ]
    assert (report.new.sum_in, report.new.sum_quarantined) == (Decimal("8.5"), Decimal("6.5"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"columns": {"amount": {"sql": "amont * 2"}}},
            r"transactions\.columns\.amount' = \(amont",
        ),
        (
            {"exclude": [{"sql": "kinds = 1", "reason": "x"}]},
            r"transactions\.exclude\[0\]' = kinds",
        ),
        ({"columns": {"sku": {"sql": "CAST(user_id AS INT)"}}}, "Write TRY_CAST instead of CAST"),
    ],
)
def test_expressions_that_fail_are_named(shop: Shop, change: dict[str, Any], message: str) -> None:
    from clv_pipeline.ingest.report import LandingError

    shop.write("a.csv", as_csv([("o1", "u", "2024-01-01", "1")]))
    shop.inputs["transactions"].update(change)
    with pytest.raises(LandingError, match=message):
        shop.land()
