"""A panel of CDNOW made with pandas alone: what dbt gives in a run, from an independent hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from clv_pipeline.features.registry import Feature, FeatureKind
from clv_pipeline.models.panel import Panel
from clv_pipeline.timeline import Cutoff

CDNOW = Path(__file__).resolve().parents[2] / "clv_pipeline" / "datasets" / "cdnow.csv.gz"
WINDOWS = (7, 30, 90, 180, 365)


def column(name: str, kind: FeatureKind = "numeric", *, is_model_input: bool = True) -> Feature:
    """Register a feature of no further properties."""
    return Feature(
        name, "feat_test", kind, "double", name, None, None, None, "", frozenset(), is_model_input
    )


@cache
def cdnow_days() -> pd.DataFrame:
    """One row per customer and day with an order, amounts summed."""
    orders = pd.read_csv(CDNOW, dtype={"customer_id": str}, parse_dates=["date"])
    return orders.groupby(["customer_id", "date"], as_index=False)["amount"].sum()


def features_at(days: pd.DataFrame, cutoff: Cutoff) -> pd.DataFrame:
    """Every customer known at the cutoff, with features of what happened by then."""
    end = pd.Timestamp(cutoff.day)
    past = days[days["date"] <= end].sort_values(["customer_id", "date"])
    groups = past.groupby("customer_id")
    first, last = groups["date"].min(), groups["date"].max()
    frame = pd.DataFrame(
        {
            "frequency": groups.size() - 1,
            "recency": (last - first).dt.days,
            "T": (end - first).dt.days,
            "count_order_days": groups.size(),
            "sum_value": groups["amount"].sum(),
            "max_value": groups["amount"].max(),
            "last_value": groups["amount"].last(),
            "days_since_last_order": (end - last).dt.days,
        }
    )
    repeats = past[past["date"] > past["customer_id"].map(first)]
    frame["monetary_value"] = repeats.groupby("customer_id")["amount"].mean()
    frame["mean_gap_days"] = np.where(
        frame["frequency"] > 0, frame["recency"] / frame["frequency"].replace(0, 1), np.nan
    )
    for window in WINDOWS:
        recent = past[past["date"] > end - pd.Timedelta(days=window)].groupby("customer_id")
        frame[f"count_orders_{window}d"] = recent.size()
        frame[f"sum_value_{window}d"] = recent["amount"].sum()
    filled = [c for c in frame if c.endswith("d") and c[-2].isdigit()]
    frame[filled] = frame[filled].fillna(0.0)
    return frame.reset_index().assign(cutoff_date=end)


def labels_at(
    days: pd.DataFrame, customers: Sequence[str], cutoff: Cutoff, horizon: int
) -> pd.DataFrame:
    """What those customers did on the days after the cutoff, up to the horizon."""
    start = pd.Timestamp(cutoff.day)
    window = days[(days["date"] > start) & (days["date"] <= start + pd.Timedelta(days=horizon))]
    sums = window.groupby("customer_id")["amount"].agg(["sum", "size"])
    sums = sums.reindex(customers).fillna(0.0)
    return pd.DataFrame(
        {
            "customer_id": list(customers),
            "cutoff_date": start,
            "horizon_days": horizon,
            "label_value": sums["sum"].to_numpy(),
            "label_orders": sums["size"].to_numpy().astype(int),
            "has_purchase": sums["size"].to_numpy() > 0,
        }
    )


def make_panel(
    days: pd.DataFrame,
    cutoffs: Iterable[Cutoff],
    horizons: Iterable[int],
    data_through: Cutoff,
) -> Panel:
    """Make the panel of some cutoffs; labels only where they matured by ``data_through``."""
    features, labels = [], []
    for cutoff in cutoffs:
        rows = features_at(days, cutoff)
        features.append(rows)
        labels += [
            labels_at(days, list(rows["customer_id"]), cutoff, horizon)
            for horizon in horizons
            if cutoff.is_matured(horizon, data_through.day)
        ]
    frame = pd.concat(features, ignore_index=True)
    names = [c for c in frame if c not in ("customer_id", "cutoff_date")]
    columns = tuple(column(name) for name in names)
    empty = labels_at(days, [], data_through, 1)
    return Panel.build(frame, pd.concat(labels or [empty], ignore_index=True), columns)


def small_cdnow(count: int = 1500) -> pd.DataFrame:
    """Some CDNOW customers, every k-th of them."""
    days = cdnow_days()
    names = sorted(days["customer_id"].unique())
    return days[days["customer_id"].isin(names[:: max(len(names) // count, 1)])]
