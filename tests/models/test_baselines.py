"""Baselines, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.baselines import (
    ConstantModel,
    LastWindowModel,
    LinearModel,
    RateTimesValueModel,
    SampledRegressor,
)
from clv_pipeline.models.candidates import CANDIDATES, find_candidate, load_candidate
from clv_pipeline.models.panel import Matrix, Target


def matrix(**columns):
    values = np.column_stack([np.array(c, dtype=np.float32) for c in columns.values()])
    n = len(values)
    return Matrix(
        np.array([str(k) for k in range(n)], dtype=object),
        np.full(n, np.datetime64("2024-01-31")),
        tuple(columns),
        values,
    )


def target(value):
    value = np.asarray(value, dtype=float)
    return Target(value, (value > 0).astype(float), value > 0)


def noisy(seed=0, n=500):
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(3, n), rng.exponential(1, n)
    return matrix(a=a, b=b), target(5 * np.log1p(a) + rng.normal(0, 0.1, n))


def test_constants():
    X, y = matrix(a=[1, 2, 3]), target([0, 3, 6])
    assert ConstantModel("zero").fit(X, y).predict(X).tolist() == [0, 0, 0]
    assert ConstantModel("mean").fit(X, y).predict(X).tolist() == [3, 3, 3]


def test_last_days_take_the_nearest_window_and_scale_it():
    X = matrix(sum_value_30d=[3, np.nan, -1], sum_value_365d=[365, 1, 1])
    assert LastWindowModel(30).predict(X).tolist() == [3, 0, 0]
    assert LastWindowModel(60).predict(X).tolist() == [6, 0, 0]
    assert LastWindowModel(730).predict(X).tolist() == [730, 2, 2]


def test_last_days_without_windows_are_the_rate_of_value():
    assert LastWindowModel(30).predict(matrix(sum_value=[10, 7], T=[100, 0])).tolist() == [3, 210]


def test_rate_times_value_by_hand():
    # Two repeat orders in 60 days, three orders of 90 in all: 2/60 * 30 * 30 = 30.
    X = matrix(
        frequency=[2, 0, 0, 5],
        T=[60, 60, np.nan, 0],
        count_order_days=[3, 1, 0, 6],
        sum_value=[90, 20, np.nan, 10],
    )
    assert RateTimesValueModel(30).predict(X).tolist() == pytest.approx([30, 0, 0, 0])


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_linear_models_find_a_line_in_the_logarithms(ratio):
    X, y = noisy()
    model = LinearModel(ratio).fit(X, y)
    assert np.corrcoef(model.predict(X), y.value)[0, 1] > 0.99
    again = LinearModel.from_files(model.to_files())
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    gap = matrix(a=[np.nan], b=[np.nan])
    assert np.isfinite(model.predict(gap)).all()


@pytest.mark.parametrize("kind", ["decision_tree", "random_forest", "svm", "mlp"])
def test_sampled_regressors_learn_and_repeat_themselves(kind):
    X, y = noisy()
    fits = [SampledRegressor(kind, FitOptions(30), 400).fit(X, y).predict(X) for _ in range(2)]
    np.testing.assert_array_equal(*fits)
    assert np.corrcoef(fits[0], y.value)[0, 1] > 0.8
    assert (fits[0] >= 0).all()


def test_candidates_have_distinct_names_and_complexities():
    assert len({c.name for c in CANDIDATES}) == len(CANDIDATES)
    required = {
        "zero",
        "mean",
        "last_days",
        "rate_times_aov",
        "bg_nbd",
        "pareto_nbd",
        "linear",
        "elastic_net",
        "decision_tree",
        "random_forest",
        "svm",
        "mlp",
    }
    assert required <= {c.name for c in CANDIDATES}
    with pytest.raises(ValueError, match="is no candidate"):
        find_candidate("gpt")
    with pytest.raises(ValueError, match="can't serve"):
        load_candidate("svm", {})
