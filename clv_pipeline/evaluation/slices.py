"""Whom a backtest is measured on apart: segments by their published names, tenure, country."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clv_pipeline.models.panel import Floats
from clv_pipeline.segments import assign_rfm, assign_segment, assign_tier, rank_customers

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

Slices = dict[str, NDArray[Any]]
TENURE_EDGES = (0, 90, 365)


def slice_customers(
    rows: pd.DataFrame, columns: Iterable[Feature], value: Floats, probability: Floats
) -> Slices:
    """Name the slices of each customer of one cutoff, as known there.

    Parameters
    ----------
    rows
        Raw feature rows of the cutoff.
    columns
        The registered features; customers are sliced by each categorical one.
    value, probability
        What is predicted over the horizon of the backtest, shape (n,); decides the action segment,
        as the published values and chances do.

    Returns
    -------
    dict
        By name of the slicing: ``segment`` and ``rfm_segment`` (both by the rules of the published
        columns), ``repeat``, ``tenure``, and the categorical features.
    """
    frequency = rows["frequency"].fillna(0).to_numpy(dtype=np.float64)
    found: Slices = {"repeat": np.where(frequency > 0, "repeat buyers", "one order or none")}
    tenure = pd.cut(
        rows["T"].astype("float64").fillna(-1),
        [-np.inf, -0.5, *TENURE_EDGES[1:], np.inf],
        labels=["no order", "up to 90 days", "91 to 365 days", "over a year"],
    )
    found["tenure"] = tenure.astype(str).to_numpy(dtype=object)
    past = rows.set_index("customer_id")
    worth, chance = pd.Series(value, past.index), pd.Series(probability, past.index)
    tier = assign_tier(rank_customers(worth), worth)
    found["segment"] = assign_segment(past, tier, 1 - chance).to_numpy(dtype=object)
    found["rfm_segment"] = assign_rfm(past)["rfm_segment"].to_numpy(dtype=object)
    for feature in columns:
        if feature.kind == "categorical" and feature.is_model_input and feature.name in rows:
            names = rows[feature.name].astype(object)
            found[feature.name] = names.where(names.notna(), "unknown").astype(str).to_numpy()
    return found
