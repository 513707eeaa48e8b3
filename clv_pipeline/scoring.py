"""The champion and a day's features become scores, in batches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.fold import history_matrix
from clv_pipeline.settings import Settings

BATCH_ROWS = 100_000
COLUMNS = {
    "clv": "value",
    "clv_p10": "p10",
    "clv_p50": "p50",
    "clv_p90": "p90",
    "probability_purchase": "probability",
    "expected_orders": "orders",
}


class ScoringError(RuntimeError):
    """Scores that can't be given; the message says why and what to do."""


def score_customers(
    model: CLVModel,
    features: pd.DataFrame,
    settings: Settings,
    run_id: str,
    model_version: str = "",
) -> pd.DataFrame:
    """Answer for every customer and horizon.

    Each row is answered by itself, so batches change nothing.

    Parameters
    ----------
    model
        What serves.
    features
        Rows of ``features.customer_features``: a customer and cutoff each.
    settings
        Names the horizons that are asked for.
    run_id, model_version
        Written into the rows.

    Returns
    -------
    DataFrame
        ``scores.customer_predictions``: customer_id, cutoff_date, horizon_days, clv, clv_p10,
        clv_p50, clv_p90, probability_purchase, expected_orders, model_version, run_id; sorted by
        customer and horizon. Values in the reporting currency, all finite.

    Raises
    ------
    ScoringError
        If the model lacks a horizon, or a feature that it needs is missing.
    """
    missing = [h for h in settings.value.horizons if h not in model.horizons]
    if missing:
        raise ScoringError(
            f"The champion was not trained for the horizons {missing}: run `clv train` first."
        )
    places = [model.horizons.index(h) for h in settings.value.horizons]
    ordered = features.sort_values(["cutoff_date", "customer_id"], ignore_index=True)
    parts = []
    for start in range(0, max(len(ordered), 1), BATCH_ROWS):
        rows = ordered.iloc[start : start + BATCH_ROWS]
        try:
            answers = model.predict(rows)
        except ValueError as error:  # a PanelError, or a history that contradicts itself
            raise ScoringError(f"Scoring stopped: {error}") from error
        repeated = rows[["customer_id", "cutoff_date"]].loc[rows.index.repeat(len(places))]
        part = repeated.reset_index(drop=True)
        part["horizon_days"] = np.tile(np.array(settings.value.horizons), len(rows))
        for column, answer in COLUMNS.items():
            part[column] = answers[answer][:, places].ravel()
        parts.append(part)
    found = pd.concat(parts, ignore_index=True)
    return found.assign(model_version=model_version, run_id=run_id)


def estimate_alive(model: CLVModel, features: pd.DataFrame) -> pd.Series[float] | None:
    """Return the chance that each customer still buys, indexed by customer_id.

    Parameters
    ----------
    model
        What serves.
    features
        Rows of ``features.customer_features`` of one cutoff.

    Returns
    -------
    pandas.Series
        Null for customers without an order; None where no purchase history could be fitted.
    """
    if model.history_ is None:
        return None
    alive = model.history_.probability_alive(history_matrix(features))
    return pd.Series(alive, index=features["customer_id"].to_numpy())
