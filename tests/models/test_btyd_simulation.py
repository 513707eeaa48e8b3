"""The formulas against an independent oracle: the processes themselves, simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from clv_pipeline.models.btyd import BGBB, BGNBD, MBGNBD, ParetoNBD, PurchaseModel

Array = npt.NDArray[np.float64]
COUNT = 100_000
T, AHEAD = 40.0, 25.0


@dataclass(frozen=True)
class Shop:
    """What was seen of simulated customers by T, and what happened after."""

    model: PurchaseModel
    frequency: Array
    recency: Array
    alive: Array
    purchases_ahead: Array
    wait: Array
    time: float
    ahead: float


def simulate(
    model: PurchaseModel,
    rng: np.random.Generator,
    rate: Array,
    lifetime: Array,
    leaves: Callable[[int], npt.NDArray[np.bool_]],
) -> Shop:
    """Draw purchases one by one until everyone has left or T + AHEAD is over."""
    clock, last_seen = np.zeros(COUNT), np.zeros(COUNT)
    frequency, ahead = np.zeros(COUNT), np.zeros(COUNT)
    wait = np.full(COUNT, np.inf)
    is_active = ~leaves(0)
    left_at = np.where(is_active, lifetime, 0.0)
    number = 0
    while is_active.any():
        number += 1
        clock = np.where(is_active, clock + rng.exponential(1.0, COUNT) / rate, np.inf)
        is_active &= (clock <= lifetime) & (clock <= T + AHEAD)
        before, after = is_active & (clock <= T), is_active & (clock > T)
        frequency += before
        ahead += after
        last_seen = np.where(before, clock, last_seen)
        wait = np.where(after, np.minimum(wait, clock - T), wait)
        gone = leaves(number) & is_active
        left_at = np.where(gone, clock, left_at)
        is_active &= ~gone
    alive = (left_at > T).astype(np.float64)
    return Shop(model, frequency, last_seen, alive, ahead, wait, T, AHEAD)


def pareto_nbd() -> Shop:
    rng = np.random.default_rng(1)
    model = ParetoNBD.from_parameters(r=0.9, alpha=8.0, s=0.7, beta=12.0)
    rate, death = rng.gamma(0.9, 1 / 8.0, COUNT), rng.gamma(0.7, 1 / 12.0, COUNT)
    lifetime = rng.exponential(1.0, COUNT) / np.maximum(death, 1e-300)
    never = np.zeros(COUNT, dtype=bool)
    return simulate(model, rng, np.maximum(rate, 1e-12), lifetime, lambda _: never)


def geometric(model: PurchaseModel, leaves_at_first: bool, seed: int) -> Shop:
    rng = np.random.default_rng(seed)
    rate, drop = rng.gamma(0.9, 1 / 8.0, COUNT), rng.beta(0.8, 2.5, COUNT)
    return simulate(
        model,
        rng,
        np.maximum(rate, 1e-12),
        np.full(COUNT, np.inf),
        lambda number: (rng.uniform(size=COUNT) < drop) & (number > 0 or leaves_at_first),
    )


def bg_bb() -> Shop:
    rng = np.random.default_rng(4)
    model = BGBB.from_parameters(alpha=1.2, beta=0.9, gamma=0.8, delta=3.0)
    buys, drop = rng.beta(1.2, 0.9, COUNT), rng.beta(0.8, 3.0, COUNT)
    frequency, recency, ahead = np.zeros(COUNT), np.zeros(COUNT), np.zeros(COUNT)
    wait, is_alive = np.full(COUNT, np.inf), np.ones(COUNT, dtype=bool)
    alive_next = is_alive
    for occasion in range(1, 11):
        is_alive = is_alive & (rng.uniform(size=COUNT) >= drop)
        alive_next = is_alive if occasion == 7 else alive_next
        bought = is_alive & (rng.uniform(size=COUNT) < buys)
        if occasion <= 6:
            frequency += bought
            recency = np.where(bought, float(occasion), recency)
        else:
            ahead += bought
            wait = np.where(bought, np.minimum(wait, occasion - 6.0), wait)
    return Shop(model, frequency, recency, alive_next.astype(np.float64), ahead, wait, 6.0, 4.0)


SHOPS: dict[str, Callable[[], Shop]] = {
    "pareto_nbd": pareto_nbd,
    "bg_nbd": lambda: geometric(
        BGNBD.from_parameters(r=0.9, alpha=8.0, a=0.8, b=2.5), leaves_at_first=False, seed=2
    ),
    "mbg_nbd": lambda: geometric(
        MBGNBD.from_parameters(r=0.9, alpha=8.0, a=0.8, b=2.5), leaves_at_first=True, seed=3
    ),
    "bg_bb": bg_bb,
}


@pytest.fixture(scope="module", params=list(SHOPS))
def shop(request: pytest.FixtureRequest) -> Shop:
    return SHOPS[request.param]()


def assert_unbiased(shop: Shop, predicted: Array, actual: Array) -> None:
    """Compare means within groups of history, in units of their standard error."""
    quartile = np.floor(4 * shop.recency / shop.time)
    groups = np.minimum(shop.frequency, 5) * 10 + quartile
    for group in np.unique(groups):
        is_in = groups == group
        # Of fewer the mean is not near enough to normal.
        if is_in.sum() < 200 or predicted[is_in].sum() < 20:
            continue
        error = actual[is_in] - predicted[is_in]
        # The floor covers groups where the outcome happens not to vary.
        spread = max(float(error.std()), 0.02) / np.sqrt(is_in.sum())
        assert abs(error.mean()) < 4.5 * spread, (group, error.mean(), spread)


def test_expected_purchases(shop: Shop) -> None:
    history = (shop.frequency, shop.recency, shop.time)
    predicted = shop.model.expected_purchases(shop.ahead, *history)
    assert_unbiased(shop, predicted, shop.purchases_ahead)


def test_probability_of_a_purchase(shop: Shop) -> None:
    history = (shop.frequency, shop.recency, shop.time)
    predicted = shop.model.probability_purchase(shop.ahead, *history)
    assert_unbiased(shop, predicted, (shop.purchases_ahead > 0).astype(np.float64))


def test_probability_alive(shop: Shop) -> None:
    predicted = shop.model.probability_alive(shop.frequency, shop.recency, shop.time)
    assert_unbiased(shop, predicted, shop.alive)


def test_new_customers(shop: Shop) -> None:
    error = shop.frequency - shop.model.expected_purchases_new(shop.time)
    assert abs(error.mean()) < 4.5 * error.std() / np.sqrt(COUNT)


def test_median_wait(shop: Shop) -> None:
    history = (shop.frequency, shop.recency, shop.time)
    median = shop.model.expected_next_purchase(*history, longest=shop.ahead)
    is_within = median <= shop.ahead
    came = shop.wait[is_within] <= median[is_within]
    # On discrete occasions the median is the first occasion that reaches one half.
    chance = shop.model.probability_purchase(
        median[is_within], shop.frequency[is_within], shop.recency[is_within], shop.time
    )
    assert (chance > 0.5 - 1e-6).all()
    assert came.mean() == pytest.approx(chance.mean(), abs=4.5 * 0.5 / np.sqrt(is_within.sum()))


def test_fit_recovers_the_parameters(shop: Shop) -> None:
    true = shop.model.parameters_
    some = slice(0, 20_000)
    model = type(shop.model)().fit(shop.frequency[some], shop.recency[some], shop.time)
    assert model.result_.converged
    for name, error in model.result_.standard_errors.items():
        assert abs(model.parameters_[name] - true[name]) < 4.5 * error, name
