"""What drives the predicted values: effects in money with direction, and partial dependence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clv_pipeline.evaluation.effects import as_numbers, correlate, name_direction
from clv_pipeline.evaluation.ranking import Floats
from clv_pipeline.models.baselines import RateTimesValueModel
from clv_pipeline.models.candidates import SIMPLE_PARTS
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.explaining import CONCEPTS, concept_of, explain_values
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.panel import ALWAYS_KEPT
from clv_pipeline.models.surrogate import SurrogateTrees

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

SAMPLE = 800
MIN_SEGMENT = 20
EVERYONE = "all"
# The number that speaks for a concept; a concept without one has no direction.
_SPOKESMEN = {
    "recency": ("days_since_last_order",),
    "frequency": ("count_order_days", "frequency"),
    "spend": ("mean_order_value", "monetary_value"),
    "trend": ("sum_value_90d", "count_orders_90d", "sum_value_30d"),
    "tenure": ("T",),
    "engagement": ("count_sessions_90d", "count_sessions_30d"),
    "refunds": ("share_refunded", "sum_refunds"),
    "variety": ("count_skus_365d", "count_skus_180d"),
}
# Partial dependence.
COUNT_DRIVERS = 4
COUNT_POINTS = 6
ASKED = 200
# What sums up one purchase history can't be set one by one.
_HISTORY = ("frequency", "recency", "T", "days_since_last_order", "count_order_days")
EFFECT_COLUMNS = (
    "horizon_days",
    "segment",
    "level",
    "driver",
    "concept",
    "driver_rank",
    "mean_absolute_effect",
    "mean_effect",
    "share",
    "direction",
    "correlation",
    "count_customers",
    "method",
    "fidelity",
)
DEPENDENCE_COLUMNS = (
    "horizon_days",
    "driver",
    "point",
    "driver_value",
    "mean_predicted",
    "count_customers",
)


def describe_drivers(
    model: CLVModel,
    features: pd.DataFrame,
    values: pd.DataFrame,
    segments: pd.Series[str],
    columns: Iterable[Feature],
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say what drives the values over each horizon.

    Concepts are taken apart exactly, as each customer's reasons are. Features are told apart by
    trees that stand in for the whole model (``SurrogateTrees``); ``fidelity`` says how well. Both
    are of a sample of the customers.

    Parameters
    ----------
    model
        What served.
    features
        Rows of ``features.customer_features`` of one cutoff.
    values
        Published values: a row per customer_id, a column per horizon.
    segments
        Action segment by customer_id.
    columns
        The registered features.
    seed
        Of the samples.

    Returns
    -------
    tuple of DataFrame
        ``EFFECT_COLUMNS`` and ``DEPENDENCE_COLUMNS``.
    """
    known = tuple(columns)
    ordered = features.sort_values("customer_id", ignore_index=True)
    rng = np.random.default_rng(seed)
    size = min(SAMPLE, len(ordered))
    rows = ordered.iloc[np.sort(rng.choice(len(ordered), size, replace=False))]
    rows = rows.reset_index(drop=True)
    asked = rows["customer_id"].to_numpy()
    group = segments.reindex(asked).fillna("unknown").astype(str).to_numpy()
    encoder = Encoder.fit(ordered, known)
    X, whole = encoder.transform(rows), encoder.transform(ordered)
    views = {feature.name: feature.view for feature in known}
    effects: list[tuple[Any, ...]] = []
    drivers: dict[int, list[str]] = {}
    for horizon in (int(h) for h in values.columns):
        value = values[horizon].reindex(asked)
        explained = explain_values(model, rows, value, horizon, known)
        parts = explained.effects.reindex(asked).to_numpy()
        spoken = np.column_stack([_spokesman(rows, concept) for concept in CONCEPTS])
        names = list(zip(CONCEPTS, CONCEPTS, strict=True))
        effects += _rank(horizon, "concept", names, parts, spoken, group, ("shapley", 1.0))
        read = [name for name in X.names if name in features_read(model, horizon, X.names)]
        seen = X.select(read)
        stand_in = SurrogateTrees(seed=seed).fit(
            whole.select(read),
            values[horizon].reindex(ordered["customer_id"]).to_numpy(dtype=np.float64),
        )
        parts = stand_in.contributions(seen).effects
        names = [(name, concept_of(name, views.get(name, ""))) for name in read]
        method = ("surrogate_trees", stand_in.fidelity_)
        found = _rank(horizon, "feature", names, parts, as_numbers(seen), group, method)
        effects += found
        drivers[horizon] = [str(row[3]) for row in found if row[1] == EVERYONE]
    table = pd.DataFrame(effects, columns=list(EFFECT_COLUMNS))
    numeric = [f.name for f in known if f.kind == "numeric"]
    return table, _depend(model, rows.head(ASKED), drivers, numeric)


def features_read(model: CLVModel, horizon: int, names: Iterable[str]) -> frozenset[str]:
    """Return the features that what serves a horizon reads: no other one can drive its values.

    Parameters
    ----------
    names
        Every feature.
    """
    history = ALWAYS_KEPT & set(names)
    if horizon in model.bridged_:
        return features_read(model, model.bridged_[horizon], names) | history
    fitted = model.fitted_.get(horizon)
    of_orders = isinstance(model.simpler_.get(horizon), HistoryModel | RateTimesValueModel)
    if fitted is None or of_orders or model.served_by_.get(horizon) in SIMPLE_PARTS:
        return history
    return frozenset(fitted.encoder_.names) & set(names)


