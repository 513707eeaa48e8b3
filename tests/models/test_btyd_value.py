"""Spend, the summary of customer days, and the two models together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clv_pipeline.models.btyd import (
    PURCHASE_MODELS,
    BTYDValueModel,
    FitError,
    GammaGamma,
    summarise,
)
from clv_pipeline.models.histories import Histories, history_matrix
from clv_pipeline.models.panel import Panel
from clv_pipeline.timeline import Cutoff
from tests.models.panels import column

GOLDEN = Path(__file__).parents[1] / "golden" / "btyd"
OUTPUTS = [
    "value",
    "probability_purchase",
    "expected_orders",
    "probability_alive",
    "expected_days_to_next_order",
]


def customers(count: int = 400, seed: int = 0) -> pd.DataFrame:
    """Draw histories from Pareto/NBD and spend from Gamma-Gamma."""
    rng = np.random.default_rng(seed)
    observed = rng.integers(1, 400, count).astype(float)
    rate, death = rng.gamma(0.8, 1 / 60, count), rng.gamma(0.7, 1 / 90, count)
    lifetime = np.minimum(rng.exponential(1.0, count) / np.maximum(death, 1e-9), observed)
    frequency = rng.poisson(rate * lifetime)
    last = np.ceil(lifetime * rng.uniform(size=count) ** (1 / np.maximum(frequency, 1)))
    recency = np.where(frequency > 0, np.minimum(last, observed), 0.0)
    mean = rng.gamma(6.0, 1.0, count) / rng.gamma(4.0, 1 / 15.0, count)
    orders = frequency + 1
    return pd.DataFrame(
        {
            "frequency": frequency,
            "recency": recency,
            "T": observed,
            "monetary_value": np.where(frequency > 0, mean, np.nan),
            "count_order_days": orders,
            "sum_value": mean * orders,
        },
        index=pd.Index([f"c{i}" for i in range(count)], name="customer_id"),
    )


def test_summary_of_a_tiny_shop() -> None:
    days = pd.DataFrame(
        {
            "customer_id": ["a", "a", "a", "a", "b", "b", "c", "d"],
            "order_date": pd.to_datetime(
                [
                    "2024-01-10",  # the order of customers is not that of days
                    "2024-01-01",
                    "2024-01-10",  # a second order on the same day
                    "2024-01-20",
                    "2024-01-05",
                    "2024-01-25",  # a refund, no order
                    "2024-02-01",  # after the cutoff
                    "2024-01-31",  # on the cutoff
                ]
            ),
            "value": [10.0, 7.0, 5.0, 25.0, 9.0, -12.0, 1.0, 3.0],
            "count_orders": [1, 1, 1, 1, 1, 0, 1, 1],
        }
    )
    expected = pd.DataFrame(
        {
            "frequency": [2, 0, 0],
            "recency": [19.0, 0.0, 0.0],
            "T": [30.0, 26.0, 0.0],
            "monetary_value": [20.0, np.nan, np.nan],
            "count_order_days": [3, 1, 1],
            "sum_value": [47.0, -3.0, 3.0],
        },
        index=pd.Index(["a", "b", "d"], name="customer_id"),
    )
    found = summarise(days, "2024-01-31", count_orders="count_orders")
    pd.testing.assert_frame_equal(found, expected)
    weeks = summarise(days, "2024-01-31", count_orders="count_orders", unit_days=7.0)
    assert weeks.loc["a", "recency"] == pytest.approx(19 / 7)


def test_gamma_gamma_excludes_what_is_not_positive_and_says_how_many() -> None:
    table = pd.read_csv(GOLDEN / "cdnow_sample_spend.csv")
    clean = GammaGamma().fit(table["frequency"], table["monetary_value"])
    x = np.append(table["frequency"], [3, 1, 0])
    mean = np.append(table["monetary_value"], [0.0, -5.0, np.nan])
    dirty = GammaGamma().fit(x, mean)
    assert dirty.count_excluded_ == 2
    assert dirty.parameters_ == pytest.approx(clean.parameters_)
    assert dirty.correlation_ == pytest.approx(clean.correlation_)
    # A customer whose refunds outweigh the orders counts as one who spends nothing.
    assert dirty.expected_spend(1, -5.0) == dirty.expected_spend(1, 0.0) > 0


def test_gamma_gamma_does_not_care_about_the_currency() -> None:
    table = pd.read_csv(GOLDEN / "cdnow_sample_spend.csv")
    dollars = GammaGamma().fit(table["frequency"], table["monetary_value"])
    cents = GammaGamma().fit(table["frequency"], table["monetary_value"] * 100)
    for name, factor in {"p": 1, "q": 1, "v": 100}.items():
        assert cents.parameters_[name] == pytest.approx(factor * dollars.parameters_[name])
    errors = cents.result_.standard_errors["v"], dollars.result_.standard_errors["v"]
    assert errors[0] == pytest.approx(100 * errors[1], rel=1e-4)


def test_gamma_gamma_recovers_simulated_parameters() -> None:
    rng = np.random.default_rng(7)
    x = rng.integers(1, 8, 20_000)
    rate = rng.gamma(3.0, 1 / 20.0, x.size)
    mean = rng.gamma(5.0 * x, 1.0) / (rate * x)
    model = GammaGamma().fit(x, mean)
    for name, value in {"p": 5.0, "q": 3.0, "v": 20.0}.items():
        assert abs(model.parameters_[name] - value) < 4.5 * model.result_.standard_errors[name]
    # The expectation of p / rate given the mean is unbiased for customers seen alike.
    error = 5.0 / rate - model.expected_spend(x, mean)
    assert abs(error.mean()) < 4.5 * error.std() / np.sqrt(x.size)


def test_gamma_gamma_where_the_mean_over_customers_is_infinite() -> None:
    model = GammaGamma.from_parameters(p=0.2, q=0.5, v=10.0)
    model.mean_spend_ = 33.0
    # p x + q - 1 is -0.5, -0.3 and 0.5: only the last posterior has a mean.
    spend = model.expected_spend([0, 1, 5], [np.nan, 20.0, 20.0])
    np.testing.assert_allclose(spend, [33.0, 33.0, 0.2 * (10.0 + 5 * 20.0) / 0.5])


def test_gamma_gamma_refuses_what_it_cannot_fit() -> None:
    with pytest.raises(FitError, match="2 were excluded and none is left"):
        GammaGamma().fit([1, 2, 0], [0.0, -1.0, np.nan])
    with pytest.raises(ValueError, match="missing for customers with orders"):
        GammaGamma().fit([1], [np.nan])
    with pytest.raises(ValueError, match="must be finite"):
        GammaGamma().fit([1], [np.inf])


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 10_000),
    st.floats(-1e6, 1e9),
    st.tuples(*[st.floats(1e-3, 1e4)] * 3),
)
def test_expected_spend_is_finite_and_not_negative(
    frequency: int, mean: float, parameters: tuple[float, float, float]
) -> None:
    p, q, v = parameters
    model = GammaGamma.from_parameters(p=p, q=q, v=v)
    model.mean_spend_ = 10.0
    spend = float(model.expected_spend(frequency, mean))
    assert np.isfinite(spend)
    assert spend >= 0.0


@pytest.mark.parametrize("purchases", list(PURCHASE_MODELS))
@pytest.mark.parametrize("count_first_order_in_spend", [False, True])
def test_value_model(purchases: str, count_first_order_in_spend: bool) -> None:
    X = customers()
    model = BTYDValueModel(purchases, count_first_order_in_spend).fit(X)
    predicted = model.predict(X, 90)
    assert list(predicted.columns) == OUTPUTS
    pd.testing.assert_index_equal(predicted.index, X.index)
    history = (X["frequency"], X["recency"], X["T"])
    orders = model.purchase_model_.expected_purchases(90, *history)
    np.testing.assert_allclose(predicted["expected_orders"], orders)
    assert (predicted["value"] > 0).all()
    assert predicted["probability_purchase"].between(0, 1).all()
    assert (predicted["probability_purchase"] <= predicted["probability_alive"] + 1e-9).all()
    assert not predicted["expected_days_to_next_order"].isna().any()
    # A longer horizon cannot be worth less.
    assert (model.predict(X, 180)["value"] >= predicted["value"]).all()
    loaded = BTYDValueModel.from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False)))
    pd.testing.assert_frame_equal(loaded.predict(X, 90), predicted)


def test_only_models_in_which_one_time_buyers_can_be_dead_publish_alive() -> None:
    publishable = {name: BTYDValueModel(name).alive_is_publishable for name in PURCHASE_MODELS}
    assert publishable == {"pareto_nbd": True, "bg_nbd": False, "mbg_nbd": True}


def test_customers_without_orders_are_worth_nothing() -> None:
    X = customers()
    model = BTYDValueModel().fit(X)
    known = model.predict(X, 90)
    unknown = X.iloc[:2].copy()
    unknown.index = pd.Index(["never", "refund only"], name="customer_id")
    unknown.loc["never", ["frequency", "recency", "T", "monetary_value"]] = np.nan
    unknown["count_order_days"] = 0
    both = pd.concat([unknown, X])
    assert BTYDValueModel().fit(both).to_dict() == model.to_dict()
    predicted = model.predict(both, 90)
    pd.testing.assert_frame_equal(predicted.iloc[2:], known)
    zero = ["value", "probability_purchase", "expected_orders"]
    assert (predicted.iloc[:2][zero] == 0.0).all(axis=None)
    missing = ["probability_alive", "expected_days_to_next_order"]
    assert predicted.iloc[:2][missing].isna().all(axis=None)


@pytest.mark.parametrize("purchases", list(PURCHASE_MODELS))
def test_nobody_to_score_and_no_time_to_buy(purchases: str) -> None:
    X = customers()
    model = BTYDValueModel(purchases).fit(X)
    assert model.predict(X.iloc[:0], 90).empty
    nobody = pd.DataFrame({name: pd.array([pd.NA], dtype="Float64") for name in X})
    assert model.predict(nobody, 90)["value"].tolist() == [0.0]
    at_once = model.predict(X, 0)
    zero = ["value", "probability_purchase", "expected_orders"]
    assert (at_once[zero] == 0.0).all(axis=None)


def test_refunds_beyond_the_orders_do_not_spoil_the_fit() -> None:
    X = customers()
    X.loc[["c0", "c1"], "sum_value"] = [-50.0, 0.0]
    model = BTYDValueModel(count_first_order_in_spend=True).fit(X)
    assert model.spend_model_.count_excluded_ == 2
    assert (model.predict(X, 90)["value"] > 0).all()


def test_the_discount_lowers_value_and_nothing_else() -> None:
    X = customers()
    plain = BTYDValueModel().fit(X).predict(X, 365)
    discounted = BTYDValueModel(yearly_rate=0.1).fit(X).predict(X, 365)
    ratio = discounted["value"] / plain["value"]
    assert ((ratio > np.exp(-0.1)) & (ratio < 1.0)).all()
    pd.testing.assert_frame_equal(discounted[OUTPUTS[1:]], plain[OUTPUTS[1:]])


def test_settings_that_cannot_work_are_named() -> None:
    X = customers()
    with pytest.raises(ValueError, match="count_order_days and sum_value"):
        BTYDValueModel(count_first_order_in_spend=True).fit(
            X.drop(columns=["count_order_days", "sum_value"])
        )
    with pytest.raises(ValueError, match="pareto_nbd, bg_nbd, mbg_nbd"):
        BTYDValueModel("bgnbd").fit(X)
    with pytest.raises(ValueError, match="not btyd_value"):
        BTYDValueModel.from_dict({"model": "pareto_nbd"})


@pytest.mark.real_data
def test_accuracy_on_cdnow_is_what_was_measured(shared_data: Path) -> None:
    orders = pd.read_parquet(shared_data / "cdnow" / "cdnow_sample.parquet")
    orders = orders.rename(columns={"date": "order_date", "amount": "value"})
    X = summarise(orders, "1997-09-30")
    after = orders.loc[orders["order_date"] > "1997-09-30"]
    actual = after.groupby("customer_id")["value"].sum().reindex(X.index, fill_value=0.0)
    for purchases, rmse, bias in (("bg_nbd", 72.3, -0.16), ("pareto_nbd", 72.2, -0.15)):
        value = BTYDValueModel(purchases).fit(X).predict(X, 273)["value"]
        assert np.sqrt(((value - actual) ** 2).mean()) == pytest.approx(rmse, abs=0.3)
        assert value.sum() / actual.sum() - 1 == pytest.approx(bias, abs=0.01)


def test_a_history_that_the_data_hardly_bound_says_so() -> None:
    # Everyone buys every ten days and nobody leaves: no spread of rates, and no deaths.
    day = Cutoff.parse("2024-03-31")
    recency = np.repeat(np.arange(10.0, 60.0, 10.0), 20)
    rows = pd.DataFrame(
        {
            "customer_id": [f"c{k}" for k in range(len(recency))],
            "cutoff_date": pd.Timestamp(day.day),
            "frequency": recency / 10,
            "recency": recency,
            "T": recency,
            "count_order_days": recency / 10 + 1,
            "days_since_last_order": 0.0,
            "sum_value": np.random.default_rng(0).gamma(5.0, 4.0, len(recency)) * recency,
        }
    ).assign(monetary_value=lambda r: r["sum_value"] / r["count_order_days"])
    columns = tuple(column(name) for name in rows.columns[2:])
    labels = rows.head(0)[["customer_id", "cutoff_date"]].assign(
        horizon_days=30, label_value=0.0, label_orders=0, has_purchase=False
    )
    histories = Histories(Panel.build(rows, labels, columns), 0)
    model = histories.at(day)
    assert model is not None and not histories.failures
    assert "pareto_nbd is weakly identified. The data hardly bound" in histories.cautions[day]
    assert histories.cautions[day] == model.caution()
    assert np.isfinite(model.for_horizon(30).predict(history_matrix(rows))).all()
