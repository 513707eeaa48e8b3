"""Where each customer stands: churn, loyalty, rank, tier, segments and how sure we are of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from clv_pipeline.segments import assign_rfm, assign_segment, assign_tier, rank_customers
from clv_pipeline.settings import Settings

# Loyalty is what a customer does (repeat days), has done for long (tenure) and is likely to go on
# doing (purchase probability); the weights sum to 1.
LOYALTY_WEIGHTS = {"count_order_days": 0.35, "T": 0.15, "probability_purchase": 0.5}


def decide(
    settings: Settings,
    predictions: pd.DataFrame,
    features: pd.DataFrame,
    p_alive: pd.Series[float] | None = None,
    backtested_horizons: tuple[int, ...] | None = None,
    reasons: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Turn predictions into one row per customer of ``scores.customer_standing``.

    Parameters
    ----------
    settings
        Horizons and the churn horizon.
    predictions
        Rows of ``scores.customer_predictions`` of one cutoff, one per customer and horizon.
    features
        Rows of ``features.customer_features`` of the same cutoff and customers.
    p_alive
        Probability of being alive, indexed by customer_id; left null where None.
    backtested_horizons
        Horizons whose accuracy was measured; None when all were.
    reasons
        Words and effects, indexed by customer_id (``give_reasons``); left out where None.

    Returns
    -------
    pandas.DataFrame
        Ordered by rank.

    Raises
    ------
    ValueError
        If features and predictions are not of the same customers and one cutoff.
    """
    if predictions["cutoff_date"].nunique() > 1:
        raise ValueError("predictions of several cutoffs can't be ranked together")
    past = features.set_index("customer_id")
    wide = predictions.pivot(
        index="customer_id", columns="horizon_days", values=["clv", "probability_purchase"]
    )
    if set(wide.index) != set(past.index):
        missing = len(set(past.index) ^ set(wide.index))
        raise ValueError(f"{missing} customers have features or predictions but not both")
    past = past.loc[wide.index]
    purchase = pd.DataFrame(wide["probability_purchase"])
    longest = max(settings.value.horizons)
    together = compare_customers(past, wide["clv"][longest], purchase[settings.value.churn_days])
    alive = None if p_alive is None else p_alive.reindex(wide.index)
    cutoff = pd.Timestamp(predictions["cutoff_date"].iloc[0])
    standing = describe_customers(
        settings, past, together, purchase, cutoff, alive, backtested_horizons
    )
    first = predictions.iloc[0]
    standing = standing.assign(model_version=first["model_version"], run_id=first["run_id"])
    if reasons is not None:
        standing = standing.join(reasons)
    return standing.sort_values("clv_rank").reset_index()


def compare_customers(
    past: pd.DataFrame, clv: pd.Series[float], purchase: pd.Series[float]
) -> pd.DataFrame:
    """Say what depends on all customers of the shop: ranks, tiers, quintiles, loyalty.

    Parameters
    ----------
    past
        count_order_days, days_since_last_order, sum_value and T of every customer, in an index
        whose order is that of their ids: it decides between equal values.
    clv, purchase
        Value over the longest horizon and P(order within the churn horizon), in the same index.

    Returns
    -------
    pandas.DataFrame
        In the same index: clv_rank, clv_percentile, value_tier, loyalty_score, rfm_segment,
        rfm_score.
    """
    rank = rank_customers(clv)
    rfm = assign_rfm(past)
    return pd.DataFrame(
        {
            "loyalty_score": score_loyalty(past, purchase),
            "clv_rank": rank,
            "clv_percentile": 100 * (1 - (rank - 0.5) / len(rank)),
            "value_tier": assign_tier(rank, clv),
            "rfm_segment": rfm["rfm_segment"],
            "rfm_score": rfm["rfm_score"],
        },
        index=past.index,
    )


