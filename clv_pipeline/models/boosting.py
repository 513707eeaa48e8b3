"""XGBoost: hurdle, Tweedie, order counts and quantiles, on one shared set of bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import xgboost as xgb

from clv_pipeline.models.base import Files, FitOptions, dump_json, load_json
from clv_pipeline.models.panel import Floats, Matrix, Target

# Levels of a buyer's value; those of every customer follow from them and P(buy).
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
# A start nearer to 0 or 1 than this could not be corrected: its curvature is too small to split on.
LEAST_CHANCE, MOST_CHANCE = 0.02, 0.995
LEAST_ORDERS = 0.02
# An order of nothing is as good as this share of the mean; a gamma regression knows no 0.
LEAST_SPEND = 1e-3


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
    bins = X.binned(options.max_bin)
    bins.set_label(label.astype(np.float32))
    bins.set_weight((np.ones(len(X)) if weight is None else weight).astype(np.float32))
    start = np.empty(0, dtype=np.float32) if offset is None else offset.astype(np.float32)
    bins.set_base_margin(start)
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
    if base_score is not None:
        parameters["base_score"] = base_score
    return xgb.train(parameters, bins, trees or options.trees)


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


def value_scale(value: Floats) -> float:
    """Return the mean of positive values: dividing by it makes a fit blind to the currency."""
    positive = value[value > 0]
    return float(positive.mean()) if len(positive) else 1.0


class HurdleModel:
    """P(buy) times E[value | buy]: a classifier, and a regression on buyers.

    Both start from what buy-till-you-die says, where there is such a forecast.

    Parameters
    ----------
    options
        Trees, depth, threads and so on.

    Attributes
    ----------
    classifier_, amount_ : Booster
        The two parts.
    scale_ : float
        Mean value of buyers in training; ``amount_`` predicts in units of it.
    """

    def __init__(self, options: FitOptions) -> None:
        self.options = options

    def fit(self, X: Matrix, y: Target, levels: RowLevels | None = None) -> Self:
        """Fit both parts; buyers of no positive value count as almost nothing in the second."""
        bought = y.has_purchase.astype(np.float64)
        self.classifier_ = boost(
            X,
            bought,
            self.options,
            {"objective": "binary:logistic"},
            base_score=float(np.clip(bought.mean(), 1e-4, 1 - 1e-4)),
            offset=_plus(chance_offset(X), levels.chance if levels else None),
        )
        buyers = np.flatnonzero(y.has_purchase)
        value = np.maximum(y.value[buyers], 0.0)
        self.scale_ = value_scale(value)
        value = value / self.scale_
        rows = X.take(buyers)
        self.amount_ = boost(
            rows,
            value,
            self.options,
            # Between Poisson and gamma: zeros are allowed, giants weigh less than squared.
            {"objective": "reg:tweedie", "tweedie_variance_power": 1.7},
            base_score=max(float(value.mean()), 1e-3),
            offset=_plus(self.start_amount(rows), levels.amount[buyers] if levels else None),
        )
        return self

    def start_amount(self, X: Matrix) -> Floats | None:
        """Return where ``amount_`` starts from on the log scale; None without a forecast."""
        if "btyd_value" not in X:
            return None
        return np.asarray(amount_offset(X, self.scale_) - np.log(self.scale_), dtype=np.float64)

    def predict_probability(self, X: Matrix) -> Floats:
        """Return P(at least one order within the horizon)."""
        return predict_booster(self.classifier_, X, offset=chance_offset(X))

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value over the horizon."""
        return self.predict_probability(X) * self.predict_amount(X)

    def predict_amount(self, X: Matrix) -> Floats:
        """Return the expected value of those who buy."""
        return predict_booster(self.amount_, X, offset=self.start_amount(X)) * self.scale_

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        return {
            "classifier.ubj": dump_booster(self.classifier_),
            "amount.ubj": dump_booster(self.amount_),
            "model.json": dump_json({"scale": self.scale_, "options": vars(self.options)}),
        }

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["model.json"])
        model = cls(FitOptions(**document["options"]))
        model.scale_ = document["scale"]
        model.classifier_ = load_booster(files["classifier.ubj"])
        model.amount_ = load_booster(files["amount.ubj"])
        return model


