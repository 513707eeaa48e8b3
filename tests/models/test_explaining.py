"""Effects add up to the value, whatever served it; each part against its definition."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clv_pipeline.features.registry import load_features
from clv_pipeline.models.attribution import Parts, shapley
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.baselines import LastWindowModel, LinearModel, RateTimesValueModel
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.explaining import (
    CONCEPTS,
    TOLERANCE,
    Explainer,
    concept_of,
    explain_values,
)
from clv_pipeline.models.fold import FittedHorizon, Workbench
from clv_pipeline.models.histories import Histories, history_matrix
from clv_pipeline.models.swapping import HistoryGames, ReferenceCustomer, SwappedHistories
from clv_pipeline.timeline import Cutoff
from tests.models.panels import features_at, make_panel, small_cdnow

CUTOFFS = (Cutoff.parse("1997-09-30"), Cutoff.parse("1997-12-31"))
TODAY = Cutoff.parse("1998-03-31")
effects = st.lists(st.floats(-3, 3), min_size=3, max_size=3)


@pytest.fixture(scope="module")
def served():
    """A small fitted model of three horizons: one blended, one bridged, one without labels."""
    days = small_cdnow(1500)
    panel = make_panel(days, CUTOFFS, (90,), TODAY)
    options = FitOptions(90, trees=20, threads=1, clusters=3)
    bench = Workbench(panel, options, Histories(panel, 0))
    model = CLVModel((30, 90, 180))
    model.fitted_[90] = FittedHorizon(options).fit(bench, CUTOFFS, CUTOFFS[:1])
    rows = features_at(days, TODAY)
    rows = pd.concat([rows, nobody(rows)], ignore_index=True)
    model.history_ = Histories(make_panel(days, (TODAY,), (90,), TODAY), 0).at(TODAY)
    model.bridged_ = {180: 90}
    return model, rows


def nobody(rows):
    """One customer who never ordered."""
    row = rows.iloc[[0]].copy()
    row[[name for name in row if name not in ("customer_id", "cutoff_date")]] = np.nan
    return row.assign(customer_id="nobody", frequency=0.0, count_order_days=0.0, sum_value=0.0)


def published(model, rows, horizon):
    value = model.predict(rows)["value"][:, model.horizons.index(horizon)]
    return pd.Series(value, index=rows["customer_id"].to_numpy())


@pytest.mark.parametrize("horizon", [30, 90, 180])
def test_effects_add_up_to_the_published_value(served, horizon):
    model, rows = served
    value = published(model, rows, horizon)
    found = explain_values(model, rows, value, horizon)
    total = found.base + found.effects.sum(axis=1)
    expected = value.reindex(total.index)
    assert (np.abs(total - expected) <= TOLERANCE * np.maximum(expected, 1.0)).all()
    assert np.isfinite(found.effects.to_numpy()).all()


@pytest.mark.parametrize("horizon", [30, 90, 180])
def test_parts_add_up_before_anything_is_passed_on(served, horizon):
    model, rows = served
    explainer = Explainer(model, ReferenceCustomer.of(history_matrix(rows)))
    found = explainer.horizon(rows, horizon).total
    # float32 of XGBoost's contributions.
    np.testing.assert_allclose(found, model._answer(rows, horizon)["value"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "rate_times_aov"])
def test_simpler_models_are_explained_too(served, kind):
    model, rows = served
    panel = make_panel(small_cdnow(1500), CUTOFFS, (90,), TODAY)
    raw, y = panel.matrix(90)
    fitted = model.fitted_[90]
    simpler = LinearModel() if kind == "linear" else RateTimesValueModel(90)
    simpler.fit(
        fitted.encoder_.transform(raw).with_columns(
            Histories(panel, 0).columns(raw, 90) if kind == "linear" else {}
        ),
        y,
    )
    model.simpler_ = {90: simpler}
    try:
        explainer = Explainer(model, ReferenceCustomer.of(history_matrix(rows)))
        found = explainer.horizon(rows, 90).total
        expected = simpler.predict(fitted.matrix(rows, model.history_))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    finally:
        model.simpler_ = {}


def test_a_model_of_unknown_form_is_explained_by_a_stand_in(served):
    model, rows = served
    simpler = LastWindowModel(90).fit(history_matrix(rows), None)
    model.simpler_ = {90: simpler}
    try:
        explainer = Explainer(model, ReferenceCustomer.of(history_matrix(rows)))
        explainer.horizon(rows, 90)
        assert explainer.surrogates[90].fidelity_ > 0.9
        value = pd.Series(
            simpler.predict(model.fitted_[90].matrix(rows, model.history_)),
            index=rows["customer_id"].to_numpy(),
        )
        found = explain_values(model, rows, value, 90)
        total = found.base + found.effects.sum(axis=1)
        expected = value.reindex(total.index)
        assert (np.abs(total - expected) <= TOLERANCE * np.maximum(expected, 1.0)).all()
        # What was bought in the last 90 days is all that it looks at.
        sizes = found.effects.abs().mean()
        assert sizes.idxmax() == "trend"
    finally:
        model.simpler_ = {}


def test_a_customer_is_explained_alike_in_any_order_and_twice(served):
    model, rows = served
    value = published(model, rows, 180)
    one = explain_values(model, rows, value, 180)
    other = explain_values(model, rows.iloc[::-1], value, 180)
    pd.testing.assert_frame_equal(one.effects, other.effects)
    assert one.base == other.base


def test_without_an_order_everything_of_the_history_is_owed_to_that(served):
    model, rows = served
    found = explain_values(model, rows, published(model, rows, 30), 30)
    effect = found.effects.loc["nobody"]
    assert effect["frequency"] == pytest.approx(-found.base)
    assert (effect.drop("frequency") == 0).all()


def test_silence_costs_and_order_days_pay(served):
    model, rows = served
    often = rows[rows["count_order_days"] > 3]
    assert len(often) > 10
    effect = explain_values(model, rows, published(model, rows, 180), 180).effects
    assert (effect.loc[often["customer_id"], "frequency"] > 0).mean() > 0.9
    silence = rows.set_index("customer_id")["days_since_last_order"]
    repeat = often["customer_id"]
    assert effect.loc[repeat, "recency"].corr(silence[repeat], method="spearman") < -0.3


def test_buy_till_you_die_is_asked_about_possible_histories(served):
    model, rows = served
    X = history_matrix(rows)
    swapped = SwappedHistories(X, ReferenceCustomer.of(X))
    for mask in range(16):
        frequency, recency, tenure = swapped.history(mask)
        assert ((recency >= 0) & (recency <= tenure)).all()
        assert (recency[frequency == 0] == 0).all()
    games = HistoryGames(model.history_.for_horizon(90), swapped)
    found = np.where(swapped.has_orders, games.value(15), 0.0)
    np.testing.assert_allclose(found, model.history_.for_horizon(90).predict(X), rtol=1e-9)


@given(st.lists(st.floats(-10, 10), min_size=8, max_size=8))
def test_shapley_is_the_mean_over_all_orders_of_arrival(worths):
    game = {mask: np.array([worth]) for mask, worth in enumerate(worths)}
    expected = np.zeros(3)
    for order in permutations(range(3)):
        mask = 0
        for player in order:
            expected[player] += (worths[mask | 1 << player] - worths[mask]) / 6
            mask |= 1 << player
    np.testing.assert_allclose(shapley(game, 3)[0], expected, atol=1e-9)


@given(st.floats(-2, 2), effects, st.floats(-2, 2), effects)
def test_products_and_links_add_up(base, some, other_base, others):
    a, b = Parts(base, np.array([some])), Parts(other_base, np.array([others]))
    both = a.product(b)
    np.testing.assert_allclose(both.total, a.total * b.total, atol=1e-9)
    assert both.base == pytest.approx(base * other_base)
    grown = a.through(np.exp)
    np.testing.assert_allclose(grown.total, np.exp(a.total), rtol=1e-6)
    # Effects next to nothing may vanish in the product with the slope.
    clear = np.abs(a.effects) > 1e-200
    assert (np.sign(grown.effects) == np.sign(a.effects))[clear].all()


def test_every_feature_that_a_model_reads_has_a_concept():
    found = {f.name: concept_of(f.name, f.view) for f in load_features() if f.is_model_input}
    assert set(found.values()) <= set(CONCEPTS)
    assert found["days_since_last_order"] == found["overdue_ratio"] == "recency"
    assert found["frequency"] == found["mean_days_between_orders"] == "frequency"
    assert found["sum_value_90d"] == found["order_trend_90d"] == "trend"
    assert found["mean_order_value"] == found["monetary_value"] == "spend"
    assert found["share_refunded"] == found["sum_refunds_90d"] == "refunds"
    assert found["T"] == found["tenure_days"] == "tenure"
    assert found["country"] == "profile"
    assert found["signup_season"] == "season"
    assert found["count_sessions_30d"] == found["days_since_last_visit"] == "engagement"
    assert found["count_searches_7d"] == found["click_through_7d"] == "engagement"
    assert found["mean_sentiment"] == found["last_campaign_arm"] == "engagement"
    assert found["count_skus_365d"] == found["basket_concentration_365d"] == "variety"
    assert found["return_ratio_365d"] == "refunds"
    assert found["price_level_365d"] == "spend"
