"""Segments and tiers by rule, and what to do about each.

A name means the same every night and in every backtest: published tables and the slices that models
are measured on take it from here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

# RFM scores of 1 to 5 (5 best): (name, recency range, mean of frequency and money range).
# The grid covers all 25 pairs once; names follow the usual RFM segmentation.
RFM_GRID: tuple[tuple[str, tuple[int, int], tuple[int, int]], ...] = (
    ("champions", (5, 5), (4, 5)),
    ("loyal", (3, 4), (4, 5)),
    ("potential loyal", (4, 5), (3, 3)),
    ("promising", (4, 5), (1, 2)),
    ("need attention", (3, 3), (3, 3)),
    ("about to sleep", (3, 3), (1, 2)),
    ("cannot lose", (1, 2), (5, 5)),
    ("at risk", (1, 2), (3, 4)),
    ("hibernating", (2, 2), (1, 2)),
    ("lost", (1, 1), (1, 2)),
)

# Segment -> what to do, in words an analyst can act on. Published in segment_profile.
SEGMENT_ACTIONS: dict[str, str] = {
    "protect": "Most valuable and likely to order again: best service and early access, no "
    "discount needed.",
    "win back": "Valuable by habit, but unlikely to order again soon: contact first, in person "
    "where that pays.",
    "grow": "Order regularly at middle value: recommend further ranges, raise the basket.",
    "reactivate": "Middle value and fading: a cheap reminder, stop after two without answer.",
    "welcome": "First order less than 60 days ago: help with the second order, which decides.",
    "maintain": "Low value and active: automatic contact only.",
    "let rest": "Low value and unlikely to order: spend nothing.",
    "convert": "Signed up and never ordered: first-order offer.",
}
WELCOME_DAYS = 60
# Share of customers, best first, that each tier ends at.
VALUE_TIERS: tuple[tuple[str, float], ...] = (
    ("top", 0.10),
    ("high", 0.30),
    ("middle", 0.60),
    ("low", 1.00),
)


def rank_customers(clv: pd.Series[float]) -> pd.Series[int]:
    """Rank customers by value, 1 the highest; equal values in the order of their ids."""
    order = clv.sort_index().sort_values(ascending=False, kind="stable").index
    return pd.Series(np.arange(1, len(order) + 1), index=order).reindex(clv.index)


def assign_tier(rank: pd.Series[int], clv: pd.Series[float]) -> pd.Series[str]:
    """Assign the value tier by rank; who is expected to bring nothing is in the lowest one."""
    share = rank / len(rank)
    tier = pd.Series(VALUE_TIERS[-1][0], index=rank.index)
    for name, end in reversed(VALUE_TIERS):
        # The best customer is in the best tier however few customers there are.
        tier[(share <= end) | (rank == 1)] = name
    tier[clv <= 0] = VALUE_TIERS[-1][0]
    return tier


def assign_rfm(past: pd.DataFrame) -> pd.DataFrame:
    """Score recency, frequency and money by quintiles of the customers who ordered.

    Parameters
    ----------
    past
        Indexed by customer_id, with days_since_last_order, count_order_days and sum_value.

    Returns
    -------
    pandas.DataFrame
        rfm_score such as '545' and rfm_segment; '000' and 'never ordered' without an order. Equal
        values share a score.
    """
    ordered = past["count_order_days"].fillna(0) > 0
    buyers = past[ordered]
    recency = _quintile(-buyers["days_since_last_order"].astype(float))
    frequency = _quintile(buyers["count_order_days"].astype(float))
    money = _quintile(buyers["sum_value"].astype(float))
    strength = (frequency + money + 1) // 2
    names = pd.Series("lost", index=buyers.index)
    for name, (r_low, r_high), (s_low, s_high) in RFM_GRID:
        names[recency.between(r_low, r_high) & strength.between(s_low, s_high)] = name
    result = pd.DataFrame({"rfm_score": "000", "rfm_segment": "never ordered"}, index=past.index)
    result.loc[ordered, "rfm_score"] = (
        recency.astype(str) + frequency.astype(str) + money.astype(str)
    )
    result.loc[ordered, "rfm_segment"] = names
    return result


def assign_segment(
    past: pd.DataFrame, tier: pd.Series[str], churn_probability: pd.Series[float]
) -> pd.Series[str]:
    """Assign the action segment: what the customer is worth against how likely they are to go.

    Likely to churn means above even odds; thresholds are fixed, so that a customer changes segment
    only when the customer changes.
    """
    orders = past["count_order_days"].fillna(0)
    going = churn_probability > 0.5
    conditions = [
        orders == 0,
        (orders == 1) & (past["T"].fillna(0) < WELCOME_DAYS),
        (tier == "top") & ~going,
        tier.isin(["top", "high"]) & going,
        tier.isin(["high", "middle"]) & ~going,
        (tier == "middle") & going,
        ~going,
    ]
    names = ["convert", "welcome", "protect", "win back", "grow", "reactivate", "maintain"]
    return pd.Series(np.select(conditions, names, "let rest"), index=past.index)


def _quintile(values: pd.Series[float]) -> pd.Series[int]:
    score = np.ceil(values.rank(pct=True, method="average").to_numpy() * 5).clip(1, 5)
    return pd.Series(score.astype(int), index=values.index)