class BoostedMean:
    """One booster for a mean that is never negative: Tweedie value, or Poisson order counts.

    Parameters
    ----------
    options
        Trees, depth, threads and so on.
    objective
        One of ``OBJECTIVES``.
    label
        ``value`` or ``orders``: what is predicted.
    """

    OBJECTIVES: ClassVar[dict[str, dict[str, Any]]] = {
        "tweedie": {"objective": "reg:tweedie", "tweedie_variance_power": 1.5},
        "poisson": {"objective": "count:poisson"},
        "squared": {"objective": "reg:squarederror"},
        "absolute": {"objective": "reg:absoluteerror"},
        "median": {"objective": "reg:quantileerror", "quantile_alpha": 0.5},
    }

    def __init__(
        self, options: FitOptions, objective: str = "tweedie", label: str = "value"
    ) -> None:
        self.options = options
        self.objective = objective
        self.label = label

    def fit(self, X: Matrix, y: Target, levels: RowLevels | None = None) -> Self:
        """Fit on values, or counts, of training rows; negative ones count as 0."""
        label = np.maximum(y.value if self.label == "value" else y.orders, 0.0)
        self.scale_ = value_scale(label)
        label = label / self.scale_
        season = None
        if levels is not None and self.objective in ("tweedie", "poisson"):
            season = levels.value if self.label == "value" else levels.orders
        usual = label if season is None else label * np.exp(-season)
        start = max(float(usual.mean()), 1e-4)
        offset = self._offset(X)
        if offset is None and season is not None:
            offset = np.full(len(X), np.log(start))
        self.booster_ = boost(
            X,
            label,
            self.options,
            self.OBJECTIVES[self.objective],
            base_score=start,
            offset=_plus(offset, season),
        )
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value, or the expected count of orders."""
        found = predict_booster(self.booster_, X, offset=self._offset(X))
        return np.maximum(found * self.scale_, 0.0)

    def _offset(self, X: Matrix) -> Floats | None:
        return count_offset(X, self.scale_) if self.label == "orders" else None

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        document = {
            "scale": self.scale_,
            "objective": self.objective,
            "label": self.label,
            "options": vars(self.options),
        }
        return {"booster.ubj": dump_booster(self.booster_), "model.json": dump_json(document)}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["model.json"])
        model = cls(FitOptions(**document["options"]), document["objective"], document["label"])
        model.scale_ = document["scale"]
        model.booster_ = load_booster(files["booster.ubj"])
        return model


class SpendModel:
    """What an order of each customer brings: gamma regression on buyers, weighed by their orders.

    Times expected orders it is an expert of its own, which ranks well where orders tell more than
    values.

    Parameters
    ----------
    options
        Trees, depth, threads and so on.
    """

    def __init__(self, options: FitOptions) -> None:
        self.options = options

    def fit(self, X: Matrix, y: Target, levels: RowLevels | None = None) -> Self:
        """Fit on the training rows with an order."""
        buyers = np.flatnonzero(y.has_purchase & (y.orders > 0))
        orders = y.orders[buyers]
        spend = np.maximum(y.value[buyers], 0.0) / np.maximum(orders, 1.0)
        if levels is not None:
            spend = spend * np.exp((levels.orders - levels.value)[buyers])
        self.scale_ = value_scale(spend)
        spend = np.maximum(spend / self.scale_, LEAST_SPEND)
        self.booster_ = boost(
            X.take(buyers),
            spend,
            self.options,
            {"objective": "reg:gamma"},
            base_score=max(float(np.average(spend, weights=orders)), LEAST_SPEND),
            weight=orders,
            trees=max(2 * self.options.trees // 3, 1),
        )
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value of one order."""
        return predict_booster(self.booster_, X) * self.scale_

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        document = {"scale": self.scale_, "options": vars(self.options)}
        return {"booster.ubj": dump_booster(self.booster_), "model.json": dump_json(document)}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["model.json"])
        model = cls(FitOptions(**document["options"]))
        model.scale_ = document["scale"]
        model.booster_ = load_booster(files["booster.ubj"])
        return model


class QuantileModel:
    """Quantiles of a buyer's value, in one model of several outputs (pinball loss).

    The logarithm of value is modelled from the logarithm of what buy-till-you-die expects of a
    buyer, so that a bound grows with the customer beyond the largest leaf.

    Parameters
    ----------
    options
        Trees, depth, threads and so on.
    quantiles
        Ascending, each between 0 and 1.
    """

    def __init__(self, options: FitOptions, quantiles: tuple[float, ...] = QUANTILES) -> None:
        self.options = options
        self.quantiles = quantiles

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit on training rows of positive value."""
        buyers = np.flatnonzero(y.value > 0)
        self.scale_ = value_scale(y.value)
        rows = X.take(buyers)
        ratio = np.log(y.value[buyers]) - amount_offset(rows, self.scale_)
        self.booster_ = boost(
            rows,
            ratio,
            self.options,
            {"objective": "reg:quantileerror", "quantile_alpha": list(self.quantiles)},
        )
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the quantiles of value, given that there is any.

        Returns
        -------
        array
            Shape (n, number of quantiles), positive, ascending along each row.
        """
        ratio = predict_booster(self.booster_, X).reshape(len(X), len(self.quantiles))
        start = amount_offset(X, self.scale_)
        return np.sort(np.exp(np.clip(ratio + start[:, None], -30.0, 30.0)), axis=1)

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        document = {
            "scale": self.scale_,
            "quantiles": list(self.quantiles),
            "options": vars(self.options),
        }
        return {"booster.ubj": dump_booster(self.booster_), "model.json": dump_json(document)}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["model.json"])
        model = cls(FitOptions(**document["options"]), tuple(document["quantiles"]))
        model.scale_ = document["scale"]
        model.booster_ = load_booster(files["booster.ubj"])
        return model


def _plus(offset: Floats | None, season: Floats | None) -> Floats | None:
    if offset is None or season is None:
        return offset
    return offset + season
