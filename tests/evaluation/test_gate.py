"""Which model serves, and the reason that is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clv_pipeline.evaluation.backtest import Forecasts, dump_forecasts, load_forecasts
from clv_pipeline.evaluation.gate import Policy, choose_serving, compare, decide
from clv_pipeline.evaluation.metrics import normalized_gini, rmse, spearman, total_bias
from clv_pipeline.timeline import Cutoff

DAY = Cutoff.parse("2024-03-31")
POLICY = Policy(measures=("normalized_gini", "spearman", "rmse", "total_bias", "auc"))


def shop(seed=0, n=3000):
    rng = np.random.default_rng(seed)
    truth = rng.gamma(0.5, 40.0, n)
    bought = rng.uniform(size=n) < truth / (truth + 20)
    return truth, np.where(bought, truth * rng.gamma(2.0, 0.5, n), 0.0), bought


def forecasts(noise=0.0, level=1.0, seed=0, day=DAY, horizon=90, n=3000):
    truth, actual, bought = shop(seed, n)
    rng = np.random.default_rng(seed + 100)
    value = truth * np.exp(rng.normal(0, noise, n)) * level * actual.sum() / truth.sum()
    probability = np.clip(truth / (truth + 20) * np.exp(rng.normal(0, noise, n)), 0, 1)
    keys = np.arange(n, dtype=np.uint64)
    return Forecasts(horizon, day, keys, actual, bought, value, probability)


def test_a_clearly_better_challenger_serves():
    decision = decide([forecasts(0.1)], [forecasts(1.5)], POLICY)
    assert decision.promote
    assert "better beyond noise" in decision.reason
    verdicts = {c.measure: c.verdict for c in decision.comparisons}
    assert verdicts["normalized_gini"] == verdicts["rmse"] == verdicts["auc"] == "better"


def test_a_clearly_worse_challenger_does_not():
    decision = decide([forecasts(1.5)], [forecasts(0.1)], POLICY, days_newer=30)
    assert not decision.promote
    assert "worse beyond noise" in decision.reason
    assert "normalized Gini" in decision.reason


def test_better_on_one_measure_does_not_pay_for_worse_on_another():
    # The same ranking at twice the level: bias and RMSE suffer, whatever the ranking gains.
    decision = decide([forecasts(0.1, level=2.0)], [forecasts(0.6)], POLICY)
    verdicts = {c.measure: c.verdict for c in decision.comparisons}
    assert verdicts["normalized_gini"] == "better"
    assert verdicts["total_bias"] == "worse"
    assert not decision.promote


def test_the_same_predictions_are_a_tie_that_newer_knowledge_wins():
    same = [forecasts(0.5)]
    assert not decide(same, same, POLICY, days_newer=0).promote
    decision = decide(same, same, POLICY, days_newer=7)
    assert decision.promote
    assert "7 days more" in decision.reason
    assert all(c.advantage == 0 and c.verdict == "same" for c in decision.comparisons)


@pytest.mark.parametrize(
    ("champion", "options", "promotes", "words"),
    [
        (None, {"has_champion": False}, True, "no champion yet"),
        (None, {}, True, "can't be read"),
        ((), {"is_same_recipe": True, "days_newer": 7}, True, "champion's recipe"),
        ((), {"is_same_recipe": True}, False, "nothing new"),
        ((), {"days_newer": 7}, False, "made another way"),
    ],
)
def test_outcomes_without_anything_to_compare(champion, options, promotes, words):
    decision = decide([forecasts()], champion, POLICY, **options)
    assert decision.promote is promotes
    assert words in decision.reason
    assert decision.comparisons == ()


def test_only_shared_customers_cutoffs_and_horizons_are_compared():
    ours = [forecasts(0.1), forecasts(0.1, day=Cutoff.parse("2024-04-30"))]
    theirs = forecasts(0.3)
    half = theirs.keys % 2 == 0
    fewer = Forecasts(
        90,
        DAY,
        theirs.keys[half][::-1],
        theirs.actual[half][::-1],
        theirs.bought[half][::-1],
        theirs.value[half][::-1],
        theirs.probability[half][::-1],
    )
    found = {c.measure: c for c in compare(ours, [fewer, forecasts(horizon=30)], POLICY)}
    y, a, b = (array[half] for array in (ours[0].actual, ours[0].value, theirs.value))
    assert found["normalized_gini"].ours == pytest.approx(normalized_gini(y, a))
    assert found["normalized_gini"].theirs == pytest.approx(normalized_gini(y, b))
    assert found["spearman"].advantage == pytest.approx(spearman(y, a) - spearman(y, b))
    assert found["rmse"].advantage == pytest.approx(1 - rmse(y, a) / rmse(y, b))
    assert found["total_bias"].advantage == pytest.approx(
        abs(total_bias(y, b)) - abs(total_bias(y, a))
    )
    assert compare(ours, [forecasts(horizon=30)], POLICY) == ()


def test_the_interval_is_that_of_drawing_customers():
    """Against a plain bootstrap that draws rows, on the advantage in normalized Gini."""
    a, b = forecasts(0.3, n=800), forecasts(0.8, seed=0, n=800)
    found = compare([a], [b], Policy(("normalized_gini",), replicates=800))[0]
    rng = np.random.default_rng(9)
    draws = []
    for _ in range(800):
        rows = rng.integers(0, 800, 800)
        gini = [normalized_gini(a.actual[rows], f.value[rows]) for f in (a, b)]
        draws.append(gini[0] - gini[1])
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.015)
    assert found.high == pytest.approx(high, abs=0.015)


def test_a_probability_that_one_side_lacks_is_not_compared():
    a = forecasts(0.1)
    b = Forecasts(90, DAY, a.keys, a.actual, a.bought, a.value, np.full(3000, np.nan))
    assert "auc" not in {c.measure for c in compare([a], [b], POLICY)}


def test_the_simplest_unbeaten_model_serves():
    complexity = {"rate": 1, "linear": 2, "ensemble": 9}
    good, bad = [forecasts(0.1)], [forecasts(1.5)]
    name, reason = choose_serving(
        {"rate": bad, "linear": bad, "ensemble": good}, complexity, "ensemble", Policy()
    )
    assert name == "ensemble"
    assert "gains more than it loses" in reason
    name, reason = choose_serving(
        {"rate": bad, "linear": good, "ensemble": good}, complexity, "ensemble", Policy()
    )
    assert name == "linear"
    assert "does not beat it" in reason
    assert (
        choose_serving(
            {"rate": good, "linear": good, "ensemble": good}, complexity, "ensemble", Policy()
        )[0]
        == "rate"
    )


@pytest.mark.parametrize(("level", "winner"), [(1.0, "rate"), (1.5, "ensemble")])
def test_a_little_rank_does_not_pay_for_a_wrong_level(level, winner):
    # The simpler one ranks a little better; only at the right level does that make it unbeaten.
    simple, blend = [forecasts(0.30, level=level)], [forecasts(0.36)]
    found = {c.measure: c.verdict for c in compare(blend, simple, Policy())}
    assert found["normalized_gini"] == "worse"
    complexity = {"rate": 1, "ensemble": 9}
    backtests = {"rate": simple, "ensemble": blend}
    assert choose_serving(backtests, complexity, "ensemble", Policy())[0] == winner


@pytest.mark.parametrize("folds", [2, 3])
def test_one_giant_does_not_hand_the_shop_to_a_trivial_model(folds):
    # Both rank alike; the simple one's level is 60 % too high. Nobody foresaw an order of 10^7.
    days = [DAY.shift(-30 * k) for k in range(folds)]
    ours = [forecasts(0.3, seed=k, day=day) for k, day in enumerate(days)]
    theirs = [forecasts(0.3, level=1.6, seed=k, day=day) for k, day in enumerate(days)]
    complexity = {"rate": 1, "ensemble": 9}

    # Deciles would tell the two apart whatever one of them holds.
    policy = Policy(measures=("normalized_gini", "spearman", "rmse", "total_bias"))

    def choose(giants, multiple):
        found = {"rate": [], "ensemble": []}
        for a, b in zip(ours, theirs, strict=True):
            actual = a.actual.copy()
            if giants:
                actual[7] = 1e7
            found["ensemble"].append(replace(a, actual=actual))
            found["rate"].append(replace(b, actual=actual))
        return choose_serving(found, complexity, "ensemble", policy, giant_multiple=multiple)[0]

    assert choose(giants=False, multiple=20.0) == "ensemble"
    assert choose(giants=True, multiple=20.0) == "ensemble"
    # Without the cap the giant is all that is left of the level.
    assert choose(giants=True, multiple=np.inf) == "rate"


def test_deciles_tell_models_apart_that_rank_and_level_do_not():
    # Same ranks, same total; the one draws all deciles half way to their mean.
    good = forecasts(0.2)
    flat = replace(good, value=0.5 * good.value + 0.5 * good.value.mean())
    policy = Policy(measures=("normalized_gini", "spearman", "total_bias", "decile_mape"))
    found = {c.measure: c.verdict for c in compare([good], [flat], policy)}
    assert found == dict.fromkeys(policy.measures[:3], "same") | {"decile_mape": "better"}
    backtests, complexity = {"rate": [flat], "ensemble": [good]}, {"rate": 1, "ensemble": 9}
    assert choose_serving(backtests, complexity, "ensemble", policy)[0] == "ensemble"


def test_decisions_repeat_themselves():
    one, other = (compare([forecasts(0.3)], [forecasts(0.5)], POLICY) for _ in range(2))
    assert one == other


def test_a_backtest_survives_saving():
    kept = (forecasts(0.2), forecasts(0.3, day=Cutoff.parse("2024-04-30"), horizon=30))
    again = {(f.horizon_days, f.evaluation): f for f in load_forecasts(dump_forecasts(kept))}
    for forecast in kept:
        found = again[forecast.horizon_days, forecast.evaluation]
        for name in ("keys", "actual", "bought", "value", "probability"):
            np.testing.assert_array_equal(getattr(found, name), getattr(forecast, name))


def test_a_champion_that_answers_another_question_goes() -> None:
    decision = decide(
        [forecasts(1.5)], [forecasts(0.1)], POLICY, other_question="was trained for guilders"
    )
    assert decision.promote
    assert decision.reason == "The champion was trained for guilders, so the challenger serves."


def test_a_simpler_model_that_was_far_behind_does_not_serve_though_chance_is_not_excluded():
    # One customer of thousands makes the whole difference, so no bootstrap can exclude chance.
    blend = forecasts(0.3)
    value = blend.value.copy()
    value[7] += 2 * blend.actual.sum()
    backtests = {"rate": [replace(blend, value=value)], "ensemble": [blend]}
    policy = Policy(measures=("normalized_gini", "rmse"))
    found = {c.measure: c for c in compare([blend], backtests["rate"], policy)}
    assert found["rmse"].verdict == "same"
    assert found["rmse"].advantage > 0.06
    complexity = {"rate": 1, "ensemble": 9}
    assert choose_serving(backtests, complexity, "ensemble", policy)[0] == "ensemble"
