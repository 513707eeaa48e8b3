"""A recurrent network over each customer's ordered purchases, with the ZILN head.

It reads what no aggregate tells: the order in which gaps and amounts came. Gated recurrent unit:
Cho et al. (2014), arXiv:1406.1078.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from clv_pipeline.models.base import FitOptions, sample_rows
from clv_pipeline.models.neural.training import STEP, Heads, optimise, require_torch
from clv_pipeline.models.panel import Floats, Matrix, PanelError, Target

# So many order days are read, the newest ones.
LENGTH = 20
COUNT_STATIC = 3
BATCH_ROWS = 4096


class GRUModel:
    """Gaps, amounts and ages of the last order days, read in order. For comparison.

    Parameters
    ----------
    options
        Seed and most rows.
    epochs
        At most; fewer where held-out customers stop gaining.
    width
        Of the recurrent state and of the layer after it.
    step
        Of the optimiser.

    Attributes
    ----------
    network_
        The fitted network.
    """

    def __init__(
        self, options: FitOptions, epochs: int = 25, width: int = 32, step: float = STEP
    ) -> None:
        self.options = options
        self.epochs = epochs
        self.width = width
        self.step = step
        self.days_: pd.DataFrame | None = None

    def with_days(self, days: pd.DataFrame) -> Self:
        """Give the purchases as they were known at each cutoff.

        Parameters
        ----------
        days
            ``customer_id``, ``cutoff_date``, ``activity_date``, ``value``: a row per order day.
        """
        self.days_ = days.sort_values(["customer_id", "cutoff_date", "activity_date"])
        return self

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit on at most ``options.max_rows`` rows.

        Raises
        ------
        PanelError
            If the purchases were not given.
        NeuralExtraError
            If PyTorch is not installed.
        """
        torch = require_torch()
        rows = sample_rows(len(X), self.options.max_rows, self.options.seed)
        seen, value = X.take(rows), np.maximum(y.take(rows).value, 0.0)
        buyers = value > 0
        self.scale_ = float(value[buyers].mean()) if buyers.any() else 1.0
        self.highest_ = float(np.log(max(value.max() / self.scale_, 1e-6))) if buyers.any() else 0.0
        inputs = tuple(torch.from_numpy(part) for part in self.read_sequences(seen))
        target = (value / self.scale_).astype(np.float32)
        options = self.options
        self.network_ = optimise(
            torch,
            lambda: _network(torch, self.width),
            inputs,
            target,
            options.seed,
            self.epochs,
            self.step,
        )
        total = float(self._heads(seen).mean(self.highest_).sum())
        self.level_ = float(target.sum()) / total if total > 0 else 1.0
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value."""
        return self._heads(X).mean(self.highest_) * self.level_ * self.scale_

    def predict_probability(self, X: Matrix) -> Floats:
        """Return the chance of any value."""
        return self._heads(X).chance

    def read_sequences(self, X: Matrix) -> tuple[Any, Any]:
        """Return what the network reads of each row.

        Returns
        -------
        tuple of array
            Steps of shape (n, 20, 4): log of the gap to the order day before, of the value, of the
            days to the cutoff, and whether the step is one; padded in front. And log of days since
            the first order, since the last one, and of the order days, shape (n, 3).
        """
        if self.days_ is None:
            raise PanelError(
                "the purchases of each cutoff are missing; a sequence model needs them."
            )
        keys = pd.DataFrame({"customer_id": X.customer_id, "cutoff_date": X.cutoff_date})
        keys["cutoff_date"] = pd.to_datetime(keys["cutoff_date"]).astype("datetime64[s]")
        keys["row"] = np.arange(len(keys))
        days = self.days_.assign(
            cutoff_date=pd.to_datetime(self.days_["cutoff_date"]).astype("datetime64[s]")
        ).merge(keys, on=["customer_id", "cutoff_date"], how="inner")
        groups = days.groupby("row", sort=False)
        when = pd.to_datetime(days["activity_date"])
        gap = groups["activity_date"].diff().dt.days.fillna(0.0)
        age = (days["cutoff_date"] - when).dt.days
        place = LENGTH - 1 - groups.cumcount(ascending=False)
        steps = np.zeros((len(keys), LENGTH, 4), dtype=np.float32)
        known = (place >= 0).to_numpy()
        at, k = days["row"].to_numpy()[known], place.to_numpy()[known]
        value = np.maximum(days["value"].to_numpy(dtype=np.float64), 0.0)
        columns = (gap.to_numpy(dtype=np.float64), value, age.to_numpy(dtype=np.float64))
        for j, column in enumerate(columns):
            steps[at, k, j] = np.log1p(column[known]) / 5
        steps[at, k, 3] = 1.0
        static = np.zeros((len(keys), COUNT_STATIC), dtype=np.float32)
        ages = age.groupby(days["row"])
        index = ages.max().index.to_numpy()
        for j, figures in enumerate((ages.max(), ages.min(), ages.size())):
            static[index, j] = np.log1p(figures.to_numpy(dtype=np.float64)) / 5
        return steps, static

    def _heads(self, X: Matrix) -> Heads:
        torch = require_torch()
        steps, static = self.read_sequences(X)
        found = []
        with torch.no_grad():
            for start in range(0, max(len(X), 1), BATCH_ROWS):
                part = slice(start, start + BATCH_ROWS)
                batch = (torch.from_numpy(steps[part]), torch.from_numpy(static[part]))
                found.append(self.network_(*batch).numpy())
        return Heads.of(np.concatenate(found))


def _network(torch: Any, width: int) -> Any:
    """Make the network; its class can only be written where PyTorch is there."""
    nn = torch.nn

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.GRU(4, width, batch_first=True)
            self.head = nn.Sequential(
                nn.Linear(width + COUNT_STATIC, width), nn.ReLU(), nn.Linear(width, 3)
            )

        def forward(self, steps: Any, static: Any) -> Any:
            _, last = self.recurrent(steps)
            return self.head(torch.cat([last[0], static], dim=1))

    return Network()
