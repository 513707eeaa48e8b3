"""Gamma-Gamma: the mean value of a customer's orders, shrunk towards that of all customers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, gammaln

from clv_pipeline.models.btyd.fitting import (
    FitError,
    FitResult,
    FloatArray,
    collapse,
    maximise,
)


class GammaGamma:
    """Gamma-Gamma model of spend per order.

    Each order of a customer is worth Gamma(``p``, rate nu), so that their mean value z over x
    orders is Gamma(``p`` x, rate nu x); nu varies over customers as Gamma(``q``, rate ``v``).
    Spend is taken to be independent of how often a customer buys: ``correlation_`` checks that.

    Parameters
    ----------
    on_failure
        ``raise`` (default) raises `FitError` when no maximum is found; ``keep`` keeps the last
        parameters, and the caller looks at ``result_.status``.

    Attributes
    ----------
    parameters_ : dict of str to float
        ``p``, ``q`` and ``v``; ``v`` is in units of money.
    result_ : FitResult
        Status, standard errors and log-likelihood of the fit.
    count_excluded_ : int
        Customers with orders whose mean value is zero or negative. The model knows only positive
        values, so the fit leaves them out: one of them would make the likelihood zero.
    mean_spend_ : float
        Plain mean of the customers' mean values, for when the model's own mean is infinite.
    correlation_ : float
        Between frequency and mean value over the fitted customers; NaN when either is constant.

    References
    ----------
    Fader, P. S., and Hardie, B. G. S. (2013). The gamma-gamma model of monetary value,
    after Colombo, R., and Jiang, W. (1999), Journal of Interactive Marketing 13(3), 2-12.
    """

    name: ClassVar[str] = "gamma_gamma"
    parameter_names: ClassVar[tuple[str, ...]] = ("p", "q", "v")

    parameters_: dict[str, float]
    result_: FitResult
    count_excluded_: int
    mean_spend_: float
    correlation_: float

    def __init__(self, on_failure: str = "raise") -> None:
        self.on_failure = on_failure

    @classmethod
    def from_parameters(cls, p: float, q: float, v: float) -> Self:
        """Build a fitted model from known parameters, such as those of a paper."""
        if not all(0.0 < value < np.inf for value in (p, q, v)):
            raise ValueError("The parameters of gamma_gamma must be positive numbers.")
        model = cls()
        model.result_ = FitResult.given({"p": float(p), "q": float(q), "v": float(v)})
        model.parameters_ = dict(model.result_.parameters)
        model.count_excluded_ = 0
        model.mean_spend_ = p * v / (q - 1.0) if q > 1.0 else np.nan
        model.correlation_ = np.nan
        return model

    def fit(
        self,
        frequency: npt.ArrayLike,
        monetary_value: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit by maximum likelihood.

        Parameters
        ----------
        frequency
            How many orders the mean is taken over. Customers with 0 say nothing and are skipped.
        monetary_value
            Mean value of those orders; missing where there are none.
        weights
            How many customers each entry stands for; 1 when not given.

        Returns
        -------
        The model itself. ``result_`` says whether to believe it.

        Raises
        ------
        FitError
            When no customer has a positive mean value, or no maximum was found.
        """
        x, mean, weight = _as_spend(frequency, monetary_value, weights)
        has_orders = (x > 0) & (weight > 0)
        if np.isnan(mean[has_orders]).any():
            raise ValueError("monetary_value is missing for customers with orders.")
        is_used = has_orders & (mean > 0)
        self.count_excluded_ = int(weight[has_orders & ~is_used].sum())
        if not is_used.any():
            raise FitError(
                "gamma_gamma needs customers whose orders have a positive mean value: "
                f"{self.count_excluded_} were excluded and none is left."
            )
        (x, mean), weight, _ = collapse([x[is_used], mean[is_used]], weight[is_used])
        total = float(weight.sum())
        self.mean_spend_ = float(mean @ weight) / total
        self.correlation_ = _correlation(x, mean, weight)

        # In units of the mean the likelihood is the same for cents and for millions.
        scale = self.mean_spend_
        log_scale = float(weight.sum()) * np.log(scale)

        def objective(values: FloatArray) -> tuple[float, FloatArray]:
            log_likelihood, gradient = _log_likelihood(values, x, mean / scale)
            return float(log_likelihood @ weight) - log_scale, gradient @ weight

        starts = [[6.0, 4.0, 0.5], [1.0, 2.0, 1.0], [20.0, 3.0, 0.1]]
        result = maximise(objective, starts, self.parameter_names, total, weight.size)
        self.result_ = _rescaled(result, scale)
        if self.result_.status == "failed" and self.on_failure == "raise":
            raise FitError(f"gamma_gamma could not be fitted. {self.result_.message}")
        self.parameters_ = dict(self.result_.parameters)
        return self

    def expected_spend(self, frequency: npt.ArrayLike, monetary_value: npt.ArrayLike) -> FloatArray:
        """Return the expected mean value of a customer's future orders.

        A weighted mean of the customer's own mean and that of all customers. A mean below zero
        (refunds outweigh orders) counts as zero. Without orders, or when the
        posterior mean is infinite (``q`` at most 1), it is the mean over customers; that is
        ``mean_spend_`` when the model's is infinite, too.

        Parameters
        ----------
        frequency
            How many orders the mean is taken over.
        monetary_value
            Mean value of those orders; ignored where ``frequency`` is 0.
        """
        x, mean, _ = _as_spend(frequency, monetary_value, None)
        if np.isnan(mean[x > 0]).any():
            raise ValueError("monetary_value is missing for customers with orders.")
        p, q, v = (self.parameters_[name] for name in self.parameter_names)
        seen = np.where(x > 0, np.maximum(mean, 0.0), 0.0)
        denominator = p * x + q - 1.0
        exists = denominator > 0.0
        spend = p * (v + x * seen) / np.where(exists, denominator, 1.0)
        return np.where(exists, spend, self.mean_spend_)

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted model as plain data for JSON."""
        numbers = {"mean_spend": self.mean_spend_, "correlation": self.correlation_}
        return {
            "model": self.name,
            "on_failure": self.on_failure,
            "fit": self.result_.to_dict(),
            "count_excluded": self.count_excluded_,
            **{key: None if np.isnan(value) else value for key, value in numbers.items()},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild the model that ``to_dict`` described."""
        if plain["model"] != cls.name:
            raise ValueError(f"This is a saved {plain['model']} model, not {cls.name}.")
        model = cls(on_failure=plain["on_failure"])
        model.result_ = FitResult.from_dict(plain["fit"])
        model.parameters_ = dict(model.result_.parameters)
        model.count_excluded_ = plain["count_excluded"]
        model.mean_spend_ = np.nan if plain["mean_spend"] is None else plain["mean_spend"]
        model.correlation_ = np.nan if plain["correlation"] is None else plain["correlation"]
        return model


