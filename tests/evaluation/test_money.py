"""What answers are worth in money, by hand; and calibration by tenths."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from clv_pipeline.evaluation.backtest import FoldResult, measure_folds
from clv_pipeline.evaluation.calibration import calibrate_folds, calibration_bins, concentration
from clv_pipeline.evaluation.metrics import (
    decile_calibration,
    operating_threshold,
    purchase_measures,
    top_capture,
)
from clv_pipeline.evaluation.money import (
    CostMatrix,
    retention_money,
    stake_of,
    sum_of_top,
    value_money,
)
from clv_pipeline.models.panel import Target
from clv_pipeline.settings import build_settings
from clv_pipeline.timeline import Cutoff, Fold

COSTS = CostMatrix(
    contact_cost=2.0, margin_share=0.5, lift_share=0.2, save_rate=0.25, budgets=(2, 4, 99)
)


def test_profit_and_value_captured_by_hand():
    found = value_money([100.0, 0.0, 50.0, 10.0], [9.0, 8.0, 7.0, 1.0], COSTS)
    assert found == {
        "value_captured_at_2": pytest.approx(100 / 160),
        "profit_at_2": pytest.approx(0.5 * 0.2 * 100 - 2 * 2),
        "value_captured_at_4": pytest.approx(1.0),
        "profit_at_4": pytest.approx(0.5 * 0.2 * 160 - 2 * 4),
    }


def test_equal_scores_at_the_border_are_taken_in_part():
    assert sum_of_top([6.0, 0.0, 3.0], [1.0, 1.0, 1.0], 1) == pytest.approx(3.0)
    assert sum_of_top([6.0, 0.0, 3.0], [2.0, 1.0, 1.0], 2) == pytest.approx(7.5)


def test_retention_and_wrong_calls_by_hand():
    # Stakes 40, 40, 8, 0: a contact that saves a quarter of half of that is worth 5, 5, 1 and 0.
    found = retention_money(
        bought=[False, True, False, True],
        probability=[0.4, 0.2, 0.9, 0.9],
        at_stake=[40.0, 40.0, 8.0, 0.0],
        costs=COSTS,
    )
    # By (1 - p) x stake the second and the first are reached; only the first would have gone.
    assert found["retained_value_at_2"] == pytest.approx(0.25 * 40)
    assert found["retained_share_at_2"] == pytest.approx(40 / 48)
    # .6 x 5 and .8 x 5 exceed a contact: one is wasted; the third is missed but worth no contact.
    assert found["cost_of_wrong_calls"] == pytest.approx(2.0 / 4)


def test_a_missed_customer_costs_what_a_contact_would_have_brought():
    found = retention_money([False], [0.99], [40.0], COSTS)
    assert found["cost_of_wrong_calls"] == pytest.approx(0.25 * 0.5 * 40 - 2.0)


def test_a_short_past_is_not_stretched():
    found = stake_of([30.0, 30.0, None, -5.0], [300.0, 3.0, 10.0, 10.0], 30)
    np.testing.assert_allclose(found, [3.0, 30.0, 0.0, 0.0])


def test_a_margin_is_not_reduced_twice(tmp_path):
    sections = {"evaluation": {"margin_share": 0.4, "budget_customers": [7]}}
    plain = CostMatrix.from_settings(build_settings(tmp_path, sections))
    assert (plain.margin_share, plain.budgets) == (0.4, (7,))
    sections |= {"value": {"definition": "contribution_margin"}}
    assert CostMatrix.from_settings(build_settings(tmp_path, sections)).margin_share == 1.0


def test_as_many_are_called_as_are_expected_to_buy():
    probability = np.array([0.9, 0.6, 0.3, 0.15, 0.05])  # two buyers are expected
    assert operating_threshold(probability) == 0.6
    found = purchase_measures([True, False, True, False, False], probability)
    assert found["threshold"] == 0.6
    assert (found["precision"], found["recall"]) == (0.5, 0.5)
    assert found["churn_precision"] == pytest.approx(2 / 3)
    assert found["churn_recall"] == pytest.approx(2 / 3)
    assert operating_threshold([0.1, 0.2]) == float("inf")


@pytest.fixture(scope="module")
def result() -> FoldResult:
    rng = np.random.default_rng(0)
    n = 400
    truth = rng.gamma(0.6, 30, n)
    actual = np.where(rng.random(n) < 0.5, np.round(truth), 0.0)
    fold = Fold(Cutoff(date(2024, 3, 31)), (Cutoff(date(2023, 12, 31)),), 90)
    return FoldResult(
        fold,
        np.array([f"c{k}" for k in range(n)]),
        Target(actual, (actual > 0).astype(float), actual > 0),
        {"ensemble": truth / 2, "btyd": truth / 3, "zero": np.zeros(n)},
        {"ensemble": np.clip(truth / 60, 0, 1)},
        {},
        {"country": np.where(np.arange(n) % 4 == 0, "DE", "FR")},
        "",
        truth,
    )


def test_calibration_is_a_table_of_tenths(result):
    table = calibrate_folds([result])
    ensemble = table[(table["model"] == "ensemble") & (table["target"] == "value")]
    assert ensemble["bin"].tolist() == list(range(1, 11))
    assert ensemble["count_customers"].sum() == 400
    predicted, actual = decile_calibration(result.target.value, result.value["ensemble"])
    np.testing.assert_allclose(ensemble["mean_predicted"], predicted)
    np.testing.assert_allclose(ensemble["mean_actual"], actual)
    assert ensemble["share_of_actual"].sum() == pytest.approx(1)
    mean_square = (ensemble["rmse"] ** 2 * ensemble["count_customers"]).sum() / 400
    expected = np.mean((result.target.value - result.value["ensemble"]) ** 2)
    assert mean_square == pytest.approx(expected)
    assert set(table.loc[table["target"] == "purchase", "model"]) == {"ensemble"}
    # Whoever predicts the same for everyone has the same actual mean in each bin.
    zero = table[table["model"] == "zero"]
    assert zero["mean_actual"].nunique() == 1


def test_bins_of_a_handful_of_customers():
    rows = list(calibration_bins([1.0, 3.0], [2.0, 1.0]))
    assert [(row[0], row[1], row[3]) for row in rows] == [(1, 1, 3.0), (2, 1, 1.0)]


def test_concentration_agrees_with_the_capture(result):
    shares, found = concentration(result.target.value, result.value["ensemble"])
    assert found[10] == pytest.approx(
        top_capture(result.target.value, result.value["ensemble"], 0.10)
    )
    assert (np.diff(found) >= -1e-12).all() and found[0] == 0 and found[-1] == pytest.approx(1)
    assert len(shares) == 101


def test_slices_are_measured_for_what_serves(result):
    table = measure_folds([result], COSTS, {90: "btyd"})
    sliced = table[table["slice_name"] == "country"]
    assert set(sliced["model"]) == {"ensemble", "btyd"}
    assert set(sliced["slice_value"]) == {"DE", "FR"}
    measures = set(sliced.loc[sliced["model"] == "ensemble", "measure"])
    assert {"threshold", "churn_recall", "profit_at_2", "cost_of_wrong_calls"} <= measures
    key = ["model", "slice_name", "slice_value", "measure"]
    assert not table.duplicated(key).any()
