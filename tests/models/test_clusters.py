"""K-means whose clusters keep their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from clv_pipeline.models.clusters import BEHAVIOUR, BehaviourClusters
from clv_pipeline.models.panel import Matrix

CENTERS = np.array([[0, 0, 40, 40, 20, 0], [3, 60, 80, 20, 90, 30], [20, 300, 310, 5, 900, 45]])


def customers(seed=0, n=90, shuffle=None, scale=1.0):
    rng = np.random.default_rng(seed)
    points = np.repeat(CENTERS, n // 3, axis=0) * rng.uniform(0.9, 1.1, (n, 6))
    points[:, [0, 4, 5]] *= scale
    if shuffle is not None:
        points = points[np.random.default_rng(shuffle).permutation(n)]
    keys = np.arange(n).astype(str).astype(object)
    days = np.full(n, np.datetime64("2024-01-31"))
    return Matrix(keys, days, BEHAVIOUR, points.astype(np.float32))


def test_clusters_are_found_and_distances_are_those_to_the_centroids():
    X = customers()
    clusters = BehaviourClusters(3).fit(X)
    numbers = clusters.predict(X)
    assert [len(set(numbers[k : k + 30])) for k in (0, 30, 60)] == [1, 1, 1]
    assert len(set(numbers)) == 3
    points = clusters.standardize(X)
    brute = [[np.linalg.norm(p - c) for c in clusters.centroids_] for p in points]
    np.testing.assert_allclose(clusters.distances(X), brute)
    assert list(clusters.columns(X)) == [f"cluster_distance_{k}" for k in range(3)]


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0], [2, 1, 0]])
def test_numbers_survive_a_refit_that_numbers_another_way(order):
    before = BehaviourClusters(3, seed=1).fit(customers())
    later = customers(seed=5, shuffle=3, scale=1.05)
    after = BehaviourClusters(3, seed=9).fit(later)
    after.centroids_ = after.centroids_[order]
    after.align(before)
    np.testing.assert_array_equal(after.predict(customers()), before.predict(customers()))


def test_a_further_cluster_takes_the_next_number():
    before = BehaviourClusters(2).fit(customers())
    after = BehaviourClusters(3).fit(customers()).align(before)
    assert len(after.centroids_) == 3
    gap = before.centroids_ * before.spread_ + before.center_
    gap = (gap - after.center_) / after.spread_ - after.centroids_[:2]
    # Each old centroid is nearer to the cluster of its number than to the new one.
    assert (np.linalg.norm(gap, axis=1) < 3).all()


def test_fits_repeat_themselves_and_survive_saving():
    X = customers(shuffle=1)
    one, other = BehaviourClusters(3, 4).fit(X), BehaviourClusters(3, 4).fit(X)
    np.testing.assert_array_equal(one.centroids_, other.centroids_)
    assert one.to_files() == other.to_files()
    again = BehaviourClusters.from_files(one.to_files())
    np.testing.assert_array_equal(again.distances(X), one.distances(X))


def test_missing_values_and_one_customer():
    X = customers(n=3)
    X.values[0] = np.nan
    clusters = BehaviourClusters(6).fit(X.take(np.array([0])))
    assert len(clusters.centroids_) == 1
    assert clusters.predict(X).tolist() == [0, 0, 0]
