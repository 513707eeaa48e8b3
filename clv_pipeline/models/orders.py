"""Value as orders times what each brings, by two boosted regressions; for searches by itself."""

from __future__ import annotations

from typing import Self

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.boosting import BoostedMean, SpendModel
from clv_pipeline.models.panel import Floats, Matrix, Target


class OrdersTimesSpend:
    """Orders by a Poisson regression, each worth what a gamma regression says: a value.

    Parameters
    ----------
    options
        Trees, depth, threads and so on.
    """

    def __init__(self, options: FitOptions) -> None:
        self.options = options

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit both parts."""
        self.orders_ = BoostedMean(self.options, "poisson", "orders").fit(X, y)
        self.spend_ = SpendModel(self.options).fit(X, y)
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value."""
        return self.orders_.predict(X) * self.spend_.predict(X)
