"""What drives a model that can't be taken apart itself: the trees that stand in for it can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from clv_pipeline.evaluation.metrics import spearman
from clv_pipeline.evaluation.ranking import Floats
from clv_pipeline.models.base import sample_rows
from clv_pipeline.models.panel import Matrix
from clv_pipeline.models.surrogate import SurrogateTrees
from clv_pipeline.timeline import Cutoff

# Customers whose effects are taken.
SAMPLE = 800
COUNT_DRIVERS = 15
# A weaker correlation gives no direction.
LEAST_CORRELATION = 0.3
COLUMNS = (
    "model",
    "horizon_days",
    "evaluation_date",
    "driver",
    "driver_rank",
    "mean_absolute_effect",
    "share",
    "direction",
    "correlation",
    "count_customers",
    "method",
    "fidelity",
)


def describe_models(
    X: Matrix, answers: Mapping[str, Floats], horizon_days: int, evaluation: Cutoff, seed: int = 0
) -> pd.DataFrame:
    """Say which features move the answers of some models, and how well that is known.

    Parameters
    ----------
    X
        Encoded features of the evaluation cutoff.
    answers
        By model, its predicted values of those customers, shape (n,).
    horizon_days, evaluation
        What was asked.
    seed
        Of the samples.

    Returns
    -------
    DataFrame
        ``COLUMNS``: per model the drivers with the largest mean effects, by TreeSHAP of
        ``SurrogateTrees``, in money; ``fidelity`` says how well those follow the model.
    """
    rows: list[tuple[Any, ...]] = []
    chosen = X.take(sample_rows(len(X), SAMPLE, seed))
    numbers = as_numbers(chosen)
    for model, values in answers.items():
        stand_in = SurrogateTrees(seed=seed).fit(X, values)
        effects = stand_in.contributions(chosen).effects
        sizes = np.abs(effects).mean(axis=0) if len(chosen) else np.zeros(len(X.names))
        total = float(sizes.sum()) or 1.0
        order = [k for k in np.argsort(-sizes, kind="stable")[:COUNT_DRIVERS] if sizes[k] > 0]
        for rank, k in enumerate(order, 1):
            correlation = correlate(numbers[:, k], effects[:, k])
            rows.append(
                (
                    model,
                    horizon_days,
                    evaluation.day,
                    X.names[k],
                    rank,
                    float(sizes[k]),
                    float(sizes[k]) / total,
                    name_direction(correlation),
                    correlation,
                    len(chosen),
                    "surrogate_trees",
                    stand_in.fidelity_,
                )
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def join_effects(parts: Iterable[pd.DataFrame | None]) -> pd.DataFrame:
    """Put the effects of several folds together; empty with the columns where there are none."""
    known = [part for part in parts if part is not None and len(part)]
    return pd.concat(known, ignore_index=True) if known else pd.DataFrame(columns=list(COLUMNS))


def as_numbers(X: Matrix) -> Floats:
    """Return the features as numbers; the codes of categories say no direction."""
    found = X.values.astype(np.float64)
    for k, name in enumerate(X.names):
        if name in X.categorical:
            found[:, k] = np.nan
    return found


def correlate(numbers: Floats, effect: Floats) -> float | None:
    """Return the rank correlation of a feature with its effect; None where it is not defined."""
    known = np.isfinite(numbers)
    if known.sum() < 3 or np.ptp(numbers[known]) == 0 or np.ptp(effect[known]) == 0:
        return None
    return spearman(numbers[known], effect[known])


def name_direction(correlation: float | None) -> str:
    """Return up (more of it, more value), down, or mixed."""
    if correlation is None or abs(correlation) < LEAST_CORRELATION:
        return "mixed"
    return "up" if correlation > 0 else "down"
