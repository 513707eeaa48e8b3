"""The rules of the feature gate come from the registry."""

from __future__ import annotations

import pytest

from clv_pipeline.settings import Settings
from tests.data_quality.quality_shop import RunGate, spoil


@pytest.mark.parametrize(
    ("change", "column", "says"),
    [
        ("count_orders_30d = -1", "count_orders_30d", "below 0 or not finite or missing"),
        ("count_orders_30d = NULL", "count_orders_30d", "below 0 or not finite or missing"),
        ("sum_value = 'nan'", "sum_value", "not finite or missing"),
        ("monetary_value = 'inf'", "monetary_value", "not finite"),
    ],
)
def test_value_out_of_its_range_is_caught(
    shop: Settings, check: RunGate, change: str, column: str, says: str
) -> None:
    spoil(
        shop,
        f"UPDATE features.customer_features SET {change} "
        "WHERE customer_id = 'customer 7' AND cutoff_date = '2024-05-31'",
    )
    report = check("features")
    broken = report.results[~report.results["is_passed"]]
    assert broken["column_name"].tolist() == [column]
    said = f"features.customer_features: 1 of 300 rows have a {column} that is {says} (rows"
    assert said in report.sentence


def test_missing_value_with_a_meaning_is_allowed(shop: Settings, check: RunGate) -> None:
    spoil(shop, "UPDATE features.customer_features SET monetary_value = NULL")
    assert check("features").is_passed


def test_feature_without_a_column_is_named(shop: Settings, check: RunGate) -> None:
    spoil(shop, "ALTER TABLE features.customer_features DROP COLUMN recency")
    report = check("features")
    assert not report.is_passed
    assert "check 'in_range: recency' could not be carried out: Binder Error" in report.sentence


def test_entry_that_cannot_be_read_is_reported(shop: Settings, check: RunGate) -> None:
    file = shop.paths.dbt_project / "models" / "features" / "feat_rfm.yml"
    file.write_text(file.read_text(encoding="utf-8").replace("kind: numeric", "kind: number"))
    report = check("features")
    assert not report.is_passed
    assert "needs a kind, one of numeric, categorical, flag" in report.sentence
