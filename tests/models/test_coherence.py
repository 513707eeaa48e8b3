"""What every answer obeys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.isotonic import isotonic_regression

from clv_pipeline.models.coherence import ascending, discounted, finite, hurdle_quantiles

tables = arrays(np.float64, (3, 5), elements=st.floats(-1e6, 1e6))


@given(tables)
def test_ascending_is_isotonic_regression(values):
    expected = np.array([isotonic_regression(row) for row in values])
    np.testing.assert_allclose(ascending(values), expected, rtol=1e-9, atol=1e-6)


@given(tables, tables)
def test_ascending_keeps_order_between_quantiles_and_what_ascends(one, other):
    low, high = np.minimum(one, other), np.maximum(one, other)
    assert (ascending(low) <= ascending(high) + 1e-6).all()
    assert (np.diff(ascending(one), axis=1) >= 0).all()
    tidy = np.sort(one, axis=1)
    np.testing.assert_allclose(ascending(tidy), tidy, rtol=1e-12, atol=1e-9)


def test_discount_by_hand():
    values = np.array([[10.0, 30.0]])
    found = discounted(values, (100, 300), 0.1)
    expected = 10 * 1.1 ** (-50 / 365)
    assert found[0, 0] == pytest.approx(expected)
    assert found[0, 1] == pytest.approx(expected + 20 * 1.1 ** (-200 / 365))
    assert discounted(values, (100, 300), 0.0) is values


@pytest.mark.parametrize(("value", "probability"), [(30.0, 0.3), (5.0, 0.95), (7.0, 1.0)])
def test_hurdle_quantiles_are_those_of_the_mixture(value, probability):
    low, middle, high = hurdle_quantiles(np.array([value]), np.array([probability]))[0]
    positive = stats.lognorm(1.0, scale=np.exp(np.log(value / probability) - 0.5))
    for level, found in ((0.1, low), (0.5, middle), (0.9, high)):
        if level <= 1 - probability:
            assert found == 0
        else:
            assert 1 - probability + probability * positive.cdf(found) == pytest.approx(level)
    assert positive.mean() * probability == pytest.approx(value)


def test_hurdle_quantiles_of_nothing_are_nothing():
    assert hurdle_quantiles(np.array([0.0]), np.array([0.0])).tolist() == [[0, 0, 0]]


def test_finite():
    values = np.array([np.nan, np.inf, -np.inf, 1e300, 2.0])
    assert finite(values, 7.0, 100.0).tolist() == [7, 7, 7, 100, 2]
