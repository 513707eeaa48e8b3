"""What any model must beat: from zero to scikit-learn's usual regressors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from clv_pipeline.models.base import (
    Files,
    FitOptions,
    dump_arrays,
    dump_json,
    load_arrays,
    load_json,
    sample_rows,
)
from clv_pipeline.models.panel import Floats, Matrix, Target

MAX_LINEAR_ROWS = 10_000
WINDOW = re.compile(r"^sum_value_(\d+)d$")


@contextmanager
def within_budget() -> Iterator[None]:
    """Let a comparison stop at its limit of iterations without a warning: the limit is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


class ConstantModel:
    """The same value for everyone: zero, or the mean of the training labels.

    Parameters
    ----------
    statistic
        ``zero`` or ``mean``.
    """

    def __init__(self, statistic: str = "mean") -> None:
        self.statistic = statistic

    def fit(self, X: Matrix, y: Target) -> Self:
        """Learn the constant."""
        self.constant_ = max(float(y.value.mean()), 0.0) if self.statistic == "mean" else 0.0
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the constant for each row."""
        return np.full(len(X), self.constant_)

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        return {"model.json": dump_json({"statistic": self.statistic, "constant": self.constant_})}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["model.json"])
        model = cls(document["statistic"])
        model.constant_ = document["constant"]
        return model


class LastWindowModel:
    """The value of the last H days, repeated.

    Where no window feature spans H days, the window nearest to H is scaled to H days; without any
    window feature it is the customer's rate of value since the first order.

    Parameters
    ----------
    horizon_days
        H.
    """

    def __init__(self, horizon_days: int) -> None:
        self.horizon_days = horizon_days

    def fit(self, X: Matrix, y: Target | None = None) -> Self:
        """Learn nothing."""
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the repeated value, at least 0."""
        windows = {int(found[1]): name for name in X.names if (found := WINDOW.match(name))}
        if windows:
            days = min(windows, key=lambda w: (abs(np.log(w / self.horizon_days)), w))
            value = X.column(windows[days]) * self.horizon_days / days
        else:
            value = X.column("sum_value") * self.horizon_days / np.maximum(X.column("T"), 1.0)
        return np.maximum(np.nan_to_num(value), 0.0)

    def to_files(self) -> Files:
        """Return the model as named files."""
        return {"model.json": dump_json({"horizon_days": self.horizon_days})}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        return cls(**load_json(files["model.json"]))


