"""The models against the figures of the papers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.models.btyd import (
    BGBB,
    BGNBD,
    MBGNBD,
    GammaGamma,
    ParetoNBD,
    PurchaseModel,
    summarise,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "btyd"
# Parameters that are times are published with fewer digits than they vary.
TOLERANCE = {"alpha": 0.02, "beta": 0.02}


@pytest.fixture(scope="module")
def cdnow() -> pd.DataFrame:
    days = pd.read_csv(GOLDEN / "cdnow_sample.csv")
    return days.assign(recency=days["recency"] / 7, T=days["T"] / 7)


@pytest.fixture(scope="module")
def donations() -> pd.DataFrame:
    return pd.read_csv(GOLDEN / "donations.csv")


def fitted(model: PurchaseModel, table: pd.DataFrame) -> PurchaseModel:
    return model.fit(
        table["frequency"], table["recency"], table["T"], weights=table["count_customers"]
    )


@pytest.mark.parametrize(
    ("model", "parameters", "log_likelihood"),
    [
        (BGNBD(), {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}, -9582.429),
        (MBGNBD(), {"r": 0.525, "alpha": 6.183, "a": 0.891, "b": 1.614}, -9582.136),
        (ParetoNBD(), {"r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.669}, -9594.976),
    ],
    ids=["bg_nbd", "mbg_nbd", "pareto_nbd"],
)
def test_parameters_on_cdnow(
    cdnow: pd.DataFrame, model: PurchaseModel, parameters: dict[str, float], log_likelihood: float
) -> None:
    assert cdnow["count_customers"].sum() == 2357
    result = fitted(model, cdnow).result_
    assert result.converged, result.message
    assert result.log_likelihood == pytest.approx(log_likelihood, abs=0.01)
    for name, value in parameters.items():
        assert result.parameters[name] == pytest.approx(value, abs=TOLERANCE.get(name, 0.01)), name
        assert 0.0 < result.standard_errors[name] < result.parameters[name]


def test_bg_nbd_expectations_on_cdnow(cdnow: pd.DataFrame) -> None:
    model = fitted(BGNBD(), cdnow)
    published = [0.0078, 0.0532, 0.1506, 1.0405, 1.0437, 1.8576]
    expected = model.expected_purchases_new([0.1429, 1, 3, 31.8571, 32, 78])
    np.testing.assert_allclose(expected, published, atol=5e-4)
    assert model.expected_purchases(39, 2, 30.43, 38.86) == pytest.approx(1.226, abs=1e-3)


def test_pareto_nbd_expectations_on_cdnow(cdnow: pd.DataFrame) -> None:
    model = fitted(ParetoNBD(), cdnow)
    assert model.expected_purchases(52, 26, 30.86, 31) == pytest.approx(25.46, abs=0.01)
    assert model.probability_alive(26, 30.86, 31) == pytest.approx(0.9979, abs=1e-4)


def test_pareto_nbd_stays_exact_for_frequencies_in_the_hundreds() -> None:
    model = ParetoNBD.from_parameters(r=0.55, alpha=10.58, s=0.61, beta=11.67)
    expected = model.expected_purchases(10, [132, 133], 200, 200)
    np.testing.assert_allclose(expected, [6.20605, 6.25287], atol=1e-5)


def test_gamma_gamma_on_cdnow() -> None:
    table = pd.read_csv(GOLDEN / "cdnow_sample_spend.csv")
    assert len(table) == 946
    model = GammaGamma().fit(table["frequency"], table["monetary_value"])
    assert model.result_.converged
    assert model.count_excluded_ == 0
    assert model.result_.log_likelihood == pytest.approx(-4055.92, abs=0.01)
    for name, value in {"p": 6.25, "q": 3.74, "v": 15.44}.items():
        assert model.parameters_[name] == pytest.approx(value, abs=0.01)
    # The first four customers of the sample; the last two bought once.
    spend = model.expected_spend([2, 1, 0, 0], [22.345, 11.77, np.nan, np.nan])
    np.testing.assert_allclose(spend, [24.65, 18.91, 35.17, 35.17], atol=0.1)


def test_bg_bb_on_donations(donations: pd.DataFrame) -> None:
    assert len(donations) == 22
    assert donations["count_customers"].sum() == 11104
    model = fitted(BGBB(), donations)
    assert model.result_.converged
    assert model.result_.log_likelihood == pytest.approx(-33225.58, abs=0.01)
    published = {"alpha": 1.204, "beta": 0.750, "gamma": 0.657, "delta": 2.783}
    for name, value in published.items():
        assert model.parameters_[name] == pytest.approx(value, abs=TOLERANCE.get(name, 0.01))
    # Donors of every year give 3.75 times in the next five, those of no year 0.07 times.
    expected = model.expected_purchases(5, [6, 0], [6, 0], 6)
    np.testing.assert_allclose(expected, [3.75, 0.07], atol=0.005)


@pytest.mark.real_data
def test_summary_of_the_orders_gives_the_golden_table(shared_data: Path) -> None:
    orders = pd.read_parquet(shared_data / "cdnow" / "cdnow_sample.parquet")
    summary = summarise(orders, "1997-09-30", customer_id="customer_id", day="date", value="amount")
    counted = summary.groupby(["frequency", "recency", "T"], as_index=False).size()
    golden = pd.read_csv(GOLDEN / "cdnow_sample.csv")
    counted = counted.rename(columns={"size": "count_customers"})
    pd.testing.assert_frame_equal(counted, golden, check_dtype=False)
    columns = ["frequency", "monetary_value"]
    repeat = summary.loc[summary["frequency"] > 0, columns].sort_values(columns)
    spend = pd.read_csv(GOLDEN / "cdnow_sample_spend.csv").sort_values(columns)
    np.testing.assert_allclose(repeat.to_numpy(), spend.to_numpy(), atol=1e-6)
