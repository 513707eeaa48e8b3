"""Weights by cluster and for giants, on made-up customers."""

from __future__ import annotations

import numpy as np
import pytest

from clv_pipeline.models.blending import HALF_BELIEVED, LEAST_WORD, ClusterBlend
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
    np.testing.assert_allclose(found[top], blend.scale_ * value[top])
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


def test_one_expert_who_hopes_for_everybody_does_not_lift_the_lowest():
    rng = np.random.default_rng(3)
    truth = np.exp(rng.normal(0, 2.5, 20_000))
    hopeful = np.maximum(truth, 0.3)
    experts = {"tweedie": truth, "poisson": hopeful}
    cluster = np.zeros(len(truth), dtype=np.int64)
    blend = ClusterBlend(shrinkage=1.0).fit(experts, truth, cluster, 1)
    found = blend.predict(experts, cluster)
    assert found.sum() == pytest.approx(0.5 * (truth + hopeful).sum())
    lowest = np.argsort(truth)[:2000]
    assert found[lowest].mean() < 0.7 * (0.5 * (truth + hopeful)[lowest]).mean()
    # A word of nothing is not believed altogether, and nothing stays nothing.
    silent = {"tweedie": np.array([0.0, 0.0, 1.0]), "poisson": np.array([1.0, 0.0, 1.0])}
    low, none, same = blend.predict(silent, cluster[:3]) / blend.scale_
    assert none == 0.0 and same == pytest.approx(1.0)
    assert low == pytest.approx(np.sqrt(1.0 * LEAST_WORD * 0.5))


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
