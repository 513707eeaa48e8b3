"""What is looked up by pattern is what XGBoost's TreeSHAP says of each row."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost as xgb

from clv_pipeline.models import treeshap
from clv_pipeline.models.panel import Matrix
from clv_pipeline.models.treeshap import TreeContributions

NAMES = ("a", "b", "kind", "c")


@pytest.fixture(scope="module")
def rows():
    """Numbers with gaps, a category, and few distinct rows at the end."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(1_500, 4)).astype(np.float32)
    values[:, 2] = rng.integers(0, 6, len(values))
    values[rng.random(values.shape) < 0.15] = np.nan
    values[1_000:] = values[1_000]
    day = np.full(len(values), np.datetime64("2024-01-31"))
    return Matrix(np.empty(len(values), dtype=object), day, NAMES, values, frozenset({"kind"}))


def table(X, margin=None):
    return xgb.DMatrix(
        X.values, base_margin=margin, feature_types=X.feature_types, enable_categorical=True
    )


def train(X, depth):
    known = np.nan_to_num(X.values)
    label = known[:, 0] * known[:, 1] + (known[:, 2] == 3) * 2 + np.isnan(X.values[:, 3])
    rows = xgb.QuantileDMatrix(
        X.values, label=label, feature_types=X.feature_types, enable_categorical=True
    )
    return xgb.train({"max_depth": depth, "nthread": 1, "max_cat_to_onehot": 3}, rows, 12)


@pytest.mark.parametrize("depth", [4, 6])
@pytest.mark.parametrize("has_offset", [False, True])
def test_contributions_are_those_of_xgboost(rows, monkeypatch, depth, has_offset):
    monkeypatch.setattr(treeshap, "CHUNK_ROWS", 400)
    booster = train(rows, depth)
    margin = np.zeros(len(rows), dtype=np.float32) if has_offset else None
    expected = booster.predict(table(rows, margin), pred_contribs=True)
    trees = TreeContributions(booster, np.array([0, 1, 2, 1]), ("kind",), has_offset=has_offset)
    for part in (slice(0, 700), slice(700, None)):  # the second meets what the first has learned
        base, found = trees.explain(rows.take(np.arange(len(rows))[part]))
        assert base == pytest.approx(expected[0, -1], abs=1e-6)
        wanted = np.column_stack([expected[:, 0], expected[:, [1, 3]].sum(axis=1), expected[:, 2]])
        np.testing.assert_allclose(found, wanted[part], atol=2e-5)


def test_each_pattern_is_asked_about_once(rows, monkeypatch):
    booster = train(rows, 4)
    trees = TreeContributions(booster, np.arange(4), has_offset=False)
    first = trees.explain(rows)[1]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(trees, "_ask", refuse)
    again = trees.explain(rows.take(np.arange(len(rows))[::-1]))[1]
    np.testing.assert_array_equal(again[::-1], first)


def test_nobody_has_no_contributions(rows):
    trees = TreeContributions(train(rows, 4), np.arange(4), has_offset=False)
    base, found = trees.explain(rows.take(np.zeros(0, dtype=np.intp)))
    assert base == 0.0 and found.shape == (0, 4)
