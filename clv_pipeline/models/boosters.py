"""One booster: how it is fitted on shared bins, where it starts from, how it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.panel import Floats, Matrix, Target

# A start nearer to 0 or 1 than this could not be corrected: its curvature is too small to split on.
LEAST_CHANCE, MOST_CHANCE = 0.02, 0.995
LEAST_ORDERS = 0.02


@dataclass(frozen=True, eq=False)
class RowLevels:
    """How far the label windows of training rows lay from the usual, to be learned around.

    Attributes
    ----------
    value, orders, chance, amount
        Offsets of each row on the links' scales: logarithm of value, logarithm of orders, log odds
        of an order, logarithm of a buyer's value. ``seasons`` measures them.
    """

    value: Floats
    orders: Floats
    chance: Floats
    amount: Floats

    def take(self, rows: NDArray[Any]) -> RowLevels:
        """Return the rows named by a mask or by positions."""
        return RowLevels(self.value[rows], self.orders[rows], self.chance[rows], self.amount[rows])


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one booster is fitted on.

    Attributes
    ----------
    X
        Rows.
    label, offset, weight
        Shape (n,) each; see `boost`.
    """

    X: Matrix
    label: Floats
    offset: Floats | None = None
    weight: Floats | None = None


class Teach(Protocol):
    """Makes one booster's lesson of training rows, row by row: of any part of them, too."""

    def __call__(
        self, X: Matrix, y: Target, levels: RowLevels | None, weight: Floats | None
    ) -> Lesson:
        """Return the lesson of these rows."""
        ...


class Elsewhere(Protocol):
    """Training rows that an engine keeps, where boosters are fitted without moving them here."""

    def boost(self, teach: Teach, parameters: Mapping[str, Any], trees: int) -> xgb.Booster:
        """Fit a booster on what is taught of every row."""
        ...


def learn(
    teach: Teach,
    X: Matrix,
    y: Target,
    levels: RowLevels | None,
    weight: Floats | None,
    elsewhere: Elsewhere | None,
    options: FitOptions,
    objective: dict[str, Any],
    *,
    base_score: float | None = None,
    trees: int | None = None,
) -> xgb.Booster:
    """Fit one booster on what is taught of training rows, or of those that an engine keeps."""
    if elsewhere is not None:
        parameters = _parameters(options, objective, base_score)
        return elsewhere.boost(teach, parameters, trees or options.trees)
    lesson = teach(X, y, levels, weight)
    return boost(
        lesson.X,
        lesson.label,
        options,
        objective,
        base_score=base_score,
        offset=lesson.offset,
        weight=lesson.weight,
        trees=trees,
    )


def boost(
    X: Matrix,
    label: Floats,
    options: FitOptions,
    objective: dict[str, Any],
    *,
    base_score: float | None = None,
    offset: Floats | None = None,
    weight: Floats | None = None,
    trees: int | None = None,
) -> xgb.Booster:
    """Fit one booster on the bins that the matrix shares between objectives.

    Parameters
    ----------
    X
        Training rows.
    label
        Shape (n,).
    options
        Trees, depth, threads and so on.
    objective
        XGBoost's parameters that differ from one objective to the next.
    base_score
        Start of every prediction, on the label's scale.
    offset
        Start of each row's prediction on the link's scale, in training instead of ``base_score``.
    weight
        Of each row; 1 when None.
    trees
        Instead of the options'.
    """
    parameters = _parameters(options, objective, base_score)
    rounds = trees or options.trees
    bins = X.binned(options.max_bin)
    bins.set_label(label.astype(np.float32))
    bins.set_weight((np.ones(len(X)) if weight is None else weight).astype(np.float32))
    start = np.empty(0, dtype=np.float32) if offset is None else offset.astype(np.float32)
    bins.set_base_margin(start)
    return xgb.train(parameters, bins, rounds)


def _parameters(
    options: FitOptions, objective: dict[str, Any], base_score: float | None
) -> dict[str, Any]:
    parameters = {
        "tree_method": "hist",
        "max_depth": options.depth,
        "eta": options.learning_rate,
        "max_bin": options.max_bin,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
        "min_child_weight": 10.0,
        "lambda": 5.0,
        "nthread": options.threads,
        "seed": options.seed,
        "verbosity": 0,
        **objective,
    }
    return parameters if base_score is None else {**parameters, "base_score": base_score}


def predict_booster(booster: xgb.Booster, X: Matrix, *, offset: Floats | None = None) -> Floats:
    """Return a booster's predictions as float64; rows are independent, so threads don't matter."""
    if offset is None:
        return np.asarray(booster.inplace_predict(X.values), dtype=np.float64)
    rows = xgb.DMatrix(
        X.values,
        base_margin=offset.astype(np.float32),
        feature_types=X.feature_types,
        enable_categorical=bool(X.categorical),
    )
    return np.asarray(booster.predict(rows), dtype=np.float64)


def dump_booster(booster: xgb.Booster) -> bytes:
    """Return a booster in XGBoost's UBJSON."""
    return bytes(booster.save_raw("ubj"))


def load_booster(data: bytes) -> xgb.Booster:
    """Read a booster from UBJSON."""
    booster = xgb.Booster()
    booster.load_model(bytearray(data))
    return booster


def chance_offset(X: Matrix) -> Floats | None:
    """Return the log odds of the buy-till-you-die chance of an order; None without that column.

    Trees that start from it tell giants apart, of whom a leaf holds too few.
    """
    if "btyd_probability" not in X:
        return None
    chance = np.clip(X.column("btyd_probability"), LEAST_CHANCE, MOST_CHANCE)
    return np.asarray(np.log(chance / (1 - chance)), dtype=np.float64)


def count_offset(X: Matrix, scale: float) -> Floats | None:
    """Return the logarithm of the buy-till-you-die count of orders, in units of ``scale``."""
    if "btyd_orders" not in X:
        return None
    return log_count(X.column("btyd_orders"), scale)


def log_count(orders: Floats, scale: float) -> Floats:
    """Return the logarithm of a count of orders in units of ``scale``, kept off 0."""
    return np.asarray(np.log(np.maximum(orders, LEAST_ORDERS) / scale), dtype=np.float64)


def amount_offset(X: Matrix, scale: float) -> Floats:
    """Return the logarithm of what a buyer is expected to bring, as buy-till-you-die says."""
    if "btyd_value" not in X:
        return np.full(len(X), np.log(scale))
    return log_amount(X.column("btyd_value"), X.column("btyd_probability"), scale)


def log_amount(value: Floats, chance: Floats, scale: float) -> Floats:
    """Return the logarithm of value over the chance of an order; of ``scale`` without a value."""
    amount = value / np.maximum(chance, LEAST_CHANCE)
    return np.log(np.where(amount > 0, np.maximum(amount, scale * 1e-3), scale))


def value_scale(value: Floats, weight: Floats | None = None) -> float:
    """Return the mean of positive values: dividing by it makes a fit blind to the currency."""
    known = value > 0
    if not known.any():
        return 1.0
    return float(np.average(value[known], weights=None if weight is None else weight[known]))


def add_season(offset: Floats | None, season: Floats | None) -> Floats | None:
    """Return the start of rows moved by a level; None where there is no start."""
    if offset is None or season is None:
        return offset
    return offset + season
