"""Plots that draw whatever they are given, and what is said of matured predictions."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from clv_pipeline.evaluation.backtest import Forecasts
from clv_pipeline.reporting import plots
from clv_pipeline.reporting.review import review_predictions
from tests.evaluation.test_gate import forecasts


def shown(png: bytes) -> np.ndarray:
    """Read the image back, and hold it to have ink on each half."""
    image = imread(BytesIO(png))[:, :, :3].mean(axis=2)
    height, width = image.shape
    assert height > 200 and width > 350
    for half in (image[:, : width // 2], image[:, width // 2 :]):
        assert (half < 0.8).mean() > 0.003
    return image


def flat(n: int = 3) -> Forecasts:
    """Nothing came, nothing was predicted, no probability."""
    one = forecasts(n=n)
    nothing = np.zeros(n)
    unknown = np.full(n, np.nan)
    return Forecasts(90, one.evaluation, one.keys, nothing, nothing.astype(bool), nothing, unknown)


@pytest.mark.parametrize("given", [forecasts(0.4, n=400), flat()], ids=["a shop", "nothing"])
def test_every_plot_of_a_backtest_is_drawn(given):
    for png in (
        plots.plot_calibration(given, "ensemble"),
        plots.plot_concentration({"ensemble": given, "zero": flat(len(given.actual))}),
        plots.plot_residuals(given, "ensemble"),
    ):
        shown(png)


def test_drivers_are_drawn():
    effects = pd.DataFrame(
        {
            "horizon_days": 90,
            "segment": "all",
            "driver": ["frequency", "country"],
            "driver_rank": [1, 2],
            "mean_absolute_effect": [3.0, 1.0],
            "direction": ["up", "mixed"],
        }
    )
    dependence = pd.DataFrame(
        {"driver": "frequency", "driver_value": [0.0, 1.0], "mean_predicted": [1.0, 2.0]}
    )
    shown(plots.plot_effects(effects, dependence))


def reviews(biases: list[float], ginis: list[float] | None = None, coverage: float = 0.8):
    rows = []
    for k, bias in enumerate(biases):
        day = pd.Timestamp("2024-01-07") + pd.Timedelta(days=7 * k)
        for cohort, size in (("all", 3), ("2023-05", 1), ("2023-06", 2)):
            rows.append(
                {
                    "cutoff_date": day,
                    "horizon_days": 30,
                    "cohort": cohort,
                    "sum_predicted": 1000.0 * size * (1 + bias),
                    "sum_actual": 1000.0 * size,
                    "sum_actual_when_matured": 1000.0 * size,
                    "total_bias": bias,
                    "coverage_80": coverage,
                    "normalized_gini": (ginis or [0.7] * len(biases))[k],
                    "expected_buyers": 10.0,
                    "actual_buyers": 11,
                }
            )
    return pd.DataFrame(rows)


def test_what_came_is_said_beside_what_was_predicted():
    (found,) = review_predictions(reviews([0.0, 0.05]))
    assert found.drift is None
    assert "2024-01-14, 3,150 was predicted and 3,000 came in (+5.0%)" in found.sentence
    shown(plots.plot_review(reviews([0.0, 0.05])))
    assert review_predictions(reviews([0.0]).iloc[:0]) == []


@pytest.mark.parametrize(
    ("review", "says"),
    [
        (reviews([0.02, -0.01, 0.0, -0.4]), "off by -40% where it had been +0%"),
        (reviews([0.5]), "the total is off by +50%"),
        (reviews([0.0] * 4, [0.7, 0.72, 0.71, 0.6]), "the ranking fell to 0.600 from 0.710"),
        (reviews([0.0], coverage=0.5), "only 50% lay between"),
    ],
)
def test_drift_is_named(review, says):
    (found,) = review_predictions(review)
    assert found.drift is not None
    assert says in found.drift


def test_a_shop_that_was_always_off_does_not_drift():
    # Level with its past: the gate and the calibration answer for that.
    (found,) = review_predictions(reviews([0.35, 0.33, 0.36, 0.34]))
    assert found.drift is None


def test_orders_that_come_in_late_are_no_drift():
    # A fifth comes in after the window: counted in the earlier reviews, not yet in the newest.
    review = reviews([0.0] * 4 + [0.25])
    review["sum_actual_when_matured"] = review["sum_predicted"] / 1.25
    newest = review["cutoff_date"] == review["cutoff_date"].max()
    review.loc[newest, "sum_actual"] = review.loc[newest, "sum_actual_when_matured"]
    (found,) = review_predictions(review)
    assert found.drift is None
    review.loc[newest, "sum_predicted"] *= 1.2
    (found,) = review_predictions(review)
    assert found.drift is not None
    assert "off by +50% where it had been +25%" in found.drift
