"""A training in figures: what serves each horizon and why, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from clv_pipeline.evaluation.backtest import LEADERBOARD_MEASURES, FoldResult, make_leaderboard
from clv_pipeline.evaluation.groups import estimate_group_spread
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.planning import HorizonPlan
from clv_pipeline.timeline import Cutoff


def describe_horizon(
    model: CLVModel,
    plan: HorizonPlan,
    horizon: int,
    name: str,
    reason: str,
    found: Sequence[FoldResult],
) -> dict[str, Any]:
    """Return what the manifest says of one horizon."""
    level, why = model.confidence_[horizon]
    document: dict[str, Any] = {
        "served_by": name,
        "reason": reason,
        "confidence": level,
        "status": why,
        "training_cutoffs": [str(c) for c in plan.training],
        "evaluation_cutoffs": [str(r.fold.evaluation) for r in found],
    }
    fitted = model.fitted_.get(horizon)
    if fitted is not None:
        document |= {
            "blend_rule": fitted.blend_rule_,
            "weights": {
                "value": fitted.model_.value_blend_.weights_,
                "value_by_cluster": fitted.model_.value_blend_.by_cluster_,
                "probability": fitted.model_.probability_blend_.weights_,
                "orders": fitted.model_.orders_blend_.weights_,
            },
            "interval_factors": list(fitted.model_.bounds_.factors_),
        }
        if found:
            ratio = fitted.model_.variance_ratio_
            document["group_spread"] = round(estimate_group_spread(found, name, ratio), 4)
    return document


def tabulate_figures(
    measured: pd.DataFrame, manifest: dict[str, Any], as_of: Cutoff, horizons: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the leaderboard and the long table of measures, with run and version."""
    stamps = {"model_version": manifest["model_version"], "run_id": manifest["run_id"]}
    leaderboard = make_leaderboard(measured)
    served = {int(h): entry["served_by"] for h, entry in horizons.items()}
    leaderboard = leaderboard.assign(
        is_champion=leaderboard["model"] == leaderboard["horizon_days"].map(served),
        trained_for_date=as_of.day,
        **stamps,
    )
    columns = ["model", "horizon_days", "evaluation_date", "slice_name", "slice_value"]
    metrics = measured[[*columns, "measure", "figure"]].assign(**stamps)
    return leaderboard, metrics


def newest_figures(leaderboard: pd.DataFrame) -> dict[str, Any]:
    """Return the newest figures of what serves, by horizon, for the manifest."""
    found: dict[str, Any] = {}
    serving = leaderboard[leaderboard["is_champion"].astype(bool)]
    for row in serving.sort_values("evaluation_date").to_dict("records"):
        found[str(row["horizon_days"])] = {
            "evaluation_date": str(row["evaluation_date"]),
            **{m: None if pd.isna(row[m]) else float(row[m]) for m in LEADERBOARD_MEASURES},
        }
    return found
