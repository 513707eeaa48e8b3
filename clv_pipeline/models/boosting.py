"""XGBoost: hurdle, Tweedie, order counts and quantiles, on one shared set of bins."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import xgboost as xgb

from clv_pipeline.models.base import Files, FitOptions, dump_json, load_json
from clv_pipeline.models.panel import Floats, Matrix, Target

QUANTILES = (0.1, 0.5, 0.9)


def boost(
    X: Matrix,
    label: Floats,
    options: FitOptions,
    objective: dict[str, Any],
    *,
    base_score: float | None = None,
    offset: Floats | None = None,
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
        Start of each row's prediction on the link's scale, instead of ``base_score``.
    """
    bins = X.binned(options.max_bin)
    bins.set_label(label.astype(np.float32))
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
    if base_score is not None and offset is None:
        parameters["base_score"] = base_score
    return xgb.train(parameters, bins, options.trees)


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


def value_scale(value: Floats) -> float:
    """Return the mean of positive values: dividing by it makes a fit blind to the currency."""
    positive = value[value > 0]
    return float(positive.mean()) if len(positive) else 1.0


class HurdleModel:
    """P(buy) times E[value | buy]: a classifier, and a gamma regression on buyers.

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

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit both parts; buyers of no positive value count as almost nothing in the second."""
        bought = y.has_purchase.astype(np.float64)
        self.classifier_ = boost(
            X,
            bought,
            self.options,
            {"objective": "binary:logistic"},
            base_score=float(np.clip(bought.mean(), 1e-4, 1 - 1e-4)),
        )
        buyers = np.flatnonzero(y.has_purchase)
        value = np.maximum(y.value[buyers], 0.0)
        self.scale_ = value_scale(value)
        value = value / self.scale_
        self.amount_ = boost(
            X.take(buyers),
            value,
            self.options,
            # Between Poisson and gamma: zeros are allowed, giants weigh less than squared.
            {"objective": "reg:tweedie", "tweedie_variance_power": 1.7},
            base_score=max(float(value.mean()), 1e-3),
        )
        return self

    def predict_probability(self, X: Matrix) -> Floats:
        """Return P(at least one order within the horizon)."""
        return predict_booster(self.classifier_, X)

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value over the horizon."""
        return self.predict_probability(X) * predict_booster(self.amount_, X) * self.scale_

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
    }

    def __init__(
        self, options: FitOptions, objective: str = "tweedie", label: str = "value"
    ) -> None:
        self.options = options
        self.objective = objective
        self.label = label

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit on values, or counts, of training rows; negative ones count as 0."""
        label = np.maximum(y.value if self.label == "value" else y.orders, 0.0)
        self.scale_ = value_scale(label)
        label = label / self.scale_
        self.booster_ = boost(
            X,
            label,
            self.options,
            self.OBJECTIVES[self.objective],
            base_score=max(float(label.mean()), 1e-4),
        )
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value, or the expected count of orders."""
        return np.maximum(predict_booster(self.booster_, X) * self.scale_, 0.0)

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


class QuantileModel:
    """Quantiles of value in one model of several outputs (pinball loss).

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
        """Fit on values of training rows."""
        self.scale_ = value_scale(y.value)
        self.booster_ = boost(
            X,
            y.value / self.scale_,
            self.options,
            {"objective": "reg:quantileerror", "quantile_alpha": list(self.quantiles)},
        )
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the quantiles, shape (n, number of quantiles), ascending along each row."""
        found = predict_booster(self.booster_, X).reshape(len(X), len(self.quantiles))
        return np.sort(found * self.scale_, axis=1)

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
