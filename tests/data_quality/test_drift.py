from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clv_pipeline.features.registry import Feature, load_features
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, read_frame
from data_quality.drift import Distribution, Reference, compare, describe
from data_quality.gates import record_results, run_gate
from data_quality.suites import features
from data_quality.suites.run import Run
from tests.data_quality.quality_shop import CUTOFF, RunGate, spoil

NUMBER = Feature("x", "v", "numeric", "double", "X.", None, None, None, "none", frozenset(), True)
TEXT = Feature(
    "x", "v", "categorical", "varchar", "X.", None, None, None, "none", frozenset(), True
)


def distribution(values: list[object], feature: Feature = NUMBER) -> Distribution:
    return describe(pd.DataFrame({"x": values}), (feature,), lambda name: f"#{name}")["x"]


def test_psi_of_two_known_histograms() -> None:
    before = Distribution(None, {"a": 59, "b": 39})
    now = Distribution(None, {"a": 19, "b": 79})
    # With half a customer added: shares .601 and .399, then .197 and .803.
    p, q = np.array([59.5, 39.5]) / 99, np.array([19.5, 79.5]) / 99
    expected = (q[0] - p[0]) * np.log(q[0] / p[0]) + (q[1] - p[1]) * np.log(q[1] / p[1])
    assert compare(before, now).psi == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=80))
def test_distribution_counts_everybody_and_is_stable_against_itself(
    values: list[float | None],
) -> None:
    found = distribution(list(values))
    assert sum(found.counts.values()) == len(values)
    assert compare(found, found).psi == 0


def test_point_mass_that_moves_is_seen() -> None:
    zeros = distribution([0.0] * 200 + [5.0] * 20)
    frame = pd.DataFrame({"x": [0.001] * 200 + [5.0] * 20})
    reference = Reference("r", CUTOFF.day, {"x": zeros})
    moved = describe(frame, (NUMBER,), str, reference)["x"]
    assert compare(zeros, moved).psi > 5


def test_categories_are_pseudonyms_and_rare_ones_pooled() -> None:
    found = distribution([f"country {n}" for n in range(30) for _ in range(31 - n)], TEXT)
    assert len(found.counts) == 22  # twenty, the others, the missing
    assert "#country 0" in found.counts
    assert sum(found.counts.values()) == sum(range(2, 32))


def _good_run_before(shop: Settings, days_earlier: int) -> None:
    """Publish what is there as the good run of an earlier cutoff."""
    earlier = CUTOFF.shift(-days_earlier)
    report = run_gate(shop, "features", CUTOFF, "run 1")
    record_results(shop, report)
    spoil(
        shop,
        f"UPDATE ops.feature_reference SET cutoff_date = '{earlier}'",
        "INSERT INTO ops.data_quality BY NAME SELECT 'run 1' AS run_id, 'published' AS gate, "
        f"DATE '{earlier}' AS cutoff_date, 'stop' AS severity, true AS is_passed",
    )


def test_first_run_has_nothing_to_drift_from(check: RunGate) -> None:
    results = check("features").results
    drift = results[results["check_name"] == "drift"]
    assert len(drift) == 13
    assert drift["observed"].isna().all()
    assert drift["message"].str.startswith("there is no earlier good run").all()


def test_same_distributions_pass(shop: Settings, check: RunGate) -> None:
    _good_run_before(shop, 1)
    results = check("features").results
    assert (results.loc[results["check_name"] == "drift", "observed"] == "0").all()
    assert results["is_passed"].all()


def test_drift_of_one_feature_warns(shop: Settings, check: RunGate) -> None:
    _good_run_before(shop, 1)
    spoil(shop, "UPDATE features.customer_features SET sum_value_90d = sum_value_90d * 100")
    report = check("features")
    broken = report.results[~report.results["is_passed"]]
    assert broken["column_name"].tolist() == ["sum_value_90d"]
    told = "the population stability index of sum_value_90d against the last good run"
    assert told in broken["message"].iloc[0]
    assert report.is_passed
    assert report.sentence.endswith("with 1 warning.")


def test_what_the_calendar_moves_is_no_drift(shop: Settings) -> None:
    known = load_features()
    suite = features.drift(Run(shop, CUTOFF, "run 2", frozenset()), known, "drifted", 1)
    judged = {rule.column for rule in suite.rules} - {None}
    assert {feature.name for feature in known} - judged == {"days_to_next_holiday"}


@pytest.mark.parametrize(("days", "is_passed"), [(1, False), (60, True)])
def test_most_features_at_once_stop_the_run_unless_long_ago(
    shop: Settings, check: RunGate, days: int, is_passed: bool
) -> None:
    _good_run_before(shop, days)
    spoil(
        shop,
        'UPDATE features.customer_features SET frequency = 0, recency = 0, "T" = 0, '
        "monetary_value = NULL, count_order_days = 0, count_orders = 0, sum_value = 0, "
        "sum_refunds = 0",
    )
    report = check("features")
    assert report.is_passed is is_passed
    assert is_passed or "of the features have drifted since the last good run" in report.sentence


def test_run_that_was_not_published_is_no_reference(shop: Settings, check: RunGate) -> None:
    _good_run_before(shop, 1)
    spoil(shop, "UPDATE ops.data_quality SET is_passed = false WHERE gate = 'published'")
    results = check("features").results
    assert results.loc[results["check_name"] == "drift", "observed"].isna().all()


def test_reference_counts_every_customer_of_the_sample(shop: Settings) -> None:
    _good_run_before(shop, 1)
    with open_warehouse(shop) as connection:
        bins = read_frame(
            connection,
            "SELECT feature, sum(count_customers) AS customers FROM ops.feature_reference "
            "GROUP BY 1",
        )
    assert (bins["customers"] == 300).all()