def _as_spend(
    frequency: npt.ArrayLike, monetary_value: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Broadcast and check a count of orders, their mean value, and weights."""
    x, mean, weight = np.broadcast_arrays(
        np.asarray(frequency, dtype=np.float64),
        np.asarray(monetary_value, dtype=np.float64),
        np.asarray(1.0 if weights is None else weights, dtype=np.float64),
    )
    if not np.isfinite(x).all() or (x < 0).any():
        raise ValueError("frequency must hold finite numbers >= 0.")
    if np.isinf(mean).any():
        raise ValueError("monetary_value must be finite, or missing where frequency is 0.")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("weights must hold one finite number >= 0 per customer.")
    return x, mean, weight


def _log_likelihood(
    values: FloatArray, x: FloatArray, mean: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the log-likelihood of each row, and its gradient (parameters, rows)."""
    p, q, v = (float(value) for value in values)
    total = x * mean
    log_total = np.log(total + v)
    log_likelihood = (
        gammaln(p * x + q)
        - gammaln(p * x)
        - gammaln(q)
        + q * np.log(v)
        + (p * x - 1.0) * np.log(mean)
        + p * x * np.log(x)
        - (p * x + q) * log_total
    )
    both = digamma(p * x + q)
    gradient = np.stack(
        [
            x * (both - digamma(p * x) + np.log(total) - log_total),
            both - digamma(q) + np.log(v) - log_total,
            q / v - (p * x + q) / (total + v),
        ]
    )
    return np.asarray(log_likelihood, dtype=np.float64), gradient


def _rescaled(result: FitResult, scale: float) -> FitResult:
    """Put ``v`` back into units of money."""
    plain = result.to_dict()
    for key in ("parameters", "standard_errors"):
        if plain[key]["v"] is not None:
            plain[key]["v"] *= scale
    return FitResult.from_dict(plain)


def _correlation(x: FloatArray, mean: FloatArray, weight: FloatArray) -> float:
    """Return the weighted correlation of two columns, NaN when one does not vary."""
    share = weight / weight.sum()
    first, second = x - x @ share, mean - mean @ share
    variance = float((first**2 @ share) * (second**2 @ share))
    return float((first * second) @ share) / variance**0.5 if variance > 0.0 else np.nan