def _spokesman(rows: pd.DataFrame, concept: str) -> Floats:
    for name in _SPOKESMEN.get(concept, ()):
        if name in rows:
            return rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.full(len(rows), np.nan)


def _rank(
    horizon: int,
    level: str,
    names: Sequence[tuple[str, str]],
    parts: Floats,
    numbers: Floats,
    group: np.ndarray[Any, Any],
    method: tuple[str, float],
) -> list[tuple[Any, ...]]:
    """Return the drivers of all customers, then those of each segment, largest first."""
    kinds, counts = np.unique(group, return_counts=True)
    chosen = [EVERYONE, *(str(k) for k in kinds[counts >= MIN_SEGMENT])]
    found: list[tuple[Any, ...]] = []
    for segment in chosen:
        mask = np.ones(len(group), dtype=bool) if segment == EVERYONE else group == segment
        sizes = np.abs(parts[mask]).mean(axis=0) if mask.any() else np.zeros(len(names))
        total = float(sizes.sum()) or 1.0
        order = np.argsort(-sizes, kind="stable")
        for rank, k in enumerate((k for k in order if sizes[k] > 0), 1):
            correlation = correlate(numbers[mask, k], parts[mask, k])
            found.append(
                (
                    horizon,
                    segment,
                    level,
                    *names[k],
                    rank,
                    float(sizes[k]),
                    float(parts[mask, k].mean()),
                    float(sizes[k]) / total,
                    name_direction(correlation),
                    correlation,
                    int(mask.sum()),
                    *method,
                )
            )
    return found


def _depend(
    model: CLVModel, rows: pd.DataFrame, drivers: dict[int, list[str]], numeric: Sequence[str]
) -> pd.DataFrame:
    """Ask the model about the same customers with one driver set to each point of its range."""
    wanted = {
        horizon: [name for name in names if name in numeric][:COUNT_DRIVERS]
        for horizon, names in drivers.items()
    }
    found: list[tuple[Any, ...]] = []
    for name in dict.fromkeys(name for names in wanted.values() for name in names):
        grid = _grid(rows[name].to_numpy(dtype=np.float64, na_value=np.nan))
        if len(grid) < 2:
            continue
        altered = pd.concat([set_driver(rows, name, point) for point in grid], ignore_index=True)
        answers = model.predict(altered)["value"].reshape(len(grid), len(rows), -1).mean(axis=1)
        for horizon, names in wanted.items():
            if name in names:
                column = answers[:, model.horizons.index(horizon)]
                points = zip(range(1, len(grid) + 1), grid, column, strict=True)
                found += [(horizon, name, k, float(v), float(m), len(rows)) for k, v, m in points]
    return pd.DataFrame(found, columns=list(DEPENDENCE_COLUMNS))


def _grid(values: Floats) -> Floats:
    """Return the distinct quantiles from the 5th to the 95th percentile of what is known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return known
    levels = np.linspace(0.05, 0.95, COUNT_POINTS)
    return np.unique(np.quantile(known, levels, method="nearest"))


def set_driver(rows: pd.DataFrame, name: str, value: float) -> pd.DataFrame:
    """Set one feature of all rows, and keep each purchase history possible.

    The last order lies between the first one and the cutoff; a customer with one order day has
    both on that day, and no mean of repeat orders. Customers without an order stay without one.
    """
    altered = rows.copy()
    altered[name] = value
    if name not in _HISTORY or any(column not in altered for column in _HISTORY):
        return altered
    x, recency, T, silence, days = (
        altered[column].to_numpy(dtype=np.float64, na_value=np.nan) for column in _HISTORY
    )
    # The frequency of who never ordered is 0, as that of who ordered once.
    has_orders = np.isfinite(rows["T"].to_numpy(dtype=np.float64, na_value=np.nan))
    if name == "count_order_days":
        x = np.maximum(days - 1.0, 0.0)
    elif name == "days_since_last_order":
        T = recency + silence
    elif name == "recency":
        T = np.maximum(T, recency)
    # Whoever becomes a repeat buyer ordered last half way between the first order and now.
    repeat = np.where(recency > 0, np.minimum(recency, T), T / 2)
    recency = np.where(x > 0, repeat, 0.0)
    history = dict(zip(_HISTORY, (x, recency, T, T - recency, x + 1.0), strict=True))
    for column, found in history.items():
        altered[column] = np.where(
            has_orders, found, rows[column].to_numpy(dtype=np.float64, na_value=np.nan)
        )
    if "monetary_value" in altered and "sum_value" in altered:
        total, held = (
            altered[column].to_numpy(dtype=np.float64, na_value=np.nan)
            for column in ("sum_value", "monetary_value")
        )
        mean = np.where(np.isfinite(held), held, total / (x + 1.0))
        altered["monetary_value"] = np.where(has_orders & (x > 0), mean, np.nan)
    return altered
