"""Boosted parts, the blend and the bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.blending import Blend, _losses, _simplex
from clv_pipeline.models.boosting import BoostedMean, HurdleModel, QuantileModel
from clv_pipeline.models.intervals import (
    INTERVALS,
    ClassIntervals,
    ConformalBounds,
    implied_mean,
    mixture_quantile,
)
from clv_pipeline.models.panel import Matrix, Target

OPTIONS = FitOptions(30, trees=60, depth=3, learning_rate=0.2)


def shop(seed=0, n=4000, scale=1.0):
    """Customers with a known chance to buy and a known mean when they do."""
    rng = np.random.default_rng(seed)
    signal, kind = rng.uniform(0, 1, n), rng.integers(0, 2, n)
    chance, mean = 0.1 + 0.7 * signal, 10.0 + 40.0 * kind
    bought = rng.uniform(size=n) < chance
    value = np.where(bought, rng.gamma(2.0, mean / 2), 0.0) * scale
    X = Matrix(
        np.arange(n).astype(str).astype(object),
        np.full(n, np.datetime64("2024-01-31")),
        ("signal", "kind"),
        np.column_stack([signal, kind]).astype(np.float32),
        frozenset({"kind"}),
    )
    return X, Target(value, bought.astype(float), bought), chance, mean * scale


def test_hurdle_finds_chance_and_mean():
    X, y, chance, mean = shop()
    model = HurdleModel(OPTIONS).fit(X, y)
    assert np.abs(model.predict_probability(X) - chance).mean() < 0.05
    assert np.corrcoef(model.predict(X), chance * mean)[0, 1] > 0.97
    assert model.predict(X).sum() == pytest.approx((chance * mean).sum(), rel=0.05)


@pytest.mark.parametrize("objective", ["tweedie", "squared", "poisson"])
def test_boosted_means_find_the_mean(objective):
    X, y, chance, mean = shop()
    model = BoostedMean(OPTIONS, objective).fit(X, y)
    assert np.corrcoef(model.predict(X), chance * mean)[0, 1] > 0.93
    assert model.predict(X).sum() == pytest.approx((chance * mean).sum(), rel=0.06)


def test_boosted_medians_lie_below_the_mean_of_a_skewed_value():
    X, y, chance, mean = shop()
    found = BoostedMean(OPTIONS, "absolute").fit(X, y).predict(X)
    assert found.sum() < 0.95 * (chance * mean).sum()
    # The median has the least absolute error; the true mean has more.
    assert np.abs(found - y.value).mean() < 0.97 * np.abs(chance * mean - y.value).mean()


def test_a_fit_is_blind_to_the_currency():
    X, y, _, _ = shop()
    _, dear, _, _ = shop(scale=1000.0)
    for make in (HurdleModel, BoostedMean, QuantileModel):
        cheap, costly = (make(OPTIONS).fit(X, t).predict(X) for t in (y, dear))
        np.testing.assert_allclose(costly, 1000.0 * cheap, rtol=0.02, atol=1.0)


def test_quantiles_of_buyers_hold_their_level():
    X, y, _, _ = shop()
    model = QuantileModel(OPTIONS).fit(X, y)
    found = model.predict(X)
    assert (np.diff(found, axis=1) >= 0).all()
    buys = y.value > 0
    for k, level in enumerate(model.quantiles):
        assert np.mean(y.value[buys] <= found[buys, k]) == pytest.approx(level, abs=0.04)


@pytest.mark.parametrize("make", [HurdleModel, BoostedMean, QuantileModel])
def test_fits_repeat_themselves_and_survive_saving(make):
    X, y, _, _ = shop(n=800)
    one, other = make(OPTIONS).fit(X, y), make(OPTIONS).fit(X, y)
    assert one.to_files() == other.to_files()
    again = make.from_files(one.to_files())
    np.testing.assert_array_equal(again.predict(X), one.predict(X))


def test_objectives_share_bins_without_sharing_labels():
    X, y, _, _ = shop(n=800)
    alone = BoostedMean(OPTIONS).fit(X.take(np.arange(800)), y).predict(X)
    HurdleModel(OPTIONS).fit(X, y)
    QuantileModel(OPTIONS).fit(X, y)
    np.testing.assert_array_equal(BoostedMean(OPTIONS).fit(X, y).predict(X), alone)


def test_simplex_lists_every_point_once():
    points = _simplex(3, 4)
    assert len(points) == len(set(points)) == 15
    assert all(sum(point) == 4 and min(point) >= 0 for point in points)


def test_blend_beats_its_parts_and_agrees_with_an_optimizer():
    rng = np.random.default_rng(3)
    truth = rng.gamma(1.0, 20.0, 3000)
    actual = rng.poisson(truth).astype(float)
    experts = {
        "a": truth * rng.lognormal(0, 0.6, 3000),
        "b": truth * rng.lognormal(0, 0.3, 3000),
        "bad": rng.permutation(truth),
    }
    blend = Blend(20, shrinkage=0.0).fit(experts, actual)
    assert sum(blend.weights_.values()) == pytest.approx(1)
    assert min(blend.weights_.values()) >= 0
    columns = np.column_stack([experts[name] for name in sorted(experts)]) / actual.mean()
    y = actual / actual.mean()
    equal = _losses(columns.mean(axis=1), y).mean(axis=1)

    def loss(weights):
        return float((_losses(columns @ weights, y).mean(axis=1) / equal).sum())

    best = optimize.minimize(
        loss,
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    found = np.array([blend.weights_[name] for name in sorted(experts)])
    np.testing.assert_allclose(found, best.x, atol=0.06)
    for name in experts:
        assert loss(found) <= loss(np.array([float(n == name) for n in sorted(experts)]))


def test_blend_is_drawn_towards_equal_weights():
    truth = np.random.default_rng(5).gamma(1.0, 20.0, 500)
    experts = {"good": truth, "none": np.zeros(500)}
    assert Blend(shrinkage=0.0).fit(experts, truth).weights_ == {"good": 1.0, "none": 0.0}
    drawn = Blend(shrinkage=0.5).fit(experts, truth)
    assert drawn.weights_ == pytest.approx({"good": 0.75, "none": 0.25})
    assert drawn.predict(experts) == pytest.approx(0.75 * truth)


LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


def draw_hurdle(rng, n):
    """Values that are 0, or else lognormal, with their quantiles, probabilities and means."""
    p = rng.uniform(0.02, 1.0, n)
    median = rng.gamma(2.0, 10.0, n)
    actual = np.where(rng.uniform(size=n) < p, median * np.exp(rng.normal(size=n)), 0.0)
    amounts = median[:, None] * np.exp(stats.norm.ppf(LEVELS))[None, :]
    return p, amounts, p * median * np.exp(0.5), actual


def test_the_mean_implied_by_quantiles_is_that_of_the_distribution():
    amounts = np.exp(stats.norm.ppf(LEVELS))[None, :]
    assert implied_mean(amounts, np.array(LEVELS))[0] == pytest.approx(np.exp(0.5), rel=0.05)


def test_the_mixture_quantile_inverts_the_mixture():
    p = np.array([0.05, 0.5, 0.8, 1.0])
    amounts = np.exp(stats.norm.ppf(LEVELS))[None, :].repeat(4, axis=0)
    found = mixture_quantile(amounts, np.array(LEVELS), p, 0.9)
    # P(Y <= y) = (1 - p) + p Phi(log y); between the levels the answer is interpolated.
    assert found[0] == 0.0
    assert 0.5 + 0.5 * stats.norm.cdf(np.log(found[1])) == pytest.approx(0.9, abs=0.01)
    assert 0.2 + 0.8 * stats.norm.cdf(np.log(found[2])) == pytest.approx(0.9, abs=0.01)
    assert found[3] == pytest.approx(np.exp(stats.norm.ppf(0.9)))


@pytest.mark.parametrize("missed", [1.0, 1.4])
def test_bounds_hold_on_rows_like_those_they_were_corrected_on(missed):
    rng = np.random.default_rng(4)
    p, amounts, value, actual = draw_hurdle(rng, 20_000)
    # The quantiles are twice what is right, and the expected total may be missed.
    value = value / missed
    fit, new = slice(0, 10_000), slice(10_000, None)
    bounds = ConformalBounds(LEVELS).fit(2 * amounts[fit], p[fit], value[fit], actual[fit])
    assert bounds.level_ == pytest.approx(missed, rel=0.06)
    widening = max(bounds.level_, 1 / bounds.level_)
    found = bounds.predict(2 * amounts[new], p[new], value[new])
    for k, (level, widened) in enumerate([(0.1, 1 / widening), (0.5, 1.0), (0.9, widening)]):
        above = found[:, k] > 0
        # What was missed is taken out of the spread, and widens the outer bounds.
        held = np.mean(actual[new][above] / bounds.level_ <= found[above, k] / widened)
        assert held == pytest.approx(level, abs=0.04)
    assert (found[p[new] < 0.5, 1] == 0).all()
    assert found[:, 1].sum() < value[new].sum()
    again = ConformalBounds.from_dict(bounds.to_dict())
    np.testing.assert_array_equal(
        again.predict(amounts, p, value), bounds.predict(amounts, p, value)
    )


@pytest.mark.parametrize("spoilt", [1.0, 2.0])
def test_intervals_hold_overall_and_among_those_who_buy(spoilt):
    rng = np.random.default_rng(5)
    p, amounts, value, actual = draw_hurdle(rng, 30_000)
    # Chances that are mostly small, as in a shop; quantiles that may be wrong by a factor.
    p = p**2
    actual = np.where(rng.uniform(size=len(p)) < np.sqrt(p), actual, 0.0)
    fit, new = slice(0, 10_000), slice(10_000, None)
    value = value * np.sqrt(p)
    model = ClassIntervals(LEVELS).fit(spoilt * amounts[fit], p[fit], value[fit], actual[fit])
    found = model.predict(spoilt * amounts[new], p[new], value[new])
    assert (np.diff(found, axis=1) >= 0).all()
    ends = dict(zip(INTERVALS, found.T, strict=True))
    buys = actual[new] > 0
    for name, coverage in (("80", 0.8), ("95", 0.95)):
        inside = (ends[f"low_{name}"] <= actual[new]) & (actual[new] <= ends[f"high_{name}"])
        for kind in (np.ones_like(buys), buys, ~buys):
            assert inside[kind].mean() == pytest.approx(coverage, abs=0.02)
    again = ClassIntervals.from_dict(model.to_dict())
    np.testing.assert_array_equal(
        again.predict(amounts, p, value), model.predict(amounts, p, value)
    )


def test_intervals_of_a_handful_are_finite():
    amounts = np.tile(np.exp(stats.norm.ppf(LEVELS)), (4, 1))
    p, value = np.array([0.1, 0.5, 0.9, 1.0]), np.array([1.0, 2.0, 3.0, 0.0])
    for actual in (np.zeros(4), np.ones(4), np.array([0.0, 5.0, 0.0, 1.0])):
        found = ClassIntervals(LEVELS).fit(amounts, p, value, actual).predict(amounts, p, value)
        assert np.isfinite(found).all() and (found >= 0).all()
