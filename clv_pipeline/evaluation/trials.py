"""One trial of a search: fit with some parameters on rows that train, judge on rows that don't."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clv_pipeline.evaluation.metrics import normalized_gini, rmse, total_bias
from clv_pipeline.evaluation.splits import Split
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.candidates import (
    BOOSTING,
    CANDIDATES,
    Candidate,
    find_candidate,
    with_parameters,
)
from clv_pipeline.models.clusters import BehaviourClusters
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.panel import Floats, Panel, Target


@dataclass(frozen=True)
class Subject:
    """What a search finds parameters for.

    Attributes
    ----------
    name
        A candidate's, or ``experts``: the boosted experts of the ensemble.
    models
        Whose mean is judged.
    space
        By parameter, the values to choose from.
    """

    name: str
    models: tuple[Candidate, ...]
    space: Mapping[str, Sequence[float]]

    def present(self, options: FitOptions) -> dict[str, float]:
        """Return the parameters as they are set now."""
        found = {n: float(getattr(options, n)) for n in self.space if hasattr(options, n)}
        return found | {k: v for m in self.models for k, v in m.present(options).items()}


# What [model] in clv.toml may be set to by a search.
EXPERTS = Subject(
    "experts",
    (find_candidate("hurdle"), find_candidate("tweedie")),
    {**BOOSTING, "clusters": (3, 4, 6, 8, 10)},
)
SUBJECTS: dict[str, Subject] = {
    "experts": EXPERTS,
    **{c.name: Subject(c.name, (c,), c.space) for c in CANDIDATES if c.space},
}


@dataclass(frozen=True)
class Trial:
    """One set of parameters, and how it did.

    Attributes
    ----------
    parameters
        Of the subject's space.
    loss
        Mean over the splits of the Tweedie deviance (power 1.5), in units of the mean value: it
        falls with better ranks and with a better level.
    normalized_gini, rmse, total_bias
        Means over the splits; the bias is absolute.
    seconds
        Of fitting and judging.
    """

    parameters: dict[str, float]
    loss: float
    normalized_gini: float
    rmse: float
    total_bias: float
    seconds: float


def run_trial(
    panel: Panel,
    options: FitOptions,
    splits: Sequence[Split],
    parameters: Mapping[str, float],
    left_out: frozenset[str] = frozenset(),
    subject: Subject = EXPERTS,
) -> Trial:
    """Fit on each split with some parameters set, and judge what is said."""
    started = time.monotonic()
    figures = []
    for split in splits:
        model = FittedSubject(panel, options, subject, parameters, left_out)
        model.fit(split.train, split.train_target)
        figures.append(judge(split.test_target.value, model.predict(split.test)))
    loss, gini, error, bias = np.mean(figures, axis=0)
    seconds = time.monotonic() - started
    return Trial(dict(parameters), float(loss), float(gini), float(error), float(bias), seconds)


class FittedSubject:
    """Models with their encoder and clusters, without a blend: what is searched.

    Parameters
    ----------
    panel
        Names the features, and holds the purchases for those that read them one by one.
    options, parameters
        How it is fitted.
    subject
        What is fitted.
    left_out
        Features that it does not read.

    Attributes
    ----------
    encoder_
        Fitted on the training rows, as are the clusters and the models.
    """

    def __init__(
        self,
        panel: Panel,
        options: FitOptions,
        subject: Subject = EXPERTS,
        parameters: Mapping[str, float] | None = None,
        left_out: frozenset[str] = frozenset(),
    ) -> None:
        self.panel = panel
        self.subject = subject
        self.parameters = dict(parameters or {})
        self.options = with_parameters(options, self.parameters)
        self.columns = [f for f in panel.columns if f.name not in left_out]

    def fit(self, rows: pd.DataFrame, y: Target) -> FittedSubject:
        """Fit on raw rows with the forecasts made at their cutoffs."""
        self.encoder_, encoded = Encoder.fit_transform(rows, self.columns, y)
        plain_rows = encoded.with_columns(_forecast(rows))
        self.clusters_ = BehaviourClusters(self.options.clusters, self.options.seed).fit(plain_rows)
        X = plain_rows.with_columns(self.clusters_.columns(plain_rows))
        self.models_: list[Any] = []
        for candidate in self.subject.models:
            own = {k: v for k, v in self.parameters.items() if k in candidate.space}
            model: Any = candidate.build(self.options, own)
            if candidate.reads_days and self.panel.days is not None:
                model.with_days(self.panel.days)
            self.models_.append(model.fit(X, y))
        return self

    def predict(self, rows: pd.DataFrame) -> Floats:
        """Return the mean of what the models expect."""
        plain_rows = self.encoder_.transform(rows).with_columns(_forecast(rows))
        X = plain_rows.with_columns(self.clusters_.columns(plain_rows))
        return np.asarray(np.mean([m.predict(X) for m in self.models_], axis=0), dtype=np.float64)


def _forecast(rows: pd.DataFrame) -> dict[str, Floats]:
    return {str(n): rows[n].to_numpy() for n in rows.columns if str(n).startswith("btyd_")}


def judge(actual: Floats, predicted: Floats) -> tuple[float, float, float, float]:
    """Return deviance, normalized Gini, root mean squared error and absolute bias."""
    scale = max(float(np.mean(np.maximum(actual, 0.0))), 1e-9)
    y, p = np.maximum(actual, 0.0) / scale, np.maximum(predicted, 1e-6 * scale) / scale
    loss = float(np.mean(4 * (np.sqrt(y) - np.sqrt(p)) ** 2 / np.sqrt(p)))
    bias = abs(total_bias(actual, predicted))
    return loss, normalized_gini(actual, predicted), rmse(actual, predicted), bias
