"""CDNOW's sample, 39 weeks to 39 weeks, against figures that others measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.evaluation.metrics import value_measures
from clv_pipeline.models.baselines import ConstantModel, RateTimesValueModel
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.timeline import Cutoff
from tests.models.panels import make_panel

HORIZON = 273


@pytest.fixture(scope="module")
def sample(shared_data: Path):
    orders = pd.read_parquet(shared_data / "cdnow" / "cdnow_sample.parquet")
    days = orders.assign(
        customer_id=orders["customer_id"].astype(str),
        date=pd.to_datetime(orders["date"].astype(str)),
    )
    days = days.groupby(["customer_id", "date"], as_index=False)["amount"].sum()
    cutoff = Cutoff.parse("1997-09-30")
    rows, target = make_panel(days, [cutoff], [HORIZON], Cutoff.parse("1998-06-30")).matrix(HORIZON)
    return history_matrix(rows), target


@pytest.mark.real_data
def test_the_sample_is_the_one_of_the_literature(sample):
    _, target = sample
    assert len(target) == 2357
    assert target.orders.sum() == 1882
    assert target.value.sum() == pytest.approx(70976, abs=1)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("model", "mae", "rmse", "bias", "gini", "capture"),
    [
        (ConstantModel("zero"), 30.1, 91.7, -1.0, 0.0, 0.10),
        (RateTimesValueModel(HORIZON), 43.5, 199, 0.63, 0.676, 0.492),
        (HistoryModel(HORIZON, "bg_nbd", False), 30.4, 72.3, -0.16, 0.638, 0.502),
        (HistoryModel(HORIZON, "pareto_nbd", False), 29.5, 72.2, -0.15, 0.659, 0.504),
    ],
)
def test_figures_equal_those_measured_elsewhere(sample, model, mae, rmse, bias, gini, capture):
    X, target = sample
    found = value_measures(target.value, model.fit(X, target).predict(X))
    assert found["mae"] == pytest.approx(mae, abs=0.051)
    assert found["rmse"] == pytest.approx(rmse, abs=0.51 if rmse > 100 else 0.051)
    assert found["total_bias"] == pytest.approx(bias, abs=0.0051)
    assert found["normalized_gini"] == pytest.approx(gini, abs=0.00051)
    assert found["top_10_capture"] == pytest.approx(capture, abs=0.0021)


@pytest.mark.real_data
def test_counting_the_first_order_in_spend_ranks_better(sample):
    X, target = sample
    gini = [
        value_measures(target.value, HistoryModel(HORIZON, "pareto_nbd", first).fit(X).predict(X))[
            "normalized_gini"
        ]
        for first in (False, True)
    ]
    assert gini[1] > gini[0] + 0.02
    assert np.isfinite(gini).all()
