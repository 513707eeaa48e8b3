"""Purchases times spend: what a customer brings over a horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd

from clv_pipeline.models.btyd.base import PurchaseModel
from clv_pipeline.models.btyd.bgnbd import BGNBD, MBGNBD
from clv_pipeline.models.btyd.fitting import FloatArray, collapse
from clv_pipeline.models.btyd.gammagamma import GammaGamma
from clv_pipeline.models.btyd.paretonbd import ParetoNBD

PURCHASE_MODELS: dict[str, type[PurchaseModel]] = {
    model.name: model for model in (ParetoNBD, BGNBD, MBGNBD)
}
HISTORY = ("frequency", "recency", "T")
OUTPUTS = (
    "value",
    "probability_purchase",
    "expected_orders",
    "probability_alive",
    "expected_days_to_next_order",
)


class BTYDValueModel:
    """A purchase model times Gamma-Gamma, in days.

    Both are fitted on what was known at the cutoff; no labels are needed. Value is expected orders
    times expected spend per order, so it is never negative.

    Customers without an order (``frequency`` missing, or ``count_order_days`` 0) are unknown to
    these models. They are left out of the fit, and get value, orders and purchase probability 0,
    and NaN for P(alive) and the days to the next order.

    Parameters
    ----------
    purchases
        ``pareto_nbd``, ``bg_nbd`` or ``mbg_nbd``.
    count_first_order_in_spend
        False: spend is learned from ``monetary_value``, the mean of repeat days, as in the papers;
        a one-time buyer then has the spend of the average customer. True: it is learned from
        ``sum_value / count_order_days``, so that the first order counts, and refunds do too.
    yearly_rate
        Continuous yearly discount rate of ``value``; orders are not discounted.

    Attributes
    ----------
    purchase_model_, spend_model_
        The two fitted models. Their ``result_`` says whether to believe them, and
        ``spend_model_.count_excluded_`` how many customers had no positive spend.
    """

    purchase_model_: PurchaseModel
    spend_model_: GammaGamma

    def __init__(
        self,
        purchases: str = "pareto_nbd",
        count_first_order_in_spend: bool = False,
        yearly_rate: float = 0.0,
    ) -> None:
        self.purchases = purchases
        self.count_first_order_in_spend = count_first_order_in_spend
        self.yearly_rate = yearly_rate

    @property
    def alive_is_publishable(self) -> bool:
        """Whether P(alive) may be shown: not from a model where one-time buyers cannot be dead."""
        return _purchase_model(self.purchases).alive_is_publishable

    def fit(self, X: pd.DataFrame, y: object = None) -> Self:
        """Fit both models.

        Parameters
        ----------
        X
            One row per customer: ``frequency``, ``recency``, ``T`` in days, and ``monetary_value``
            or, to count the first order, ``count_order_days`` and ``sum_value``.
        y
            Ignored: nothing after the cutoff is needed.

        Raises
        ------
        FitError
            When either model cannot be fitted.
        """
        rows = X.loc[_has_orders(X)]
        return self.fit_counts(rows, rows)

    def fit_counts(self, purchases: pd.DataFrame, spend: pd.DataFrame) -> Self:
        """Fit both models on histories of customers with orders, each with how many have it.

        Parameters
        ----------
        purchases
            ``frequency``, ``recency``, ``T`` in days.
        spend
            ``frequency`` and ``monetary_value`` or, to count the first order, ``count_order_days``
            and ``sum_value``. Both tables may have ``count_customers``; a row counts once without.

        Raises
        ------
        FitError
            When either model cannot be fitted.
        """
        model = _purchase_model(self.purchases)()
        frequency, recency, T = (_column(purchases, name) for name in HISTORY)
        self.purchase_model_ = model.fit(frequency, recency, T, _counts(purchases))
        self.spend_model_ = GammaGamma().fit(*self._spend(spend), _counts(spend))
        return self

    def predict(self, X: pd.DataFrame, horizon_days: float) -> pd.DataFrame:
        """Predict what happens in the days after the cutoff.

        Parameters
        ----------
        X
            As in `fit`.
        horizon_days
            How many days to look ahead.

        Returns
        -------
        On the index of ``X``: ``value``, ``probability_purchase`` (at least one order),
        ``expected_orders`` (order days), ``probability_alive`` (publish it only where
        ``alive_is_publishable``) and ``expected_days_to_next_order`` (the median, counted from the
        cutoff; infinity where it is more likely that no order ever comes).
        """
        has_orders = _has_orders(X)
        rows = X.loc[has_orders]
        (x, t_x, T), _, positions = collapse([_column(rows, name) for name in HISTORY])
        model = self.purchase_model_
        orders = model.expected_purchases(horizon_days, x, t_x, T)
        discounted = orders
        if self.yearly_rate != 0.0:
            discounted = model.discounted_expected_purchases(
                horizon_days, x, t_x, T, yearly_rate=self.yearly_rate
            )
        per_customer = {
            "value": discounted[positions] * self.spend_model_.expected_spend(*self._spend(rows)),
            "probability_purchase": model.probability_purchase(horizon_days, x, t_x, T)[positions],
            "expected_orders": orders[positions],
            "probability_alive": model.probability_alive(x, t_x, T)[positions],
            "expected_days_to_next_order": model.expected_next_purchase(x, t_x, T)[positions],
        }
        predicted = {}
        for name in OUTPUTS:
            is_zero = name in ("value", "probability_purchase", "expected_orders")
            column = np.full(len(X), 0.0 if is_zero else np.nan)
            column[has_orders] = per_customer[name]
            predicted[name] = column
        return pd.DataFrame(predicted, index=X.index)

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted model as plain data for JSON."""
        return {
            "model": "btyd_value",
            "purchases": self.purchases,
            "count_first_order_in_spend": self.count_first_order_in_spend,
            "yearly_rate": self.yearly_rate,
            "purchase_model": self.purchase_model_.to_dict(),
            "spend_model": self.spend_model_.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild the model that ``to_dict`` described."""
        if plain["model"] != "btyd_value":
            raise ValueError(f"This is a saved {plain['model']} model, not btyd_value.")
        model = cls(
            purchases=plain["purchases"],
            count_first_order_in_spend=plain["count_first_order_in_spend"],
            yearly_rate=plain["yearly_rate"],
        )
        purchase_model = _purchase_model(plain["purchases"])
        model.purchase_model_ = purchase_model.from_dict(plain["purchase_model"])
        model.spend_model_ = GammaGamma.from_dict(plain["spend_model"])
        return model

    def _spend(self, rows: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
        """Return how many orders the mean spend is taken over, and that mean."""
        if not self.count_first_order_in_spend:
            return _column(rows, "frequency"), _column(rows, "monetary_value")
        missing = [name for name in ("count_order_days", "sum_value") if name not in rows]
        if missing:
            raise ValueError(
                f"Counting the first order in spend needs the column {' and '.join(missing)}."
            )
        orders = _column(rows, "count_order_days")
        return orders, _column(rows, "sum_value") / orders


def _purchase_model(name: str) -> type[PurchaseModel]:
    if name not in PURCHASE_MODELS:
        raise ValueError(f"purchases must be one of {', '.join(PURCHASE_MODELS)}, not {name!r}.")
    return PURCHASE_MODELS[name]


def _column(X: pd.DataFrame, name: str) -> FloatArray:
    return X[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _counts(rows: pd.DataFrame) -> FloatArray | None:
    return _column(rows, "count_customers") if "count_customers" in rows else None


def _has_orders(X: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    has_orders = X["frequency"].notna().to_numpy(dtype=bool, copy=True)
    if "count_order_days" in X:
        has_orders &= (X["count_order_days"].fillna(0) > 0).to_numpy(dtype=bool)
    return has_orders
