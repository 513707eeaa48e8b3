"""XGBoost: hurdle, Tweedie, order counts and quantiles, on one shared set of bins.

Rows may weigh differently: those of a stratified sample stand for as many as they were drawn from.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.models.base import Files, FitOptions, dump_json, load_json
from clv_pipeline.models.boosters import (
    Elsewhere,
    Lesson,
    RowLevels,
    add_season,
    amount_offset,
    chance_offset,
    count_offset,
    dump_booster,
    learn,
    load_booster,
    predict_booster,
    value_scale,
)
from clv_pipeline.models.panel import Floats, Matrix, Target

# Levels of a buyer's value; those of every customer follow from them and P(buy).
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
# An order of nothing is as good as this share of the mean; a gamma regression knows no 0.
LEAST_SPEND = 1e-3


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

    def fit(
        self,
        X: Matrix,
        y: Target,
        levels: RowLevels | None = None,
        weight: Floats | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Self:
        """Fit both parts; buyers of no positive value count as almost nothing in the second."""
        rows = (X, y, levels, weight, elsewhere, self.options)
        bought = y.has_purchase.astype(np.float64)
        self.classifier_ = learn(
            self.teach_chance,
            *rows,
            {"objective": "binary:logistic"},
            base_score=float(np.clip(np.average(bought, weights=weight), 1e-4, 1 - 1e-4)),
        )
        buyers = np.flatnonzero(y.has_purchase)
        value = np.maximum(y.value[buyers], 0.0)
        own = None if weight is None else weight[buyers]
        self.scale_ = value_scale(value, own)
        self.amount_ = learn(
            self.teach_amount,
            *rows,
            # Between Poisson and gamma: zeros are allowed, giants weigh less than squared.
            {"objective": "reg:tweedie", "tweedie_variance_power": 1.7},
            base_score=max(float(np.average(value / self.scale_, weights=own)), 1e-3),
        )
        return self

    def teach_chance(
        self, X: Matrix, y: Target, levels: RowLevels | None, weight: Floats | None
    ) -> Lesson:
        """Return what ``classifier_`` learns of some rows."""
        offset = add_season(chance_offset(X), levels.chance if levels else None)
        return Lesson(X, y.has_purchase.astype(np.float64), offset, weight)

    def teach_amount(
        self, X: Matrix, y: Target, levels: RowLevels | None, weight: Floats | None
    ) -> Lesson:
        """Return what ``amount_`` learns of some rows: of their buyers."""
        buyers = np.flatnonzero(y.has_purchase)
        rows = X.part(buyers)
        return Lesson(
            rows,
            np.maximum(y.value[buyers], 0.0) / self.scale_,
            add_season(self.start_amount(rows), levels.amount[buyers] if levels else None),
            None if weight is None else weight[buyers],
        )

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
    }

    def __init__(
        self, options: FitOptions, objective: str = "tweedie", label: str = "value"
    ) -> None:
        self.options = options
        self.objective = objective
        self.label = label

    def fit(
        self,
        X: Matrix,
        y: Target,
        levels: RowLevels | None = None,
        weight: Floats | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Self:
        """Fit on values, or counts, of training rows; negative ones count as 0."""
        label = self._label(y)
        self.scale_ = value_scale(label, weight)
        season = self._season(levels)
        usual = label / self.scale_ * (1.0 if season is None else np.exp(-season))
        self.start_ = max(float(np.average(usual, weights=weight)), 1e-4)
        self.booster_ = learn(
            self.teach,
            X,
            y,
            levels,
            weight,
            elsewhere,
            self.options,
            self.OBJECTIVES[self.objective],
            base_score=self.start_,
        )
        return self

    def teach(
        self, X: Matrix, y: Target, levels: RowLevels | None, weight: Floats | None
    ) -> Lesson:
        """Return what the booster learns of some rows."""
        season, offset = self._season(levels), self._offset(X)
        if offset is None and season is not None:
            offset = np.full(len(X), np.log(self.start_))
        return Lesson(X, self._label(y) / self.scale_, add_season(offset, season), weight)

    def _label(self, y: Target) -> Floats:
        return np.maximum(y.value if self.label == "value" else y.orders, 0.0)

    def _season(self, levels: RowLevels | None) -> Floats | None:
        if levels is None or self.objective not in ("tweedie", "poisson"):
            return None
        return levels.value if self.label == "value" else levels.orders

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

    def fit(
        self,
        X: Matrix,
        y: Target,
        levels: RowLevels | None = None,
        weight: Floats | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Self:
        """Fit on the training rows with an order."""
        buyers, spend = self._spend(y, levels)
        own = None if weight is None else weight[buyers]
        self.scale_ = value_scale(spend, own)
        spend = np.maximum(spend / self.scale_, LEAST_SPEND)
        counted = y.orders[buyers] if own is None else y.orders[buyers] * own
        self.booster_ = learn(
            self.teach,
            X,
            y,
            levels,
            weight,
            elsewhere,
            self.options,
            {"objective": "reg:gamma"},
            base_score=max(float(np.average(spend, weights=counted)), LEAST_SPEND),
            trees=max(2 * self.options.trees // 3, 1),
        )
        return self

    def teach(
        self, X: Matrix, y: Target, levels: RowLevels | None, weight: Floats | None
    ) -> Lesson:
        """Return what the booster learns of some rows: of their buyers."""
        buyers, spend = self._spend(y, levels)
        counted = y.orders[buyers] if weight is None else y.orders[buyers] * weight[buyers]
        spend = np.maximum(spend / self.scale_, LEAST_SPEND)
        return Lesson(X.part(buyers), spend, None, counted)

    @staticmethod
    def _spend(y: Target, levels: RowLevels | None) -> tuple[NDArray[np.int64], Floats]:
        """Return who ordered, and what an order of each brought, free of season."""
        buyers = np.flatnonzero(y.has_purchase & (y.orders > 0))
        spend = np.maximum(y.value[buyers], 0.0) / np.maximum(y.orders[buyers], 1.0)
        if levels is not None:
            spend = spend * np.exp((levels.orders - levels.value)[buyers])
        return buyers, spend

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

    def fit(
        self,
        X: Matrix,
        y: Target,
        weight: Floats | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Self:
        """Fit on training rows of positive value."""
        self.scale_ = value_scale(y.value, weight)
        self.booster_ = learn(
            self.teach,
            X,
            y,
            None,
            weight,
            elsewhere,
            self.options,
            {"objective": "reg:quantileerror", "quantile_alpha": list(self.quantiles)},
        )
        return self

    def teach(
        self, X: Matrix, y: Target, levels: RowLevels | None, weight: Floats | None
    ) -> Lesson:
        """Return what the booster learns of some rows: of those of positive value."""
        buyers = np.flatnonzero(y.value > 0)
        rows = X.take(buyers)
        ratio = np.log(y.value[buyers]) - amount_offset(rows, self.scale_)
        return Lesson(rows, ratio, None, None if weight is None else weight[buyers])

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
