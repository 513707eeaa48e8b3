"""A boosted model that is there to be compared: on the sample that the ensemble's parts see."""

from __future__ import annotations

from typing import Self

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.boosting import BoostedMean
from clv_pipeline.models.panel import Floats, Matrix, Target
from clv_pipeline.models.sampling import stratify


class SampledBoosting:
    """One booster for value, on at most ``options.max_rows`` rows.

    Parameters
    ----------
    options
        Trees, depth, rows and so on.
    objective
        One of ``BoostedMean.OBJECTIVES``.
    """

    def __init__(self, options: FitOptions, objective: str) -> None:
        self.options = options
        self.objective = objective

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit on a stratified sample of training rows."""
        sample = stratify(X.cutoff_date, y, self.options.max_rows, self.options.seed)
        self.boosted_ = BoostedMean(self.options, self.objective).fit(
            X.take(sample.rows), y.take(sample.rows), weight=sample.weight
        )
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value."""
        return self.boosted_.predict(X)
