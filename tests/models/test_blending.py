"""Weights by cluster and for giants, and the calibration of deciles, on made-up customers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clv_pipeline.models.blending import HALF_BELIEVED, ClusterBlend
from clv_pipeline.models.deciles import LEAST_SLOPE, DecileCalibration
from clv_pipeline.models.intervals import pool_residuals


def two_kinds(n=4000, seed=1):
    """Two clusters, each foreseen by an expert of its own."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(1.0, 20.0, n)
    cluster = rng.integers(0, 2, n)
    other = rng.permutation(truth)
    experts = {
        "tweedie": np.where(cluster == 0, truth, other),
        "poisson": np.where(cluster == 1, truth, other),
    }
    return experts, rng.poisson(truth).astype(float), cluster


def test_each_cluster_believes_the_expert_that_knows_it():
    experts, actual, cluster = two_kinds()
    blend = ClusterBlend(shrinkage=0.0).fit(experts, actual, cluster, 3)
    assert blend.by_cluster_[0]["tweedie"] > 0.9
    assert blend.by_cluster_[1]["poisson"] > 0.9
    # Of a cluster without any customer nothing is known but the shop's weights.
    assert blend.by_cluster_[2] == pytest.approx(blend.weights_)
    error = np.abs(blend.predict(experts, cluster) - actual).mean()
    everyone = ClusterBlend.given(blend.weights_).predict(experts, cluster)
    assert error < 0.8 * np.abs(everyone - actual).mean()


def test_few_buyers_leave_a_cluster_with_the_weights_of_the_shop():
    experts, actual, cluster = two_kinds()
    rows = np.flatnonzero((cluster == 0) | (np.arange(len(cluster)) < 60))
    few = {name: values[rows] for name, values in experts.items()}
    blend = ClusterBlend(shrinkage=0.0).fit(few, actual[rows], cluster[rows], 2)
    bought = int(((cluster[rows] == 1) & (actual[rows] > 0)).sum())
    assert 10 < bought < 60
    # Its own best is all for poisson; the shop's is (nearly) all for tweedie.
    believed = bought / (bought + HALF_BELIEVED)
    expected = believed + (1 - believed) * blend.weights_["poisson"]
    assert blend.by_cluster_[1]["poisson"] == pytest.approx(expected, abs=0.1 * believed + 1e-9)


def test_giants_are_left_to_those_who_go_beyond_leaves():
    rng = np.random.default_rng(2)
    value = np.exp(rng.normal(3, 1.5, 5000))
    levelled = np.minimum(value, 300.0)
    experts = {"btyd": value, "hurdle": value, "tweedie": levelled, "poisson": levelled}
    actual = rng.poisson(value).astype(float)
    cluster = np.zeros(5000, dtype=np.int64)
    blend = ClusterBlend(shrinkage=1.0).fit(experts, actual, cluster, 1)
    weights = blend.row_weights(experts, cluster)
    np.testing.assert_allclose(sum(weights.values()), 1.0)
    top = np.argsort(value)[-5:]
    assert (weights["tweedie"][top] == 0).all() and (weights["btyd"][top] == 0.5).all()
    usual = np.argsort(value)[:4000]
    np.testing.assert_allclose(weights["tweedie"][usual], 0.25)
    found = blend.predict(experts, cluster)
    np.testing.assert_allclose(found[top], value[top])
    # Without an expert that starts from buy-till-you-die there is nobody to leave them to.
    del experts["btyd"]
    assert ClusterBlend().fit(experts, actual, cluster, 1).giants_ is None


