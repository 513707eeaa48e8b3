"""Buy-till-you-die fits by cutoff, and what they forecast of the customers there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clv_pipeline.engines.counting import HistoryCounts
from clv_pipeline.models.btyd.fitting import FitError
from clv_pipeline.models.clusters import BEHAVIOUR
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.history import FORECAST, HISTORY, HistoryModel
from clv_pipeline.models.panel import KEYS, Floats, Matrix, Panel, PanelError
from clv_pipeline.timeline import Cutoff

# Columns that sum up a purchase history.
SUMMED_UP = tuple(dict.fromkeys((*HISTORY, *BEHAVIOUR)))


@dataclass(frozen=True, eq=False)
class Attempt:
    """A fit that was tried.

    Attributes
    ----------
    model
        None where it failed.
    failure, caution
        Why it failed; why it is not to be believed in every respect.
    """

    model: HistoryModel | None
    failure: str | None = None
    caution: str | None = None


@dataclass(eq=False)
class Histories:
    """One buy-till-you-die fit per cutoff, of what was known then; made when first asked for.

    Attributes
    ----------
    panel
        Holds every customer of each cutoff.
    seed
        Of the sample that a large shop is fitted on.
    counts
        Of cutoffs whose histories an engine has counted; others are counted from the panel.
    failures
        Cutoffs whose fit failed, and why.
    cautions
        Cutoffs whose fit serves and is not to be believed in every respect, and why.
    """

    panel: Panel
    seed: int
    counts: Mapping[Cutoff, HistoryCounts] = field(default_factory=dict)
    failures: dict[Cutoff, str] = field(default_factory=dict)
    cautions: dict[Cutoff, str] = field(default_factory=dict)
    _attempts: dict[Cutoff, Attempt] = field(default_factory=dict)
    # Of whole cutoffs over one horizon, what was asked and said: every fit asks for the same.
    _said: dict[Cutoff, tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]] = field(
        default_factory=dict
    )
    _horizon: int = 0

    def at(self, cutoff: Cutoff) -> HistoryModel | None:
        """Return the model of a cutoff, or None where it can't be fitted."""
        return self.attempt(cutoff).model

    def attempt(self, cutoff: Cutoff) -> Attempt:
        """Return the fit of a cutoff, with what is to be said of it."""
        if cutoff not in self._attempts:
            try:
                model = self._fit(cutoff)
                self.take(cutoff, Attempt(model, caution=model.caution()))
            except (FitError, PanelError, ValueError) as error:
                self.take(cutoff, Attempt(None, str(error)))
        return self._attempts[cutoff]

    def take(self, cutoff: Cutoff, attempt: Attempt) -> None:
        """Take over the fit of a cutoff that was tried elsewhere."""
        self._attempts[cutoff] = attempt
        if attempt.failure is not None:
            self.failures[cutoff] = attempt.failure
        if attempt.caution is not None:
            self.cautions[cutoff] = attempt.caution

    def known(self) -> dict[Cutoff, Attempt]:
        """Return the fits that were tried."""
        return dict(self._attempts)

    def _fit(self, cutoff: Cutoff) -> HistoryModel:
        model = HistoryModel(1, seed=self.seed)
        if cutoff in self.counts:
            return model.fit_counts(self.counts[cutoff])
        return model.fit(history_matrix(self.panel.features_at(cutoff)))

    def columns(self, rows: pd.DataFrame, horizon_days: int) -> dict[str, NDArray[np.float32]]:
        """Return each row's forecast by the model of its own cutoff; empty if any is missing."""
        cutoffs = [Cutoff(day.date()) for day in rows["cutoff_date"].unique()]
        models = {cutoff: model for cutoff in cutoffs if (model := self.at(cutoff)) is not None}
        if len(models) < len(cutoffs):
            return {}
        if horizon_days != self._horizon:
            self._said, self._horizon = {}, horizon_days
        found = {name: np.zeros(len(rows), dtype=np.float32) for name in FORECAST}
        for cutoff, model in models.items():
            mask = (rows["cutoff_date"] == pd.Timestamp(cutoff.day)).to_numpy()
            for name, values in self._forecast(cutoff, model, rows, mask).items():
                found[name][mask] = values
        return found

    def _forecast(
        self, cutoff: Cutoff, model: HistoryModel, rows: pd.DataFrame, mask: NDArray[np.bool_]
    ) -> dict[str, NDArray[np.float32]]:
        """Ask a cutoff's model about rows of it; once, where they are all that the panel has."""
        X = history_matrix(rows.loc[mask, [*KEYS, *SUMMED_UP]])
        known, found = self._said.get(cutoff, (X.values[:0], {}))
        # Whoever reviews features asks about histories that nobody had.
        if not np.array_equal(X.values, known, equal_nan=True):
            forecast = model.for_horizon(self._horizon).forecast(X)
            # As wide as the matrices that they go into.
            found = {name: values.astype(np.float32) for name, values in forecast.items()}
            if len(X) == self.panel.count_at(cutoff):
                self._said[cutoff] = X.values, found
        return found


def forecast_columns(
    models: Mapping[Cutoff, HistoryModel], rows: pd.DataFrame, horizon_days: int
) -> dict[str, Floats]:
    """Return each row's forecast by the model of its own cutoff; every cutoff has one."""
    found: dict[str, Floats] = {}
    rows = rows[[*KEYS, *SUMMED_UP]]
    for day in rows["cutoff_date"].unique():
        model = models[Cutoff(pd.Timestamp(day).date())].for_horizon(horizon_days)
        mask = (rows["cutoff_date"] == day).to_numpy()
        for name, values in model.forecast(history_matrix(rows[mask])).items():
            found.setdefault(name, np.zeros(len(rows)))[mask] = values
    return found


def history_matrix(rows: pd.DataFrame) -> Matrix:
    """Return the columns that sum up a purchase history, unencoded."""
    return Encoder(SUMMED_UP, {}).transform(rows)
