"""The simulated shop's laws: draws against distributions and closed forms written down here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, special, stats

from clv_pipeline.ingest.shop import ShopParameters
from clv_pipeline.ingest.shop.process import (
    Latents,
    Season,
    birth_weights,
    draw_latents,
    draw_order_values,
    draw_purchases,
    mean_repeat_orders,
    solve_rate_scale,
)
from clv_pipeline.ingest.shop.truth import alive_probability, expected_daily_orders

START = date(2022, 1, 1)
Array = npt.NDArray[np.float64]
FLAT = ShopParameters(seasonality=0.0)
COUNT = 40_000


def draw(parameters: ShopParameters, count: int = COUNT, alpha: float = 45.0) -> Latents:
    return draw_latents(np.random.default_rng(7), count, parameters, alpha, np.array([1.0]))


def p_value(sample: Array, law: Callable[[Array], Array]) -> float:
    return float(stats.kstest(sample, law).pvalue)


def test_latent_rates_and_lifetimes_follow_their_distributions() -> None:
    latents = draw(FLAT)
    s, beta = FLAT.lifetime_shape, FLAT.lifetime_scale
    assert p_value(latents.rate, stats.gamma(FLAT.rate_shape, scale=45.0).cdf) < 1e-6
    assert p_value(latents.rate, stats.gamma(FLAT.rate_shape, scale=1 / 45.0).cdf) > 0.01
    assert p_value(latents.dropout, stats.gamma(s, scale=1 / beta).cdf) > 0.01
    assert p_value(latents.death - latents.birth, lambda t: 1 - (beta / (beta + t)) ** s) > 0.01
    leavers = draw(replace(FLAT, dropout="geometric"))
    assert p_value(leavers.dropout, stats.beta(FLAT.dropout_a, FLAT.dropout_b).cdf) > 0.01


def test_spend_is_gamma_gamma_with_a_pareto_tail() -> None:
    latents = draw(FLAT, 200_000)
    p, q, v = FLAT.order_shape, FLAT.mean_shape, FLAT.mean_scale
    usual = latents.mean_value[~latents.is_giant]
    assert p_value(usual, stats.invgamma(q, scale=p * v).cdf) > 0.01
    share = latents.is_giant.mean()
    assert share == pytest.approx(FLAT.giant_share, abs=4 * np.sqrt(0.004 / 200_000))
    assert latents.mean_value.max() > 40 * usual.mean()
    rng = np.random.default_rng(3)
    means = np.full(COUNT, 80.0)
    orders = draw_order_values(rng, means, FLAT) / 100
    assert p_value(orders / 80.0, stats.gamma(p, scale=1 / p).cdf) > 0.01
    by_log = draw_order_values(rng, means, replace(FLAT, spend="lognormal")) / 100
    assert by_log.mean() == pytest.approx(80.0, rel=0.02)
    assert p_value(np.log(by_log), stats.norm(np.log(80) - 0.125, 0.5).cdf) > 0.01


@pytest.mark.parametrize("spend", ["gamma_gamma", "lognormal"])
def test_mean_order_value_is_the_mean_of_the_draws(spend: str) -> None:
    # A cap well inside the tail, so that the sample mean has a usable standard error.
    parameters = replace(FLAT, spend=spend, giant_share=0.05, giant_cap=20.0)  # type: ignore[arg-type]
    means = draw(parameters, 400_000).mean_value
    error = means.std() / np.sqrt(means.size)
    assert abs(means.mean() - parameters.mean_order_value) < 4 * error


def repeat_orders(parameters: ShopParameters, alpha: float, days: int) -> Array:
    latents = draw(parameters, alpha=alpha)
    latents = replace(latents, birth=np.zeros(len(latents)), death=latents.death - latents.birth)
    season = Season.build(START, days + 1, parameters.seasonality)
    customer, _, _ = draw_purchases(np.random.default_rng(5), latents, parameters, season, days)
    return np.bincount(customer, minlength=len(latents)) - 1.0


@pytest.mark.parametrize("days", [60, 700])
def test_repeat_orders_have_the_mean_of_pareto_nbd(days: int) -> None:
    r, s, beta, alpha = FLAT.rate_shape, FLAT.lifetime_shape, FLAT.lifetime_scale, 45.0
    published = r * beta / (alpha * (s - 1)) * (1 - (beta / (beta + days)) ** (s - 1))
    drawn = repeat_orders(FLAT, alpha, days)
    assert abs(drawn.mean() - published) < 4 * drawn.std() / np.sqrt(drawn.size)
    # Starts at noon there, hence half a day less.
    assert mean_repeat_orders(FLAT, alpha, Season.build(START, 800, 0), 0, days) == pytest.approx(
        published, abs=r / alpha
    )


@pytest.mark.parametrize("days", [60, 700])
def test_repeat_orders_have_the_mean_of_bg_nbd(days: int) -> None:
    parameters = replace(FLAT, dropout="geometric")
    r, a, b, alpha = FLAT.rate_shape, FLAT.dropout_a, FLAT.dropout_b, 45.0
    series = special.hyp2f1(r, b, a + b - 1, days / (alpha + days))
    published = (a + b - 1) / (a - 1) * (1 - (alpha / (alpha + days)) ** r * series)
    drawn = repeat_orders(parameters, alpha, days)
    assert abs(drawn.mean() - published) < 4 * drawn.std() / np.sqrt(drawn.size)
    season = Season.build(START, 800, 0)
    assert mean_repeat_orders(parameters, alpha, season, 0, days) == pytest.approx(
        published, abs=r / alpha
    )


def test_regular_gaps_are_erlang_2() -> None:
    parameters = replace(FLAT, purchase="regular", dropout="none")
    many = np.full(300, 0.0)
    rate = np.full(300, 0.2)
    latents = Latents(many, rate, many, many + np.inf, many + 1, many > 0, many)
    season = Season.build(START, 1001, 0)
    customer, time, _ = draw_purchases(np.random.default_rng(1), latents, parameters, season, 1000)
    gaps = np.diff(time)[np.diff(customer) == 0]
    # Gaps of a finite window are a little short; the first 50 of each customer are not.
    rank = np.arange(gaps.size) - np.searchsorted(customer[1:][np.diff(customer) == 0],
                                                  customer[1:][np.diff(customer) == 0])  # fmt: skip
    early = gaps[rank < 50]
    assert p_value(early, stats.gamma(2, scale=1 / 0.4).cdf) > 0.01


def test_orders_follow_the_season() -> None:
    parameters = ShopParameters(dropout="none")
    days = 730
    season = Season.build(START, days + 1, 1.0)
    latents = draw(parameters, 20_000)
    latents = replace(latents, birth=np.zeros(20_000))
    customer, time, _ = draw_purchases(np.random.default_rng(2), latents, parameters, season, days)
    repeat = np.diff(customer, prepend=-1) == 0
    seen = np.bincount(np.floor(time[repeat]).astype(int), minlength=days)
    expected = season.factor[:days] / season.factor[:days].sum() * seen.sum()
    assert stats.chisquare(seen, expected).pvalue > 0.01
    assert season.factor[: 365 * 2].max() > 1.6 * season.factor[: 365 * 2].mean()
    assert np.argmax(season.factor[:365]) in range(320, 358)
    assert season.factor[:365][181:212].mean() < 0.95
    long = Season.build(START, 365 * 28, 1.0)
    assert long.factor.mean() == pytest.approx(1.0, abs=0.002)
    reading = np.linspace(0, season.clock[days], 999)
    np.testing.assert_allclose(season.at(season.time(reading)), reading, atol=1e-9)


@pytest.mark.parametrize(
    ("purchase", "dropout", "wanted"),
    [
        ("poisson", "pareto", 6.0),
        ("poisson", "pareto", 20.0),
        ("poisson", "geometric", 3.0),
        ("poisson", "none", 6.0),
        ("regular", "pareto", 6.0),
    ],
)
def test_buyers_place_as_many_orders_as_asked_for(
    purchase: str, dropout: str, wanted: float
) -> None:
    parameters = ShopParameters(
        purchase=purchase,  # type: ignore[arg-type]
        dropout=dropout,  # type: ignore[arg-type]
        orders_per_customer=wanted,
    )
    days = 1_096
    season = Season.build(START, days + 1, 1.0)
    alpha = solve_rate_scale(parameters, season, days)
    births = birth_weights(season, days, parameters.opening_share)
    rng = np.random.default_rng(11)
    latents = draw_latents(rng, COUNT, parameters, alpha, births)
    customer, time, _ = draw_purchases(rng, latents, parameters, season, days)
    orders = np.bincount(customer, minlength=COUNT)
    assert abs(orders.mean() - wanted) < 4 * orders.std() / np.sqrt(COUNT) + 0.003 * wanted
    assert time.max() < days
    assert (time >= latents.birth[customer]).all()
    born = np.bincount(np.floor(latents.birth).astype(int), minlength=days)
    assert born[:30].sum() == pytest.approx(
        COUNT * births[:30].sum(), abs=4 * np.sqrt(COUNT * births[:30].sum())
    )


def test_more_orders_than_lives_allow_are_refused() -> None:
    parameters = ShopParameters(dropout="geometric", dropout_a=5.0, orders_per_customer=50.0)
    with pytest.raises(
        ValueError, match=r"orders_per_customer = 50.0 can't be reached in 400 days"
    ):
        solve_rate_scale(parameters, Season.build(START, 401, 1.0), 400)


def one(rate: float, dropout: float) -> Latents:
    zero = np.zeros(1)
    return Latents(zero, zero + rate, zero + dropout, zero + np.inf, zero + 50, zero > 0, zero)


def test_expected_orders_given_latents_are_their_closed_forms() -> None:
    flat, last = Season.build(START, 900, 0), np.array([90.25])
    for horizon in (30, 365):
        t = float(horizon)
        pareto = expected_daily_orders(one(0.03, 0.01), FLAT, flat, 100, horizon, last)
        assert pareto.sum() == pytest.approx(0.03 * (1 - np.exp(-0.01 * t)) / 0.01)
        geometric = replace(FLAT, dropout="geometric")
        left = expected_daily_orders(one(0.03, 0.2), geometric, flat, 100, horizon, last)
        assert left.sum() == pytest.approx((1 - np.exp(-0.03 * 0.2 * t)) / 0.2)
    regular = replace(FLAT, purchase="regular", dropout="none")
    found = expected_daily_orders(one(0.03, 0.0), regular, flat, 100, 60, last).sum()

    # Oracle: the renewal equation of the delayed process, by quadrature over the first gap.
    def renewals(t: float) -> float:
        return 0.03 * t - (1 - np.exp(-4 * 0.03 * t)) / 4

    waited, gap = 9.75, stats.gamma(2, scale=1 / 0.06)
    first = integrate.quad(
        lambda u: gap.pdf(waited + u) / gap.sf(waited) * (1 + renewals(60 - u)), 0, 60
    )[0]
    assert found == pytest.approx(first, rel=1e-6)


def test_expected_orders_follow_the_season() -> None:
    season = Season.build(START, 900, 1.0)
    found = expected_daily_orders(one(0.03, 0.01), FLAT, season, 300, 200, np.array([290.0]))
    fine = np.arange(300, 500, 0.001) + 0.0005
    oracle = 0.03 * season.factor[np.floor(fine).astype(int)] * np.exp(-0.01 * (fine - 300))
    assert found.sum() == pytest.approx(oracle.sum() * 0.001, rel=1e-6)


def test_alive_probability_is_its_closed_form_and_is_calibrated() -> None:
    flat = Season.build(START, 900, 0)
    last = np.array([60.4])
    found = alive_probability(one(0.05, 0.02), FLAT, flat, 100, last, np.array([True]))
    published = 1 / (1 + 0.02 / 0.07 * (np.exp(0.07 * (100 - 60.4)) - 1))
    assert found[0] == pytest.approx(published)
    for dropout in ("pareto", "geometric"):
        parameters = ShopParameters(dropout=dropout)  # type: ignore[arg-type]
        season = Season.build(START, 901, 1.0)
        rng = np.random.default_rng(13)
        latents = draw_latents(rng, COUNT, parameters, 20.0, np.array([1.0]))
        customer, time, death = draw_purchases(rng, latents, parameters, season, 900)
        before = time < 400
        last = np.zeros(COUNT)
        np.maximum.at(last, customer[before], time[before])
        repeats = np.bincount(customer[before], minlength=COUNT) > 1
        chance = alive_probability(latents, parameters, season, 400, last, repeats)
        alive = death > 400
        for low in np.arange(0, 1, 0.1):
            inside = (chance >= low) & (chance <= low + 0.1)
            error = np.sqrt(np.sum(chance[inside] * (1 - chance[inside])))
            assert abs(alive[inside].sum() - chance[inside].sum()) < 4 * error + 1


@pytest.mark.parametrize(
    ("laws", "message"),
    [
        ({"purchase": "regular", "dropout": "geometric"}, "no closed form"),
        ({"orders_per_customer": 1.0}, "orders_per_customer = 1.0 can't be"),
        ({"mean_shape": 1.0}, "mean_shape = 1.0 can't be"),
    ],
)
def test_laws_that_make_no_shop_are_refused(laws: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShopParameters(**laws)  # type: ignore[arg-type]
