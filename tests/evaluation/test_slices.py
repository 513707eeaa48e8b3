"""Slices of a backtest carry the names that analysts see, as of the cutoff."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.evaluation.slices import slice_customers
from clv_pipeline.segments import RFM_GRID, SEGMENT_ACTIONS
from tests.models.panels import column

CUTOFF = pd.Timestamp("2024-03-31")


@pytest.fixture(scope="module")
def slices():
    n = 100
    rng = np.random.default_rng(0)
    days = np.r_[np.zeros(5), rng.integers(1, 9, n - 5)]
    rows = pd.DataFrame(
        {
            "customer_id": [f"c{k:03}" for k in range(n)][::-1],
            "cutoff_date": CUTOFF,
            "count_order_days": days,
            "frequency": np.where(days > 0, days - 1, np.nan),
            "T": np.where(days > 0, rng.integers(100, 500, n), np.nan),
            "days_since_last_order": np.where(days > 0, rng.integers(0, 90, n), np.nan),
            "sum_value": days * 10.0,
            "country": ["DE", None] * (n // 2),
        }
    )
    value, chance = np.arange(n, dtype=float), np.where(np.arange(n) % 2, 0.9, 0.1)
    columns = (column("country", "categorical"), column("T"))
    return rows, slice_customers(rows, columns, value, chance)


def test_segments_are_those_that_are_published(slices):
    rows, found = slices
    assert set(found["segment"]) <= set(SEGMENT_ACTIONS)
    assert set(found["rfm_segment"]) <= {name for name, *_ in RFM_GRID} | {"never ordered"}
    assert (found["segment"][:5] == "convert").all()
    assert (found["rfm_segment"][:5] == "never ordered").all()
    # The most valuable: likely to order again, and not.
    assert found["segment"][99] == "protect" and found["segment"][98] == "win back"
    assert all(len(names) == len(rows) for names in found.values())


def test_tenure_country_and_repeats_follow_the_rows(slices):
    rows, found = slices
    assert set(found) == {"segment", "rfm_segment", "tenure", "repeat", "country"}
    np.testing.assert_array_equal(found["country"], rows["country"].fillna("unknown"))
    old = (rows["T"] > 365).to_numpy()
    assert (found["tenure"][old] == "over a year").all() and (
        found["tenure"][:5] == "no order"
    ).all()
    np.testing.assert_array_equal(found["repeat"] == "repeat buyers", rows["frequency"] > 0)