def describe_customers(
    settings: Settings,
    past: pd.DataFrame,
    together: pd.DataFrame,
    purchase: pd.DataFrame,
    cutoff: pd.Timestamp,
    p_alive: pd.Series[float] | None = None,
    backtested_horizons: tuple[int, ...] | None = None,
) -> pd.DataFrame:
    """Say what each customer's own figures tell; any part of the shop at a time.

    Parameters
    ----------
    settings
        Horizons and the churn horizon.
    past
        Features of the customers.
    together
        Their rows of `compare_customers`.
    purchase
        P(order), a column per horizon.
    cutoff
        The day from which the horizons run.
    p_alive, backtested_horizons
        As in `decide`.

    Returns
    -------
    pandas.DataFrame
        In the index of ``past``: every column of ``scores.customer_standing`` but who scored.
    """
    longest = max(settings.value.horizons)
    going = 1 - purchase[settings.value.churn_days]
    confidence, reason = rate_confidence(past, longest, backtested_horizons)
    return pd.DataFrame(
        {
            "cutoff_date": cutoff,
            "p_alive": np.nan if p_alive is None else p_alive,
            "churn_probability": going,
            "days_between_orders": mean_gap(past),
            "expected_next_order_date": expect_next_order(
                purchase.reindex(columns=sorted(settings.value.horizons)), cutoff
            ),
            "segment": assign_segment(past, together["value_tier"], going),
            **{str(name): together[name] for name in together},
            "confidence": confidence,
            "confidence_reason": reason,
        },
        index=past.index,
    )


def mean_gap(past: pd.DataFrame) -> pd.Series[float]:
    """Mean days between a customer's order days; null with fewer than two."""
    repeats = past["frequency"].astype(float)
    return (past["recency"].astype(float) / repeats).where(repeats > 0)


def expect_next_order(purchase: pd.DataFrame, cutoff: pd.Timestamp) -> pd.Series[pd.Timestamp]:
    """Find the day by which an order is as likely as not.

    Between horizons the chance of no order yet falls exponentially, so its logarithm is
    interpolated linearly.

    Parameters
    ----------
    purchase
        P(at least one order in H), a column per horizon in ascending order.
    cutoff
        The day from which the horizons run.

    Returns
    -------
    pandas.Series
        Null where an order is less likely than not within the longest horizon.
    """
    days = np.array([0.0, *[float(h) for h in purchase.columns]])
    silent = np.log(np.clip(1 - purchase.to_numpy(dtype=float), 1e-12, 1))
    silent = np.hstack([np.zeros((len(purchase), 1)), silent])
    half = np.log(0.5)
    reached = silent <= half
    end = reached.argmax(axis=1)
    rows = np.arange(len(purchase))
    before = np.maximum(end - 1, 0)
    step = silent[rows, end] - silent[rows, before]
    part = np.divide(half - silent[rows, before], step, out=np.zeros(len(purchase)), where=step < 0)
    wait = np.ceil(days[before] + part * (days[end] - days[before]))
    dates = cutoff + pd.to_timedelta(wait, unit="D")
    return pd.Series(dates, index=purchase.index).where(reached.any(axis=1))


def score_loyalty(past: pd.DataFrame, purchase: pd.Series[float]) -> pd.Series[float]:
    """Score loyalty from 0 to 100: percentiles of what was done and what is expected, weighted.

    Who never ordered scores 0.
    """
    parts = past.assign(probability_purchase=purchase)
    score = pd.Series(0.0, index=past.index)
    for name, weight in LOYALTY_WEIGHTS.items():
        score += 100 * weight * parts[name].astype(float).rank(pct=True).fillna(0)
    return score.where(past["count_order_days"].fillna(0) > 0, 0.0)


def rate_confidence(
    past: pd.DataFrame, longest: int, backtested_horizons: tuple[int, ...] | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Say how sure a customer's longest-horizon value is, and why.

    Returns
    -------
    tuple of numpy.ndarray
        'high', 'medium' or 'low', and the reason in words.
    """
    orders = past["count_order_days"].fillna(0).to_numpy()
    observed = past["T"].fillna(0).to_numpy()
    cases: list[tuple[npt.NDArray[np.bool_], int, str]] = [
        (orders == 0, 0, "has not ordered yet"),
        (observed < 30, 0, "first order less than 30 days ago"),
        (orders == 1, 1, "one order only"),
        (orders < 4, 1, "fewer than four order days"),
    ]
    conditions = [case[0] for case in cases]
    step = np.select(conditions, [case[1] for case in cases], 2)
    reason = np.select(conditions, [case[2] for case in cases], "four order days or more")
    if backtested_horizons is not None and longest not in backtested_horizons:
        # What could not be checked is a step less sure, and customers still differ.
        step = np.maximum(step - 1, 0)
        reason = np.char.add(
            reason.astype(str), f"; {longest} days ahead could not be checked on past data"
        )
    level = np.array(["low", "medium", "high"])[step]
    return level, reason
