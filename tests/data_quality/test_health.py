"""What the features gate keeps of each feature, and when it warns or stops."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from clv_pipeline.features.registry import load_features
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, read_frame
from data_quality import health
from data_quality.gates import record_results, run_gate
from data_quality.results import GateReport
from tests.data_quality.quality_shop import CUTOFF, LABELLED, spoil

RULES = ("training_drift", "missing_more", "stale")


@pytest.fixture
def champion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A champion that was trained on the shop's earlier cutoffs."""
    days = [str(day) for day in LABELLED]
    manifest = {
        "horizons": {"30": {"training_cutoffs": days}, "60": {"training_cutoffs": days[:1]}}
    }
    monkeypatch.setattr(health.store, "champion_version", lambda folder: "m1")
    monkeypatch.setattr(health.store, "read_manifest", lambda folder, version: manifest)


def with_gates(shop: Settings, **gates: Any) -> Settings:
    return shop.model_copy(update={"gates": shop.gates.model_copy(update=gates)})


def check(shop: Settings, run_id: str = "run 2") -> GateReport:
    report = run_gate(shop, "features", CUTOFF, run_id)
    record_results(shop, report)
    return report


def kept(shop: Settings) -> pd.DataFrame:
    with open_warehouse(shop, read_only=True) as connection:
        rows = read_frame(connection, "SELECT * FROM ops.feature_health ORDER BY feature")
    return rows.set_index("feature")


def rules(report: GateReport) -> pd.DataFrame:
    found = report.results[report.results["check_name"].isin(RULES)]
    return found.set_index("check_name")


def test_a_row_is_kept_of_every_feature(shop: Settings, champion: None) -> None:
    spoil(
        shop,
        "UPDATE features.customer_features SET monetary_value = NULL "
        "WHERE cutoff_date = '2024-05-31' AND md5(customer_id) < '8'",
    )
    check(shop)
    check(shop)  # the same run again replaces its rows
    rows = kept(shop)
    names = [feature.name for feature in load_features(shop.paths.dbt_project)]
    assert sorted(rows.index) == sorted(names)
    with open_warehouse(shop, read_only=True) as connection:
        values = read_frame(
            connection, "SELECT * FROM features.customer_features WHERE cutoff_date = '2024-05-31'"
        )
    for name in names:
        row, present = rows.loc[name], values[name].dropna()
        assert row["null_share"] == pytest.approx(values[name].isna().mean())
        assert row["count_customers"] == len(values)
        assert row["minimum"] == pytest.approx(present.min())
        assert row["quantile_50"] == pytest.approx(present.median())
        assert row["quantile_95"] == pytest.approx(present.quantile(0.95))
        assert row["maximum"] == pytest.approx(present.max())
        assert row["model_version"] == "m1"
    assert rows["psi_training"].notna().all()
    assert rows["psi_last_run"].isna().all()
    assert rows["age_days"].nunique() == 1


def test_without_a_champion_there_is_nothing_to_compare_with(shop: Settings) -> None:
    report = check(shop)
    assert kept(shop)["psi_training"].isna().all()
    found = rules(report)
    assert found["is_passed"].all()
    assert "there is no champion" in found.loc["training_drift", "message"]


def test_the_training_set_is_described_once(shop: Settings, champion: None) -> None:
    check(shop)
    before = kept(shop)["psi_training"]
    # Had it been read again, everything would have moved.
    spoil(
        shop,
        "UPDATE features.customer_features SET frequency = 99 WHERE cutoff_date < '2024-05-31'",
    )
    check(shop)
    pd.testing.assert_series_equal(kept(shop)["psi_training"], before)


@pytest.mark.parametrize("does", ["warn", "stop"])
def test_features_that_left_the_training_set_warn_or_stop(
    shop: Settings, champion: None, does: str
) -> None:
    gates = with_gates(shop, feature_health=does, max_training_drift_share=0.1, max_null_rise=0.5)
    check(gates)
    spoil(
        shop,
        "UPDATE features.customer_features SET sum_value_90d = -5e6, sum_value_30d = -5e6, "
        "monetary_value = NULL WHERE cutoff_date = '2024-05-31'",
    )
    report = check(gates)
    found = rules(report)
    assert found["is_passed"].to_dict() == {
        "training_drift": False, "missing_more": False, "stale": True
    }  # fmt: skip
    assert set(found["severity"]) == {does}
    assert report.is_passed == (does == "warn")
    assert "sum_value_90d" in found.loc["training_drift", "failed_keys"]
    assert found.loc["missing_more", "failed_keys"] == '["monetary_value"]'
    assert "away from what the champion was trained on" in found.loc["training_drift", "message"]


def test_a_stale_input_is_said_of_its_features(shop: Settings) -> None:
    spoil(
        shop,
        "DELETE FROM intermediate.int_customer_days WHERE activity_date > DATE '2024-05-31' - 20",
    )
    found = rules(check(shop))
    assert not found.loc["stale", "is_passed"]
    assert "older than 14 days" in found.loc["stale", "message"]
    assert kept(shop)["age_days"].min() >= 20
    assert rules(check(with_gates(shop, max_feature_age_days=40))).loc["stale", "is_passed"]
