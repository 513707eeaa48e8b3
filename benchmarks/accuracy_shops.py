"""Shops to compare models on: real ones where they are at hand, and made-up ones with seasons.

Features are made with pandas from one row per customer and day, as ``feat_rfm`` and
``feat_windows`` define them, so that a table over many cutoffs takes minutes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from clv_pipeline.features.registry import Feature
from clv_pipeline.models.panel import Panel
from clv_pipeline.timeline import Cutoff

ROOT = Path(__file__).resolve().parents[1]
CDNOW = ROOT / "clv_pipeline" / "datasets" / "cdnow.csv.gz"
RETAIL = ROOT.parent / "shared" / "data" / "online_retail_ii"
WINDOWS = (7, 30, 90, 180, 365)
# Shop, cutoff, horizon.
CASES: tuple[tuple[str, str, int], ...] = (
    ("cdnow", "1997-09-30", 273),
    ("cdnow", "1997-12-31", 180),
    ("cdnow", "1998-03-31", 90),
    ("online_retail", "2010-07-31", 120),
    ("online_retail", "2010-09-09", 90),
    ("online_retail", "2010-10-09", 60),
    ("christmas", "2022-09-30", 92),
    ("christmas", "2022-12-31", 90),
    ("christmas", "2023-06-30", 180),
    ("wholesale", "2022-09-30", 90),
    ("wholesale", "2022-12-31", 180),
    ("wholesale", "2023-03-31", 180),
    ("uneven_years", "2022-09-30", 90),
    ("uneven_years", "2023-05-31", 120),
)


@cache
def read_days(shop: str) -> pd.DataFrame:
    """Return one row per customer and day with an order: customer_id, date, amount, orders.

    Raises
    ------
    FileNotFoundError
        If the shop's data are not at hand.
    """
    if shop == "cdnow":
        source = f"read_csv('{CDNOW}')"
        query = f"""SELECT customer_id::VARCHAR AS customer_id, date::TIMESTAMP AS date,
            sum(amount)::DOUBLE AS amount, count(*) AS orders FROM {source} GROUP BY 1, 2"""
        return duckdb.sql(query).df()
    if shop == "online_retail":
        files = sorted(RETAIL.glob("*.parquet"))
        if not files:
            raise FileNotFoundError(f"{RETAIL} holds no Parquet file")
        return duckdb.sql(f"""
            SELECT CustomerID::VARCHAR AS customer_id, InvoiceDate::DATE::TIMESTAMP AS date,
                sum(Quantity * Price)::DOUBLE AS amount, count(DISTINCT Invoice) AS orders
            FROM read_parquet('{files[0]}')
            WHERE CustomerID IS NOT NULL AND Price > 0 AND Quantity > 0
                AND Invoice NOT LIKE 'C%' AND regexp_matches(StockCode, '^[0-9]{{5}}')
            GROUP BY 1, 2
        """).df()
    return _simulate(**_SIMULATED[shop])


_SIMULATED: dict[str, dict[str, float]] = {
    "christmas": {"seed": 1, "peak": 3.0, "growth": 0.5},
    "wholesale": {
        "seed": 2,
        "customers": 4000,
        "peak": 1.8,
        "low": 0.8,
        "growth": 0.2,
        "shape": 0.8,
        "scale": 18.0,
        "giants": 0.03,
        "drift": -0.1,
    },
    "uneven_years": {"seed": 3, "peak": 1.5, "growth": 0.0, "unlike": 0.08},
}


def _simulate(
    seed: float,
    customers: float = 7000,
    peak: float = 2.5,
    low: float = 0.6,
    growth: float = 0.3,
    shape: float = 0.6,
    scale: float = 25.0,
    giants: float = 0.01,
    drift: float = 0.0,
    unlike: float = 0.0,
) -> pd.DataFrame:
    """Draw three years of a Pareto/NBD shop whose customers buy more before Christmas."""
    rng = np.random.default_rng(int(seed))
    count, days = int(customers), 1095
    dates = pd.Timestamp("2021-01-01") + pd.to_timedelta(np.arange(days), unit="D")
    of_year = dates.dayofyear.to_numpy()
    christmas = np.exp(-0.5 * ((of_year - 340) / 16.0) ** 2)
    january = np.exp(-0.5 * ((of_year - 25) / 20.0) ** 2)
    season = (1 + (peak - 1) * christmas) * (1 - (1 - low) * january)
    season = season * np.exp(drift * np.arange(days) / 365)
    season *= np.exp(unlike * rng.normal(size=3))[dates.year.to_numpy() - 2021]
    arrivals = (1 + growth * np.arange(days) / 365) * (1 + 0.5 * christmas)
    born = rng.choice(days, count, p=arrivals / arrivals.sum())
    rate = rng.gamma(shape, 1 / scale, count)
    life = rng.exponential(1 / np.maximum(rng.gamma(0.6, 1 / 120.0, count), 1e-9))
    spend = np.exp(rng.normal(3.4, 0.7, count)) * np.where(rng.uniform(size=count) < giants, 12, 1)
    clock = np.concatenate([[0.0], np.cumsum(season)])
    parts = []
    for k in range(count):
        start, end = int(born[k]), int(min(days, born[k] + 1 + life[k]))
        orders = rng.poisson(rate[k] * (clock[end] - clock[start]))
        ticks = clock[start] + (clock[end] - clock[start]) * rng.uniform(size=orders)
        when = np.unique([start, *(np.searchsorted(clock, ticks, side="right") - 1)])
        amount = spend[k] * np.exp(rng.normal(0, 0.5, len(when))) * (1 + 0.25 * christmas[when])
        parts.append(
            pd.DataFrame({"customer_id": f"c{k:06d}", "date": dates[when], "amount": amount})
        )
    return pd.concat(parts, ignore_index=True).assign(orders=1)


@cache
def features_at(shop: str, cutoff: Cutoff) -> pd.DataFrame:
    """Return every customer known at a cutoff, with features of what happened by then."""
    days, end = read_days(shop), pd.Timestamp(cutoff.day)
    past = days[days["date"] <= end].sort_values(["customer_id", "date"])
    groups = past.groupby("customer_id")
    first, last, count = groups["date"].min(), groups["date"].max(), groups.size()
    found = pd.DataFrame(
        {
            "frequency": count - 1.0,
            "recency": (last - first).dt.days.astype(float),
            "T": (end - first).dt.days.astype(float),
            "count_order_days": count.astype(float),
            "count_orders": groups["orders"].sum().astype(float),
            "sum_value": groups["amount"].sum(),
            "max_order_day_value": groups["amount"].max(),
            "days_since_last_order": (end - last).dt.days.astype(float),
        }
    )
    repeats = past[past["date"] > past["customer_id"].map(first)]
    found["monetary_value"] = repeats.groupby("customer_id")["amount"].mean()
    gaps = groups["date"].diff().dt.days
    found["std_days_between_orders"] = gaps.groupby(past["customer_id"]).std()
    found["mean_days_between_orders"] = found["recency"] / found["frequency"].replace(0, np.nan)
    found["overdue_ratio"] = found["days_since_last_order"] / found[
        "mean_days_between_orders"
    ].replace(0, np.nan)
    found["mean_order_value"] = found["sum_value"] / found["count_orders"]
    for window in WINDOWS:
        recent = past[past["date"] > end - pd.Timedelta(days=window)].groupby("customer_id")
        late = past[past["date"] > end - pd.Timedelta(days=window // 2)].groupby("customer_id")
        counted = recent["orders"].sum().reindex(found.index)
        found[f"order_trend_{window}d"] = 2 * late["orders"].sum() / counted - 1
        found[f"count_orders_{window}d"] = counted.fillna(0.0)
        found[f"sum_value_{window}d"] = recent["amount"].sum().reindex(found.index).fillna(0.0)
    return found.reset_index().assign(cutoff_date=end)


def labels_at(shop: str, cutoff: Cutoff, horizon_days: int) -> pd.DataFrame:
    """Return what the customers known at a cutoff did on the days after it."""
    days, start = read_days(shop), pd.Timestamp(cutoff.day)
    window = days[
        (days["date"] > start) & (days["date"] <= start + pd.Timedelta(days=horizon_days))
    ]
    sums = window.groupby("customer_id")[["amount", "orders"]].sum()
    customers = features_at(shop, cutoff)["customer_id"]
    sums = sums.reindex(customers).fillna(0.0)
    return pd.DataFrame(
        {
            "customer_id": customers.to_numpy(),
            "cutoff_date": start,
            "horizon_days": horizon_days,
            "label_value": sums["amount"].to_numpy(),
            "label_orders": sums["orders"].to_numpy().astype(int),
            "has_purchase": sums["orders"].to_numpy() > 0,
        }
    )


def make_panel(
    shop: str, cutoffs: tuple[Cutoff, ...], horizons: tuple[int, ...], data_through: Cutoff
) -> Panel:
    """Return the panel of some cutoffs, with the labels that matured by ``data_through``."""
    features = pd.concat([features_at(shop, c) for c in cutoffs], ignore_index=True)
    labels = [
        labels_at(shop, c, h)
        for c in cutoffs
        for h in horizons
        if c.is_matured(h, data_through.day)
    ]
    columns = tuple(
        Feature(name, "", "numeric", "double", "", None, None, None, "", frozenset(), True)
        for name in features
        if name not in ("customer_id", "cutoff_date")
    )
    return Panel.build(features, pd.concat(labels, ignore_index=True), columns)
