"""What must hold for any customers and any parameters, however extreme."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clv_pipeline.models.btyd import BGBB, BGNBD, MBGNBD, FitError, ParetoNBD, PurchaseModel
from clv_pipeline.models.btyd.fitting import collapse

CONTINUOUS: list[type[PurchaseModel]] = [BGNBD, MBGNBD, ParetoNBD]
positive = st.floats(1e-3, 1e3)


@st.composite
def models(draw: st.DrawFn) -> PurchaseModel:
    model = draw(st.sampled_from(CONTINUOUS))
    return model.from_parameters(**{name: draw(positive) for name in model.parameter_names})


@st.composite
def histories(draw: st.DrawFn) -> tuple[float, float, float]:
    frequency = draw(st.integers(0, 5) | st.integers(100, 2000))
    observed = draw(st.sampled_from([0.0, 1e-6, 1.0]) | st.floats(0.0, 5000.0))
    share = draw(st.sampled_from([0.0, 1.0]) | st.floats(0.0, 1.0))
    return float(frequency), observed * share if frequency else 0.0, observed


@settings(deadline=None, max_examples=150)
@given(models(), histories(), st.floats(1e-3, 4000.0))
def test_answers_are_finite_and_agree(
    model: PurchaseModel, history: tuple[float, float, float], ahead: float
) -> None:
    alive = float(model.probability_alive(*history))
    buys = float(model.probability_purchase(ahead, *history))
    orders = float(model.expected_purchases(ahead, *history))
    assert np.isfinite(model.log_likelihood(*history)).all()
    assert 0.0 <= alive <= 1.0
    assert 0.0 <= buys <= alive * (1 + 1e-9)
    assert np.isfinite(orders)
    # Counting purchases cannot give less than counting whether there is one.
    assert orders >= buys * (1 - 1e-9)
    assert model.expected_purchases(2 * ahead, *history) >= orders * (1 - 1e-9)
    assert not np.isnan(model.expected_next_purchase(*history))


@settings(deadline=None, max_examples=60)
@given(models(), histories(), st.floats(0.5, 300.0))
def test_the_median_wait_is_where_the_probability_is_one_half(
    model: PurchaseModel, history: tuple[float, float, float], longest: float
) -> None:
    wait = float(model.expected_next_purchase(*history, longest=longest))
    if np.isinf(wait):
        assert model.probability_purchase(longest, *history) <= 0.5
    elif wait > longest * 1e-11:
        assert model.probability_purchase(wait, *history) == pytest.approx(0.5, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(models(), histories())
def test_the_gradient_is_the_slope_of_the_likelihood(
    model: PurchaseModel, history: tuple[float, float, float]
) -> None:
    columns = [np.array([value]) for value in history]
    values = np.array(list(model.parameters_.values()))
    value, gradient = model._log_likelihood(values, *columns)
    for index, at in enumerate(values):
        shift = np.zeros(values.size)
        shift[index] = 1e-5 * at
        up, down = (model._log_likelihood(values + s, *columns)[0] for s in (shift, -shift))
        slope = (up - down) / (2e-5 * at)
        # Differences lose what rounding of the likelihood leaves.
        noise = 1e-15 * (abs(float(value[0])) + 1e4) / (1e-5 * at)
        np.testing.assert_allclose(gradient[index], slope, rtol=1e-4, atol=10 * noise)


@settings(deadline=None, max_examples=40)
@given(models(), histories(), st.floats(1.0, 500.0))
def test_the_unit_of_time_is_the_callers(
    model: PurchaseModel, history: tuple[float, float, float], ahead: float
) -> None:
    times = {"alpha", "beta"}
    scaled = type(model).from_parameters(
        **{k: v * 7 if k in times else v for k, v in model.parameters_.items()}
    )
    x, recency, observed = history
    longer = (x, recency * 7, max(observed * 7, recency * 7))
    for method in ("expected_purchases", "probability_purchase"):
        first = getattr(model, method)(ahead, *history)
        second = getattr(scaled, method)(ahead * 7, *longer)
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-300)


def test_discounting_takes_the_density_of_purchases() -> None:
    model = ParetoNBD.from_parameters(r=0.55, alpha=70.0, s=0.6, beta=80.0)
    history, horizon, rate = (3, 100.0, 200.0), 365.0, 0.2
    grid = np.linspace(0.0, horizon, 20_001)
    orders = model.expected_purchases(grid, *history)
    middle = (grid[1:] + grid[:-1]) / 2
    expected = np.sum(np.diff(orders) * np.exp(-rate * middle / 365.25))
    found = model.discounted_expected_purchases(horizon, *history, yearly_rate=rate)
    assert found == pytest.approx(expected, rel=1e-8)
    undiscounted = model.discounted_expected_purchases(horizon, *history, yearly_rate=0.0)
    assert undiscounted == pytest.approx(orders[-1])


def test_discounting_counts_whole_occasions() -> None:
    model = BGBB.from_parameters(alpha=1.2, beta=0.75, gamma=0.66, delta=2.78)
    until = model.expected_purchases([1, 2, 3], 3, 5, 6)
    each = np.diff(until, prepend=0.0)
    found = model.discounted_expected_purchases(3, 3, 5, 6, yearly_rate=0.1)
    assert found == pytest.approx(each @ np.exp([-0.1, -0.2, -0.3]))


def test_one_time_buyers_can_be_dead_only_where_alive_is_publishable() -> None:
    parameters = {"r": 0.5, "alpha": 10.0}
    for model in (
        BGNBD.from_parameters(**parameters, a=0.8, b=2.5),
        MBGNBD.from_parameters(**parameters, a=0.8, b=2.5),
        ParetoNBD.from_parameters(**parameters, s=0.6, beta=12.0),
        BGBB.from_parameters(alpha=1.2, beta=0.75, gamma=0.66, delta=2.78),
    ):
        can_be_dead = float(model.probability_alive(0, 0, 300)) < 1.0
        assert model.alive_is_publishable == can_be_dead


def test_collapsing_rows_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    observed = rng.integers(1, 5, 300).astype(float)
    x = rng.integers(0, 3, 300).astype(float)
    recency = np.where(x > 0, observed, 0.0)
    columns, count, positions = collapse([x, recency, observed])
    some_x, some_recency, some_observed = columns
    assert count.sum() == 300
    assert count.size == len({*zip(x, recency, observed, strict=True)})
    for column, original in zip(columns, (x, recency, observed), strict=True):
        np.testing.assert_array_equal(column[positions], original)
    whole = BGNBD(on_failure="keep").fit(x, recency, observed)
    grouped = BGNBD(on_failure="keep").fit(some_x, some_recency, some_observed, weights=count)
    assert whole.parameters_ == pytest.approx(grouped.parameters_)
    assert [a.size for a in collapse([np.array([])])[0]] == [0]


@pytest.mark.parametrize("model", CONTINUOUS)
def test_data_that_bound_nothing_say_so(model: type[PurchaseModel]) -> None:
    # Everyone buys once a week and nobody leaves: no spread of rates, and no deaths.
    recency = np.repeat(np.arange(10.0, 60.0, 10.0), 20)
    fit = model().fit(recency / 10, recency, recency)
    assert fit.result_.status == "weakly_identified"
    assert not fit.result_.converged
    assert any(np.isnan(error) for error in fit.result_.standard_errors.values())
    assert "hardly bound" in fit.result_.message
    expected = fit.expected_purchases(10.0, recency / 10, recency, recency)
    assert np.isfinite(expected).all()


def test_a_fit_without_repeat_purchases_is_refused() -> None:
    with pytest.raises(FitError, match="at least one repeat purchase"):
        ParetoNBD().fit([0, 0], [0, 0], [10, 20])


@pytest.mark.parametrize(
    ("history", "sentence"),
    [
        (([np.nan], [0], [1]), "finite"),
        (([1.5], [1], [2]), "whole numbers"),
        (([-1], [1], [2]), "whole numbers"),
        (([1], [3], [2]), "between 0 and T"),
        (([0], [1], [2]), "recency must be 0"),
    ],
)
def test_impossible_histories_are_refused(history: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        BGNBD().fit(*history)


def test_bg_bb_refuses_what_is_no_occasion() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        BGBB().fit([1], [1.5], [3])
    with pytest.raises(ValueError, match="frequency cannot exceed recency"):
        BGBB().fit([2], [1], [3])
    model = BGBB.from_parameters(alpha=1.2, beta=0.75, gamma=0.66, delta=2.78)
    with pytest.raises(ValueError, match="t must be a whole number"):
        model.expected_purchases(1.5, 1, 1, 3)


@pytest.mark.parametrize("weights", [[-1.0, 1.0], [1.0], [np.nan, 1.0]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        BGNBD().fit([1, 0], [1, 0], [2, 2], weights=weights)


@pytest.mark.parametrize("model", [*CONTINUOUS, BGBB])
def test_saving_and_loading(model: type[PurchaseModel]) -> None:
    fit = model().fit([2, 1, 0, 0, 3], [3, 1, 0, 0, 5], [5, 6, 6, 5, 6])
    plain = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
    again = model.from_dict(plain)
    assert again.to_dict() == fit.to_dict()
    np.testing.assert_array_equal(
        again.expected_purchases(4, 2, 3, 6), fit.expected_purchases(4, 2, 3, 6)
    )
    with pytest.raises(ValueError, match="saved other model"):
        model.from_dict({**plain, "model": "other"})


def test_parameters_by_hand_are_checked() -> None:
    with pytest.raises(ValueError, match="takes the parameters r, alpha, a, b"):
        BGNBD.from_parameters(r=1.0)
    with pytest.raises(ValueError, match="positive"):
        BGNBD.from_parameters(r=1.0, alpha=0.0, a=1.0, b=1.0)
    assert not BGNBD.from_parameters(r=1.0, alpha=1.0, a=1.0, b=1.0).result_.converged
