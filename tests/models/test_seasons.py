"""Levels of past windows: measured, learned around, forecast and put back."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.ensemble import HorizonModel, LevelZero
from clv_pipeline.models.panel import Matrix, Target
from clv_pipeline.models.season_index import SeasonIndex
from clv_pipeline.models.seasons import Levels, chance_shift, log_odds, shift_chance
from clv_pipeline.models.totals import forecast_level, level_sources, season_strength
from clv_pipeline.settings.learning import RETAIL_SEASON
from clv_pipeline.timeline import YEAR_DAYS, Cutoff

START = Cutoff.parse("2021-06-30")
OPTIONS = FitOptions(30, trees=20, depth=3, learning_rate=0.2, clusters=3)
HISTORY = ("frequency", "recency", "T", "days_since_last_order", "sum_value", "monetary_value")
FORECAST = ("btyd_value", "btyd_probability", "btyd_orders")


def window(cutoff, factor, seed, n=600):
    """Customers whom buy-till-you-die knows, and what they bring in a season of some strength."""
    rng = np.random.default_rng(seed)
    orders = rng.gamma(1.0, 0.8, n)
    spend = rng.gamma(4.0, 10.0, n)
    history = np.column_stack([orders * 5, orders * 90, np.full(n, 200.0), 50 / (orders + 0.1)])
    values = np.column_stack([history, orders * spend * 5, spend, orders * spend])
    values = np.column_stack([values, -np.expm1(-orders), orders]).astype(np.float32)
    count = rng.poisson(orders * factor)
    value = np.array(
        [rng.gamma(k * 2.0, s / 2.0) if k else 0.0 for k, s in zip(count, spend, strict=True)]
    )
    X = Matrix(
        np.arange(n).astype(str).astype(object),
        np.full(n, np.datetime64(cutoff.day)),
        (*HISTORY, *FORECAST),
        values,
    )
    return X, Target(value, count.astype(float), count > 0)


def stack(parts):
    xs, ys = zip(*parts, strict=True)
    X = Matrix(
        np.concatenate([x.customer_id for x in xs]),
        np.concatenate([x.cutoff_date for x in xs]),
        xs[0].names,
        np.vstack([x.values for x in xs]),
    )
    join = [np.concatenate([getattr(y, k) for y in ys]) for k in ("value", "orders")]
    return X, Target(join[0], join[1], join[1] > 0)


def test_a_level_is_the_ratio_to_what_was_expected():
    X, y = window(START, 2.0, 1, n=4000)
    levels = Levels.measure(X, y, 30)
    value, orders, chance, amount = levels.known[START]
    assert 0 < amount < value
    bought = y.has_purchase.sum()
    believed = bought / (bought + 20)
    expected = np.log(y.value.sum() / X.column("btyd_value").sum())
    assert value == pytest.approx(believed * expected)
    assert orders == pytest.approx(np.log(2.0), abs=0.06)
    assert chance > 0.5
    assert Levels.measure(X.take(np.arange(0)), y.take(np.arange(0)), 30).known == {}
    assert Levels.from_dict(levels.to_dict()) == levels


def test_shifted_chances_add_up_to_the_count():
    chance = np.random.default_rng(2).uniform(0.01, 0.9, 500)
    shift = chance_shift(chance, 300.0)
    assert shift_chance(chance, shift).sum() == pytest.approx(300.0)
    np.testing.assert_allclose(log_odds(shift_chance(chance, shift)) - log_odds(chance), shift)
    assert shift_chance(np.array([0.0, 1.0]), 0.7).tolist()[0] == 0.0
    assert (np.diff(shift_chance(np.sort(chance), shift)) >= 0).all()


def test_the_level_ahead_sees_only_windows_that_had_matured():
    known = {START.shift(30 * k): 0.1 for k in range(12)}
    target = START.shift(300)
    found = forecast_level(known, target, 90)
    for spoilt in (START.shift(240), START.shift(330)):
        assert forecast_level(known | {spoilt: 9.0}, target, 90) == found
    assert forecast_level(known | {START.shift(210): 9.0}, target, 90) != found


def test_without_any_past_window_buy_till_you_die_stands():
    found = forecast_level({}, START, 90)
    assert found.level == 0.0 and found.weights == {"btyd": 1.0} and not found.knows_season


def yearly(cutoff, height):
    """A level that is high before Christmas, and the same every year."""
    month = (cutoff.day.timetuple().tm_yday - 300) / 30
    return height * float(np.exp(-0.5 * month**2))


def test_where_seasons_repeat_the_year_before_is_believed_more_and_more():
    known = {START.shift(30 * k): yearly(START.shift(30 * k), 0.8) for k in range(-24, 24)}
    target = START.shift(480)
    truth = yearly(target, 0.8)
    found = forecast_level(known, target, 30)
    assert abs(found.level - truth) < 0.25 * truth
    assert found.weights["last_year"] > 0.7
    nearly = level_sources(known, target, 30)
    assert abs(nearly["last_year"] - truth) < 0.1
    # Where every year is another one, it is believed less.
    rng = np.random.default_rng(0)
    noise = {c: float(rng.normal(0, 0.5)) for c in known}
    assert forecast_level(noise, target, 30).weights["last_year"] < found.weights["last_year"]
    assert forecast_level(noise, target, 30).spread > found.spread


def test_experts_learn_around_the_season_and_the_model_puts_it_back():
    quiet, loud = 0.7, 2.0
    cutoffs = [START.shift(30 * k) for k in range(4)]
    factors = [quiet, quiet, loud, loud]
    X, y = stack([window(c, f, k) for k, (c, f) in enumerate(zip(cutoffs, factors, strict=True))])
    levels = Levels.measure(X, y, 30)
    experts = LevelZero(OPTIONS).fit(X, y, levels)
    # The year after, in the season that was loud.
    ahead, truth = window(START.shift(YEAR_DAYS + 60), loud, 9)
    said = experts.predict(ahead)
    free = float(ahead.column("btyd_value").sum())
    for name, value in said.value.items():
        assert value.sum() == pytest.approx(free, rel=0.25), name
    newest, came = window(cutoffs[-1], loud, 3)
    model = HorizonModel(OPTIONS).fit(experts, experts.predict(newest), came, levels)
    answer = model.combine(said)
    assert answer["value"].sum() == pytest.approx(truth.value.sum(), rel=0.25)
    assert answer["value"].sum() > 1.4 * free
    assert answer["probability"].sum() == pytest.approx(truth.has_purchase.sum(), rel=0.15)
    assert answer["orders"].sum() == pytest.approx(truth.orders.sum(), rel=0.25)
    again = HorizonModel.from_files(model.to_files())
    np.testing.assert_array_equal(again.combine(said)["value"], answer["value"])
    # Served alone, buy-till-you-die is what it says; its seasonal twin follows the level.
    parts = model.parts(said)
    np.testing.assert_array_equal(parts["btyd"], said.value["btyd"])
    model.serve("btyd_seasonal")
    np.testing.assert_allclose(model.combine(said)["value"], parts["btyd_seasonal"])
    model.serve("btyd")
    np.testing.assert_allclose(model.combine(said)["value"], said.value["btyd"])


def test_the_year_before_is_its_own_window_or_between_its_neighbours():
    target = START.shift(600)
    ago = target.shift(-YEAR_DAYS)
    around = {ago.shift(-30): 0.1, ago: 0.9, ago.shift(30): 0.2}
    assert level_sources(around, target, 30)["last_year"] == 0.9
    # Ten days after one window and twenty before the next.
    between = {ago.shift(-10): 0.3, ago.shift(20): 0.6}
    assert level_sources(between, target, 30)["last_year"] == pytest.approx(0.4)
    # A lone window may be near; one far off, or two with half a year between them, tell nothing.
    assert level_sources({ago.shift(15): 0.5}, target, 30)["last_year"] == 0.5
    for far in ({ago.shift(-40): 0.5}, {ago.shift(-90): 0.5, ago.shift(90): 0.5}):
        assert "last_year" not in level_sources(far, target, 30)


def autumn(cutoff, first_day):
    """What the default index says of the 90 days after a cutoff, of a shop that began on a day."""
    return SeasonIndex(RETAIL_SEASON, first_day).log_ratio(cutoff, 90)


def test_a_window_is_held_against_the_days_that_the_shop_knows():
    end_of_september = Cutoff.parse("2021-09-30")
    # January to September are the quiet quarters; a year has every quarter once.
    young = autumn(end_of_september, date(2021, 1, 1))
    old = autumn(end_of_september, date(2015, 1, 1))
    assert young == pytest.approx(np.log(1.204 / np.mean([0.929, 0.939, 0.928])), abs=0.01)
    assert old == pytest.approx(np.log(1.204), abs=0.01)
    assert autumn(Cutoff.parse("2021-12-31"), date(2021, 10, 1)) < -0.2
    assert SeasonIndex((2.0,) * 12).log_ratio(end_of_september, 90) == 0.0
    index = SeasonIndex(RETAIL_SEASON).since(date(2021, 3, 1)).since(date(2021, 5, 1))
    assert index.first_day == date(2021, 3, 1)
    assert SeasonIndex.from_dict(index.to_dict()) == index


def test_a_shop_without_a_year_is_given_the_season_of_others():
    first_day = date(2021, 1, 1)
    index = SeasonIndex(RETAIL_SEASON, first_day)
    target = Cutoff.parse("2021-09-30")
    quiet = {target.shift(-30 * k): 0.02 for k in range(3, 7)}
    found = forecast_level(quiet, target, 90, index)
    assert found.level == pytest.approx(autumn(target, first_day) + 0.02, abs=0.04)
    assert forecast_level(quiet, target, 90).level < 0.03
    # It is not told anything by windows that had not matured.
    assert forecast_level(quiet | {target.shift(-30): 9.0}, target, 90, index) == found


def test_a_shop_against_the_season_of_others_is_hardly_pulled():
    first_day = date(2019, 1, 1)
    target = Cutoff.parse("2021-09-30")
    days = [target.shift(-30 * k) for k in range(4, 14)]
    said = {c: autumn(c, first_day) for c in days}
    against = {c: -said[c] for c in days}
    assert season_strength({}, {}, 90) == 1.0
    assert season_strength(said, said, 90) == pytest.approx(1.0, abs=0.05)
    assert season_strength(against, said, 90) < 0.4
    louder = {c: 3 * said[c] for c in days}
    assert season_strength(louder, said, 90) > 1.5


def test_the_year_before_takes_over_from_the_season_of_others():
    first_day = date(2019, 1, 1)
    target = Cutoff.parse("2021-09-30")
    flat = {target.shift(-30 * k): 0.0 for k in range(3, 20)}
    found = forecast_level(flat, target, 90, SeasonIndex(RETAIL_SEASON, first_day))
    assert found.knows_season and abs(found.level) < 0.03
