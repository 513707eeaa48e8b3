"""Measures, held to scikit-learn, scipy, brute force or a closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from clv_pipeline.evaluation import metrics as m

small = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=2, max_size=40).map(
    lambda pairs: (np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs], float))
)


def brute_gini(actual, predicted):
    """Gini of the Lorenz curve, averaged over every order that the ties allow."""
    n = len(actual)
    found = []
    for order in itertools.permutations(range(n)):
        scores = [predicted[i] for i in order]
        if all(a >= b for a, b in itertools.pairwise(scores)):
            curve = np.cumsum([actual[i] for i in order]) / sum(actual)
            found.append(curve.sum() / n - (n + 1) / (2 * n))
    return np.mean(found)


@pytest.mark.parametrize("seed", range(6))
def test_normalized_gini_averages_over_every_order_of_ties(seed):
    rng = np.random.default_rng(seed)
    actual, predicted = rng.integers(0, 5, 6).astype(float), rng.integers(0, 3, 6).astype(float)
    actual[0] += 1
    expected = brute_gini(actual, predicted) / brute_gini(actual, actual)
    assert m.normalized_gini(actual, predicted) == pytest.approx(expected, abs=1e-12)


def test_a_constant_ranks_nothing():
    actual = np.array([0.0, 0, 5, 9, 1])
    constant = np.full(5, 3.0)
    assert m.normalized_gini(actual, constant) == 0
    assert m.spearman(actual, constant) == 0
    assert m.auc(actual > 0, constant) == 0.5
    assert m.top_capture(actual, constant, 0.1) == pytest.approx(0.1)
    assert m.normalized_gini(actual, actual) == 1
    assert m.normalized_gini(actual, -actual) == -1


@given(small)
def test_rank_measures_equal_the_libraries(pair):
    actual, predicted = pair
    if len(set(actual)) > 1 and len(set(predicted)) > 1:
        expected = stats.spearmanr(actual, predicted).statistic
        assert m.spearman(actual, predicted) == pytest.approx(expected, abs=1e-9)
    happened = actual > 2
    if 0 < happened.sum() < len(happened):
        assert m.auc(happened, predicted) == pytest.approx(sk.roc_auc_score(happened, predicted))
        assert m.average_precision(happened, predicted) == pytest.approx(
            sk.average_precision_score(happened, predicted)
        )


@given(small, st.randoms(use_true_random=False))
def test_no_measure_depends_on_the_order_of_rows(pair, random):
    actual, predicted = pair
    order = list(range(len(actual)))
    random.shuffle(order)
    before = m.value_measures(actual, predicted)
    after = m.value_measures(actual[order], predicted[order])
    assert after == pytest.approx(before, abs=1e-9, nan_ok=True)


@given(small, st.integers(0, 2**32 - 1))
def test_integer_weights_are_repeated_rows(pair, seed):
    actual, predicted = pair
    weights = np.random.default_rng(seed).integers(0, 4, len(actual))
    weights[0] = 1
    y, p = np.repeat(actual, weights), np.repeat(predicted, weights)
    for measure in (m.normalized_gini, m.spearman, m.rmse, m.mae, m.wape, m.total_bias):
        assert measure(actual, predicted, weights) == pytest.approx(
            measure(y, p), abs=1e-9, nan_ok=True
        )
    assert m.top_capture(actual, predicted, 0.2, weights) == pytest.approx(
        m.top_capture(y, p, 0.2), abs=1e-9, nan_ok=True
    )
    assert m.auc(actual > 2, predicted, weights) == pytest.approx(
        m.auc(y > 2, p), abs=1e-9, nan_ok=True
    )


def test_errors_equal_scikit_learn():
    rng = np.random.default_rng(1)
    actual, predicted = rng.exponential(10, 200), rng.exponential(9, 200)
    assert m.rmse(actual, predicted) == pytest.approx(sk.root_mean_squared_error(actual, predicted))
    assert m.mae(actual, predicted) == pytest.approx(sk.mean_absolute_error(actual, predicted))
    assert m.wape(actual, predicted) == pytest.approx(
        sk.mean_absolute_error(actual, predicted) / actual.mean()
    )
    assert m.total_bias(actual, predicted) == pytest.approx(predicted.sum() / actual.sum() - 1)
    for quantile in (0.1, 0.5, 0.9):
        assert m.pinball(actual, predicted, quantile) == pytest.approx(
            sk.mean_pinball_loss(actual, predicted, alpha=quantile)
        )


def test_probability_measures_equal_scikit_learn():
    rng = np.random.default_rng(2)
    probability = rng.uniform(size=300)
    happened = (rng.uniform(size=300) < probability).astype(float)
    assert m.brier(happened, probability) == pytest.approx(
        sk.brier_score_loss(happened, probability)
    )
    assert m.log_loss(happened, probability) == pytest.approx(sk.log_loss(happened, probability))
    called = probability >= 0.6
    expected = sk.precision_recall_fscore_support(happened, called, average="binary")[:3]
    assert m.precision_recall_f1(happened, probability, 0.6) == pytest.approx(expected)
    assert m.precision_recall_f1(happened, probability, 2.0) == (0, 0, 0)


def test_calibration_error_by_hand():
    # Two bins: .1 and .2 with one hit of two (gap .35), .9 with one miss (gap .9).
    happened, probability = [1, 0, 0], [0.1, 0.2, 0.9]
    assert m.calibration_error(happened, probability, bins=2) == pytest.approx(
        2 / 3 * 0.35 + 1 / 3 * 0.9
    )


def test_deciles_by_hand():
    actual, predicted = np.arange(20.0), np.arange(20.0) * 2
    mean_predicted, mean_actual = m.decile_calibration(actual, predicted)
    assert mean_actual.tolist() == [0.5 + 2 * k for k in range(10)]
    assert mean_predicted.tolist() == [1.0 + 4 * k for k in range(10)]
    assert m.decile_mape(actual, predicted) == pytest.approx(1.0)
    # A constant's deciles all hold the mean: no error, whatever the order of rows.
    assert m.decile_mape(actual, np.full(20, actual.mean())) == pytest.approx(0)
    assert np.isnan(m.decile_mape(np.zeros(20), predicted))


def test_top_capture_by_hand():
    actual = np.array([10.0, 0, 30, 60])
    assert m.top_capture(actual, [1, 2, 3, 4], 0.25) == pytest.approx(0.6)
    assert m.top_capture(actual, [1, 2, 3, 4], 0.5) == pytest.approx(0.9)
    # Half of a customer at the border counts for half of its value.
    assert m.top_capture(actual, [1, 2, 3, 4], 0.375) == pytest.approx(0.75)
    assert np.isnan(m.top_capture(np.zeros(4), [1, 2, 3, 4], 0.5))


def test_coverage_counts_the_bounds_as_inside():
    bounds = {"p10": [0, 0, 2], "p50": [0, 1, 3], "p90": [0, 4, 4]}
    figures = m.interval_measures([0, 5, 4], bounds)
    assert figures["coverage_80"] == pytest.approx(2 / 3)
    assert figures["coverage_80_buyers"] == pytest.approx(1 / 2)
    assert "interval_95" not in figures
    ends = {"low_95": [0, 0, 0], "low_80": [0, 0, 5], "high_80": [0, 4, 6], "high_95": [0, 5, 7]}
    figures = m.interval_measures([0, 5, 4], bounds | ends)
    assert figures["interval_80"] == pytest.approx(1 / 3)
    assert figures["interval_95"] == 1.0
    assert (figures["interval_80_buyers"], figures["interval_95_buyers"]) == (0.0, 1.0)
    assert np.isnan(m.coverage([], [], []))
