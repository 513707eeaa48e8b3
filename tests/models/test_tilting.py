"""What the chance of an order does to a value, on made-up customers."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from clv_pipeline.models.tilting import FEWEST_GROUPS, FEWEST_IN_GROUP, MOST, Tilt


def shop(n=20_000, seed=4):
    """Customers whose chance is known, and whose amount an expert hears through noise."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.7, 2.0, n)
    amount = np.exp(rng.normal(3.5, 0.4, n))
    heard = amount * np.exp(rng.normal(0.0, 0.7, n))
    came = np.where(rng.uniform(size=n) < chance, amount * np.exp(rng.normal(0, 0.3, n)), 0.0)
    value = chance * heard
    return value * came.sum() / value.sum(), chance, came


def test_values_whose_amounts_are_noise_rank_better_and_keep_what_they_come_to():
    value, chance, came = shop()
    tilted = value * Tilt().fit(value, chance).factor(value, chance)
    np.testing.assert_allclose(tilted.sum(), value.sum(), rtol=0.02)
    assert spearmanr(tilted, came)[0] > spearmanr(value, came)[0] + 0.003
    assert np.mean((tilted - came) ** 2) < np.mean((value - came) ** 2)


def test_of_equal_values_the_likelier_order_goes_first():
    value, chance, _ = shop()
    tilt = Tilt().fit(value, chance)
    same = np.full(50, float(np.median(value)))
    found = same * tilt.factor(same, np.linspace(0.01, 0.99, 50))
    assert (np.diff(found) >= 0).all() and found[-1] > 1.2 * found[0]
    assert tilt.factor(same[:1], np.zeros(1)) >= 1 / MOST - 1e-12


def test_a_value_that_says_all_of_the_chance_stays():
    rng = np.random.default_rng(5)
    chance = np.sort(rng.uniform(0.01, 0.9, 20_000))
    value = 40.0 * chance
    found = Tilt().fit(value, chance).factor(value, chance)
    # A group's mean stands for its members: what is left is how far they lie apart.
    np.testing.assert_allclose(found[1000:-1000], 1.0, atol=0.01)


def test_too_few_customers_are_left_alone():
    value, chance, _ = shop(FEWEST_GROUPS * FEWEST_IN_GROUP - 1)
    np.testing.assert_array_equal(Tilt().fit(value, chance).factor(value, chance), 1.0)
    np.testing.assert_array_equal(Tilt.none().factor(value, chance), 1.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3_000))
def test_no_value_becomes_strange_and_saving_changes_nothing(seed, n):
    rng = np.random.default_rng(seed)
    value = np.where(rng.uniform(size=n) < 0.3, 0.0, np.exp(rng.normal(0, 8, n)))
    chance = np.clip(rng.normal(0.3, 0.5, n), 0.0, 1.0)
    tilt = Tilt().fit(value, chance)
    found = tilt.factor(value, chance)
    assert np.isfinite(found).all() and (found > 0).all()
    assert (found <= MOST + 1e-12).all()
    again = Tilt.from_dict(json.loads(json.dumps(tilt.to_dict())))
    np.testing.assert_array_equal(again.factor(value, chance), found)


def test_the_usual_chance_is_that_of_those_who_are_asked_about():
    value, chance, _ = shop()
    aged = chance * np.where(chance < 0.5, 0.6, 0.8)
    before = Tilt().fit(value, chance)
    # What each is worth has not changed, so neither has the total: the usual chance has.
    assert (value * before.factor(value, aged)).sum() < 0.97 * value.sum()
    again = Tilt().fit(value, aged)
    np.testing.assert_allclose((value * again.factor(value, aged)).sum(), value.sum(), rtol=0.02)