def test_a_blend_survives_saving_and_does_not_depend_on_the_order_of_rows():
    experts, actual, cluster = two_kinds(800)
    experts |= {"btyd": experts["tweedie"] * 1.1, "hurdle": experts["poisson"] * 0.9}
    blend = ClusterBlend().fit(experts, actual, cluster, 2)
    again = ClusterBlend.from_dict(blend.to_dict())
    np.testing.assert_array_equal(again.predict(experts, cluster), blend.predict(experts, cluster))
    order = np.random.default_rng(0).permutation(800)
    mixed = {name: values[order] for name, values in experts.items()}
    other = ClusterBlend().fit(mixed, actual[order], cluster[order], 2)
    assert other.weights_ == pytest.approx(blend.weights_)
    assert blend.giants_ is not None


def test_deciles_that_were_missed_are_put_right_and_the_total_is_kept():
    rng = np.random.default_rng(3)
    truth = rng.gamma(0.7, 40.0, 40_000)
    actual = rng.poisson(truth).astype(float)
    # Small values are predicted too high, large ones too low.
    predicted = 6.0 * truth**0.6
    found = DecileCalibration().fit(predicted, actual).predict(predicted)
    assert found.sum() == pytest.approx(predicted.sum())

    def missed(values):
        parts = np.array_split(np.argsort(values), 10)
        level = actual.sum() / values.sum()
        return np.mean([abs(values[p].sum() * level / actual[p].sum() - 1) for p in parts])

    assert missed(found) < 0.25 * missed(predicted)
    np.testing.assert_array_equal(np.argsort(found, kind="stable"), np.argsort(predicted))
    # The largest keep their distances.
    top = np.argsort(predicted)[-100:]
    ratio = found[top] / predicted[top]
    np.testing.assert_allclose(ratio, ratio[0])


def test_one_giant_does_not_bend_the_deciles_nor_do_a_handful():
    rng = np.random.default_rng(4)
    predicted = rng.gamma(0.7, 40.0, 2000)
    actual = np.where(rng.uniform(size=2000) < 0.3, predicted / 0.3, 0.0)
    calm = DecileCalibration().fit(predicted, actual)
    actual[np.argmin(predicted)] = 1e7
    wild = DecileCalibration().fit(predicted, actual)
    # Its own decile rises a little; the others stay within a few percent of where they were.
    assert np.exp(wild.factors_).max() < 2.0
    assert np.abs(wild.factors_[1:] - calm.factors_[1:]).max() < 0.1
    assert np.exp(np.abs(calm.factors_)).max() < 1.5
    few = DecileCalibration().fit(predicted[:50], actual[:50])
    np.testing.assert_array_equal(few.predict(predicted), predicted)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 3.0), st.floats(0.01, 0.9))
def test_a_calibrated_value_rises_with_the_prediction(seed, spread, chance):
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.normal(0, spread, 600))
    actual = np.where(rng.uniform(size=600) < chance, rng.exponential(1.0, 600), 0.0)
    model = DecileCalibration().fit(predicted, actual)
    grid = np.exp(np.linspace(-12, 12, 500))
    slope = np.diff(np.log(model.predict(grid))) / np.diff(np.log(grid))
    assert (slope >= LEAST_SLOPE - 1e-6).all()
    assert model.predict(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    again = DecileCalibration.from_dict(model.to_dict())
    np.testing.assert_array_equal(again.predict(grid), model.predict(grid))


def test_pooled_residuals_know_no_level():
    rng = np.random.default_rng(5)

    def window(level):
        p = rng.uniform(0.05, 0.6, 5000)
        came = rng.uniform(size=5000) < np.clip(p * level, 0, 1)
        actual = np.where(came, 10.0, 0.0)
        return np.full((5000, 1), 10.0), p, 10.0 * p, actual

    parts = [window(1.0), window(1.4), window(0.7)]
    amounts, probability, value, actual = pool_residuals(parts)
    assert len(amounts) == 15_000
    for k in range(3):
        rows = slice(5000 * k, 5000 * (k + 1))
        assert value[rows].sum() == pytest.approx(actual[rows].sum())
        assert probability[rows].sum() == pytest.approx((actual[rows] > 0).sum(), rel=1e-6)
        np.testing.assert_array_equal(actual[rows], parts[k][3])
