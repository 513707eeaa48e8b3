"""The buy-till-you-die expert: fitted on what was known at a cutoff, so it needs no labels."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from clv_pipeline.engines.counting import HistoryCounts
from clv_pipeline.models.base import Files, dump_json, load_json, sample_rows
from clv_pipeline.models.btyd.fitting import collapse
from clv_pipeline.models.btyd.value import BTYDValueModel
from clv_pipeline.models.panel import Floats, Matrix

HISTORY = ("frequency", "recency", "T", "monetary_value", "count_order_days", "sum_value")
FORECAST = ("btyd_value", "btyd_probability", "btyd_orders")
# Four parameters need no more customers than this.
MAX_CUSTOMERS = 3_000


class HistoryModel:
    """Purchases (Pareto/NBD or a relative) times spend (Gamma-Gamma), on a matrix of features.

    Parameters
    ----------
    horizon_days
        H of ``predict``.
    purchases
        Name of the purchase model.
    count_first_order_in_spend
        Whether the first order counts in the mean spend.
    seed
        Of the sample that a large shop is fitted on.

    Attributes
    ----------
    btyd_ : BTYDValueModel
        The fitted model; it serves every horizon.
    """

    def __init__(
        self,
        horizon_days: int,
        purchases: str = "pareto_nbd",
        count_first_order_in_spend: bool = True,
        seed: int = 0,
    ) -> None:
        self.horizon_days = horizon_days
        self.purchases = purchases
        self.count_first_order_in_spend = count_first_order_in_spend
        self.seed = seed

    def fit(self, X: Matrix, y: object = None) -> Self:
        """Fit on the rows of the newest cutoff in ``X``.

        Raises
        ------
        FitError
            If there are too few repeat buyers, or no maximum was found.
        """
        newest = np.flatnonzero(X.cutoff_date == X.cutoff_date.max())
        rows = newest[sample_rows(len(newest), MAX_CUSTOMERS, self.seed)]
        self.btyd_ = BTYDValueModel(self.purchases, self.count_first_order_in_spend).fit(
            _history(X.take(rows))
        )
        return self

    def fit_counts(self, counts: HistoryCounts) -> Self:
        """Fit on the histories of one cutoff, counted where they lie.

        Raises
        ------
        FitError
            If there are too few repeat buyers, or no maximum was found.
        """
        # As a matrix would hold it, so that either way gives the same fit.
        value = counts.spend["sum_value"].astype(np.float32).astype(np.float64).clip(lower=0.0)
        self.btyd_ = BTYDValueModel(self.purchases, self.count_first_order_in_spend).fit_counts(
            counts.purchases, counts.spend.assign(sum_value=value)
        )
        return self

    def for_horizon(self, horizon_days: int) -> HistoryModel:
        """Return the same fitted model, asked about another horizon."""
        other = HistoryModel(
            horizon_days, self.purchases, self.count_first_order_in_spend, self.seed
        )
        other.btyd_ = self.btyd_
        return other

    def forecast(self, X: Matrix) -> dict[str, Floats]:
        """Return value, purchase probability and expected orders over the horizon."""
        frame = _history(X)
        has_orders = (frame["count_order_days"] > 0).to_numpy()
        rows = frame[has_orders]
        history = [rows[name].to_numpy() for name in ("frequency", "recency", "T")]
        # Many customers share a history; BTYDValueModel.predict also dates the next order, slowly.
        unique, _, places = collapse(history)
        purchases = self.btyd_.purchase_model_
        orders = purchases.expected_purchases(self.horizon_days, *unique)[places]
        chance = purchases.probability_purchase(self.horizon_days, *unique)[places]
        spend = self.btyd_.spend_model_.expected_spend(*self._spend(rows))
        found = {}
        for name, values in zip(FORECAST, (orders * spend, chance, orders), strict=True):
            found[name] = np.zeros(len(X))
            found[name][has_orders] = values
        return found

    def probability_alive(self, X: Matrix) -> Floats:
        """Return the chance that a customer still buys; NaN without an order.

        Raises
        ------
        ValueError
            If the purchase model says that every one-time buyer lives (BG/NBD).
        """
        if not self.btyd_.alive_is_publishable:
            raise ValueError(f"{self.purchases} can't say whether a one-time buyer is alive.")
        frame = _history(X)
        has_orders = (frame["count_order_days"] > 0).to_numpy()
        history = [frame[name].to_numpy()[has_orders] for name in ("frequency", "recency", "T")]
        unique, _, places = collapse(history)
        alive = np.full(len(X), np.nan)
        alive[has_orders] = self.btyd_.purchase_model_.probability_alive(*unique)[places]
        return alive

    def _spend(self, rows: pd.DataFrame) -> tuple[Floats, Floats]:
        if self.count_first_order_in_spend:
            days = rows["count_order_days"].to_numpy()
            return days, rows["sum_value"].to_numpy() / days
        return rows["frequency"].to_numpy(), np.nan_to_num(rows["monetary_value"].to_numpy())

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value over the horizon."""
        return self.forecast(X)["btyd_value"]

    def caution(self) -> str | None:
        """Say what the status of the fits warns of; None where both are to be believed."""
        doubts = [
            f"{fit.name} is {fit.result_.status.replace('_', ' ')}. {fit.result_.message}"
            for fit in (self.btyd_.purchase_model_, self.btyd_.spend_model_)
            if fit.result_.status not in ("converged", "given")
        ]
        return " ".join(doubts) or None

    def describe(self) -> dict[str, Any]:
        """Return what the manifest says of the fit."""
        bought, spent = self.btyd_.purchase_model_, self.btyd_.spend_model_
        return {
            "purchases": self.purchases,
            "parameters": dict(bought.parameters_),
            "spend_parameters": dict(spent.parameters_),
            "fit": bought.result_.to_dict(),
            "spend_fit": spent.result_.to_dict(),
            "count_without_spend": spent.count_excluded_,
        }

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        document = {
            "horizon_days": self.horizon_days,
            "purchases": self.purchases,
            "count_first_order_in_spend": self.count_first_order_in_spend,
            "seed": self.seed,
            "btyd": self.btyd_.to_dict(),
        }
        return {"model.json": dump_json(document)}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["model.json"])
        btyd = document.pop("btyd")
        model = cls(**document)
        model.btyd_ = BTYDValueModel.from_dict(btyd)
        return model


def _history(X: Matrix) -> pd.DataFrame:
    frame = pd.DataFrame({name: X.column(name) for name in HISTORY})
    # Refunds can leave nothing: such customers have no spend to learn from.
    frame.loc[frame["sum_value"] <= 0, "sum_value"] = 0.0
    frame["count_order_days"] = frame["count_order_days"].fillna(0.0)
    frame.loc[frame["frequency"].isna(), "count_order_days"] = 0.0
    return frame
