from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as settings_for_tests
from hypothesis import strategies as st

from clv_pipeline.decisions.standing import (
    LOYALTY_WEIGHTS,
    decide,
    expect_next_order,
)
from clv_pipeline.segments import RFM_GRID, SEGMENT_ACTIONS, assign_rfm, rank_customers
from clv_pipeline.settings import Settings

CUTOFF = pd.Timestamp("1998-06-30")


def make_tables(customers: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each customer: orders, T, last (days since), value, clv, p (of an order in 180 days)."""
    features = pd.DataFrame(
        {
            "customer_id": [f"c{k}" for k in range(len(customers))],
            "cutoff_date": CUTOFF,
            "count_order_days": [c["orders"] for c in customers],
            "frequency": [max(c["orders"] - 1, 0) for c in customers],
            "T": [c["T"] for c in customers],
            "recency": [c["T"] - c["last"] if c["orders"] else np.nan for c in customers],
            "days_since_last_order": [c["last"] if c["orders"] else np.nan for c in customers],
            "sum_value": [c["value"] for c in customers],
        }
    )
    rows = []
    for k, c in enumerate(customers):
        for horizon in (30, 90, 180, 365):
            share = horizon / 365
            rows.append(
                {
                    "customer_id": f"c{k}",
                    "cutoff_date": CUTOFF,
                    "horizon_days": horizon,
                    "clv": c["clv"] * share,
                    "probability_purchase": 1 - (1 - c["p"]) ** (horizon / 180),
                    "model_version": "m",
                    "run_id": "r",
                }
            )
    return pd.DataFrame(rows), features


GIANT = {"orders": 40, "T": 400, "last": 3, "value": 9000, "clv": 5000, "p": 0.99}
LOST = {"orders": 1, "T": 500, "last": 500, "value": 10, "clv": 1, "p": 0.02}
LOST_GIANT = {"orders": 30, "T": 500, "last": 300, "value": 8000, "clv": 900, "p": 0.2}
NEW = {"orders": 1, "T": 20, "last": 20, "value": 30, "clv": 40, "p": 0.4}
NOBODY = {"orders": 0, "T": 100, "last": 0, "value": 0, "clv": 0, "p": 0.05}


def test_five_kinds_of_customer_stand_where_one_expects(settings: Settings) -> None:
    predictions, features = make_tables([GIANT, LOST, LOST_GIANT, NEW, NOBODY])
    standing = decide(settings, predictions, features).set_index("customer_id")
    assert standing["clv_rank"].to_dict() == {"c0": 1, "c2": 2, "c3": 3, "c1": 4, "c4": 5}
    assert standing["segment"].to_dict() == {
        "c0": "protect",
        "c1": "let rest",
        "c2": "reactivate",
        "c3": "welcome",
        "c4": "convert",
    }
    assert standing.loc["c4", "rfm_score"] == "000"
    assert standing.loc["c4", "loyalty_score"] == 0
    assert standing.loc["c0", "loyalty_score"] == standing["loyalty_score"].max()
    assert standing["confidence"].to_dict() == {
        "c0": "high",
        "c1": "medium",
        "c2": "high",
        "c3": "low",
        "c4": "low",
    }
    assert standing.loc["c0", "days_between_orders"] == pytest.approx(397 / 39)
    assert pd.isna(standing.loc["c1", "days_between_orders"])
    assert standing.loc["c1", "churn_probability"] == pytest.approx(0.98)
    # P = .99 in 180 days: half of that silence is over after 180 * log(.5) / log(.01) days.
    assert standing.loc["c0", "expected_next_order_date"] == CUTOFF + pd.Timedelta(days=28)
    assert pd.isna(standing.loc["c1", "expected_next_order_date"])


def test_a_horizon_that_was_never_checked_lowers_confidence(settings: Settings) -> None:
    predictions, features = make_tables([GIANT, LOST, NOBODY])
    standing = decide(settings, predictions, features, backtested_horizons=(30, 90))
    assert standing["confidence"].tolist() == ["medium", "low", "low"]
    assert standing["confidence_reason"].str.endswith("could not be checked on past data").all()
    assert standing["confidence_reason"].iloc[0].startswith("four order days or more; 365 days")


def test_features_of_other_customers_are_refused(settings: Settings) -> None:
    predictions, features = make_tables([GIANT, LOST])
    with pytest.raises(ValueError, match="1 customers have features or predictions but not both"):
        decide(settings, predictions, features.iloc[:1])


customer = st.fixed_dictionaries(
    {
        "orders": st.integers(0, 50),
        "T": st.integers(0, 900),
        "last": st.integers(0, 900),
        "value": st.floats(-100, 1e7),
        "clv": st.floats(0, 1e7),
        "p": st.floats(0, 1),
    }
)


@settings_for_tests(max_examples=25, deadline=None)
@given(st.lists(customer, min_size=1, max_size=30))
def test_everybody_gets_a_place(customers: list[dict[str, Any]]) -> None:
    for c in customers:
        c["last"] = min(c["last"], c["T"])
    predictions, features = make_tables(customers)
    standing = decide(Settings(root="."), predictions, features)  # type: ignore[arg-type]
    assert sorted(standing["clv_rank"]) == list(range(1, len(customers) + 1))
    assert set(standing["segment"]) <= set(SEGMENT_ACTIONS)
    assert set(standing["rfm_segment"]) <= {name for name, *_ in RFM_GRID} | {"never ordered"}
    assert standing["loyalty_score"].between(0, 100).all()
    assert standing["clv_percentile"].between(0, 100).all()
    # Adding nothing but the order of rows changes nothing.
    again = decide(
        Settings(root="."),  # type: ignore[arg-type]
        predictions.sample(frac=1, random_state=1),
        features.sample(frac=1, random_state=2),
    )
    pd.testing.assert_frame_equal(standing, again)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_next_order_is_expected_where_the_odds_turn_even(
    pairs: list[tuple[float, float]],
) -> None:
    purchase = pd.DataFrame([sorted(p) for p in pairs], columns=[30, 90], dtype=float)
    wait = (expect_next_order(purchase, CUTOFF) - CUTOFF).dt.days
    for (early, late), days in zip(purchase.to_numpy(), wait, strict=True):
        if late < 0.5 - 1e-9:
            assert np.isnan(days)
        elif late > 0.5 + 1e-9:
            assert (days <= 30) == (early >= 0.5) or days == 30
            assert 0 <= days <= 90


def test_the_rfm_grid_names_each_pair_once() -> None:
    for recency in range(1, 6):
        for strength in range(1, 6):
            names = [
                n for n, (a, b), (c, d) in RFM_GRID if a <= recency <= b and c <= strength <= d
            ]
            assert len(names) == 1, (recency, strength)


def test_equal_customers_share_an_rfm_score() -> None:
    past = pd.DataFrame(
        {"days_since_last_order": [5.0] * 7, "count_order_days": [2] * 7, "sum_value": [10.0] * 7}
    )
    assert assign_rfm(past)["rfm_score"].nunique() == 1


def test_equal_values_are_ranked_by_id() -> None:
    clv = pd.Series([1.0, 5.0, 5.0], index=["a", "c", "b"])
    assert rank_customers(clv).to_dict() == {"a": 3, "c": 2, "b": 1}


def test_loyalty_weights_sum_to_one() -> None:
    assert sum(LOYALTY_WEIGHTS.values()) == pytest.approx(1)