class RateTimesValueModel:
    """x / T times H times average order value: the rate of repeat purchases goes on for ever.

    One-time buyers get nothing, as do customers who bought first at the cutoff. Nothing is
    learned, so it serves any horizon.

    Parameters
    ----------
    horizon_days
        H.
    """

    def __init__(self, horizon_days: int) -> None:
        self.horizon_days = horizon_days

    def fit(self, X: Matrix, y: Target | None = None) -> Self:
        """Learn nothing."""
        return self

    def predict_orders(self, X: Matrix) -> Floats:
        """Return the expected count of orders."""
        frequency = np.nan_to_num(X.column("frequency"))
        tenure = np.nan_to_num(X.column("T"))
        rate = np.divide(frequency, tenure, out=np.zeros(len(X)), where=tenure > 0)
        return np.asarray(rate * self.horizon_days, dtype=np.float64)

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value."""
        days = np.nan_to_num(X.column("count_order_days"))
        total = np.maximum(np.nan_to_num(X.column("sum_value")), 0.0)
        average = np.divide(total, days, out=np.zeros(len(X)), where=days > 0)
        return np.asarray(self.predict_orders(X) * average, dtype=np.float64)

    def to_files(self) -> Files:
        """Return the model as named files."""
        return {"model.json": dump_json({"horizon_days": self.horizon_days})}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        return cls(**load_json(files["model.json"]))


def squash(values: np.ndarray[Any, Any]) -> Floats:
    """Return signed logarithms: amounts and counts of all sizes on one scale."""
    numbers = values.astype(np.float64)
    return np.asarray(np.sign(numbers) * np.log1p(np.abs(numbers)), dtype=np.float64)


class LinearModel:
    """Linear regression on logarithms of the features, with a penalty.

    Missing values become the median of training, and the features are standardized.

    Parameters
    ----------
    l1_ratio
        0 is ridge regression with a small penalty; above it an elastic net.
    """

    def __init__(self, l1_ratio: float = 0.0) -> None:
        self.l1_ratio = l1_ratio

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit on the values of training rows."""
        rows = sample_rows(len(X), MAX_LINEAR_ROWS, 0)
        raw, value = squash(X.values[rows]), y.value[rows]
        has_any = ~np.isnan(raw).all(axis=0)
        self.median_ = np.zeros(raw.shape[1])
        self.median_[has_any] = np.nanmedian(raw[:, has_any], axis=0)
        filled = np.where(np.isnan(raw), self.median_, raw)
        self.center_, spread = filled.mean(axis=0), filled.std(axis=0)
        self.spread_ = np.where(spread > 1e-9, spread, 1.0)
        scale = float(np.std(value)) or 1.0
        model = (
            ElasticNet(alpha=0.01, l1_ratio=self.l1_ratio, max_iter=300, tol=1e-2)
            if self.l1_ratio > 0
            else Ridge(alpha=10.0)
        )
        with within_budget():
            model.fit((filled - self.center_) / self.spread_, value / scale)
        self.coefficients_ = np.asarray(model.coef_) * scale
        self.intercept_ = float(model.intercept_) * scale
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the fitted line, cut off at 0."""
        raw = squash(X.values)
        filled = (np.where(np.isnan(raw), self.median_, raw) - self.center_) / self.spread_
        return np.asarray(np.maximum(filled @ self.coefficients_ + self.intercept_, 0.0))

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        arrays = dump_arrays(
            median=self.median_,
            center=self.center_,
            spread=self.spread_,
            coefficients=self.coefficients_,
            intercept=np.array(self.intercept_),
        )
        return {"model.json": dump_json({"l1_ratio": self.l1_ratio}), "arrays.npz": arrays}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        model = cls(**load_json(files["model.json"]))
        arrays = load_arrays(files["arrays.npz"])
        for name in ("median", "center", "spread", "coefficients"):
            setattr(model, f"{name}_", arrays[name])
        model.intercept_ = float(arrays["intercept"])
        return model


class SampledRegressor:
    """One of scikit-learn's regressors, on a stated sample of rows. For comparison, never saved.

    Parameters
    ----------
    kind
        ``decision_tree``, ``random_forest``, ``svm`` or ``mlp``.
    options
        Seed and threads.
    max_rows
        Rows that the fit sees.
    """

    def __init__(self, kind: str, options: FitOptions, max_rows: int) -> None:
        self.kind = kind
        self.options = options
        self.max_rows = max_rows

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit on a sample of training rows; missing values become -1 below the logarithms."""
        rows = sample_rows(len(X), self.max_rows, self.options.seed)
        value = y.value[rows]
        self.scale_ = float(np.std(value)) or 1.0
        self.estimator_ = self._make(len(rows))
        with within_budget():
            self.estimator_.fit(self._inputs(X.take(rows)), value / self.scale_)
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the prediction, cut off at 0."""
        found = self.estimator_.predict(self._inputs(X))
        return np.maximum(np.asarray(found, dtype=np.float64) * self.scale_, 0.0)

    def _inputs(self, X: Matrix) -> Floats:
        return np.nan_to_num(squash(X.values), nan=-1.0)

    def _make(self, rows: int) -> BaseEstimator:
        seed = self.options.seed
        leaf = max(5, rows // 400)
        if self.kind == "decision_tree":
            return DecisionTreeRegressor(max_depth=8, min_samples_leaf=leaf, random_state=seed)
        if self.kind == "random_forest":
            # One thread: sums of trees in the order of threads differ in their last bits.
            return RandomForestRegressor(
                40, min_samples_leaf=leaf, max_features=0.33, max_samples=0.7, random_state=seed
            )
        if self.kind == "svm":
            return make_pipeline(StandardScaler(), SVR(C=1.0, epsilon=0.05))
        if self.kind == "mlp":
            return make_pipeline(
                StandardScaler(),
                MLPRegressor(
                    hidden_layer_sizes=(32, 16),
                    alpha=1e-2,
                    early_stopping=True,
                    max_iter=60,
                    random_state=seed,
                ),
            )
        raise ValueError(f"'{self.kind}' is no regressor of this list.")
