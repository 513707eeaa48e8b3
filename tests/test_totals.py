"""Totals with what they may be missed by: luck of the customers, and the shop's level."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.models.clv import CLVModel
from clv_pipeline.scoring import TOTAL_COLUMNS, total_values
from clv_pipeline.timeline import Cutoff

DAY = pd.Timestamp("2024-06-30")


class Model(CLVModel):
    """Answers nothing; knows by how much past cutoffs were missed."""

    spread = 0.15

    def total_error(self, horizon: int, cutoff: Cutoff) -> tuple[float, float]:
        return self.spread, 1.0


def shop(n=2000):
    rng = np.random.default_rng(1)
    chance, amount = rng.uniform(0.02, 0.6, n), rng.gamma(3.0, 20.0, n)
    predictions = pd.DataFrame(
        {
            "customer_id": [f"c{k}" for k in range(n)],
            "cutoff_date": DAY,
            "horizon_days": 90,
            "clv": chance * amount,
            "probability_purchase": chance,
        }
    )
    groups = pd.DataFrame(
        {
            "customer_id": predictions["customer_id"],
            "segment": np.where(np.arange(n) % 3 == 0, "a", "b"),
            "country": np.where(np.arange(n) % 50 == 0, None, "DE"),
        }
    )
    return predictions, groups, chance, amount


def test_groups_add_up_to_the_shop():
    predictions, groups, _, _ = shop()
    found = total_values(Model((90,)), predictions, groups, "run", "v1")
    assert tuple(found.columns) == TOTAL_COLUMNS
    for kind in ("all", "segment", "country"):
        part = found[found["group_kind"] == kind]
        assert part["clv"].sum() == pytest.approx(predictions["clv"].sum())
        assert part["count_customers"].sum() == len(predictions)
    assert set(found.loc[found["group_kind"] == "country", "group_value"]) == {"DE", "unknown"}
    ends = found[["low_95", "low_80", "clv", "high_80", "high_95"]].to_numpy()
    assert (np.diff(ends, axis=1) > 0).all()
    assert not found.duplicated(["horizon_days", "group_kind", "group_value"]).any()
    assert total_values(Model((90,)), predictions.iloc[:0], groups, "run").empty


@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_intervals_of_totals_hold_as_often_as_they_say(spread):
    predictions, groups, chance, amount = shop()
    model = Model((90,))
    model.spread = spread
    found = total_values(model, predictions, groups, "run").set_index("group_value").loc["all"]
    rng = np.random.default_rng(2)
    totals = []
    for _ in range(600):
        level = np.exp(rng.normal(0, spread)) if spread else 1.0
        bought = rng.uniform(size=len(chance)) < chance
        drawn = amount * np.exp(rng.normal(-0.5, 1.0, len(chance)))
        totals.append(level * drawn[bought].sum())
    for name, coverage in (("80", 0.8), ("95", 0.95)):
        inside = np.mean([found[f"low_{name}"] <= t <= found[f"high_{name}"] for t in totals])
        assert inside == pytest.approx(coverage, abs=0.03)
