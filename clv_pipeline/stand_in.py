"""What answers on a day on which no model can be read: buy-till-you-die, which needs no labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from clv_pipeline.models.clv import HISTORY_ONLY, RATE_ONLY, CLVModel
from clv_pipeline.models.histories import Histories
from clv_pipeline.models.manifest import make_manifest
from clv_pipeline.models.panel import ALWAYS_KEPT, KEYS, TARGETS, Panel
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

_WORDS = {
    HISTORY_ONLY: "buy-till-you-die, fitted on the purchase histories of that day,",
    RATE_ONLY: "the rate of orders so far times their mean value",
}


def make_stand_in(
    settings: Settings, features: pd.DataFrame, columns: Iterable[Feature], run_id: str, why: str
) -> tuple[CLVModel, dict[str, Any]]:
    """Make a model of one day's purchase histories, for that day alone.

    It is no challenger: nothing was tested, every confidence is low, and it is never promoted.

    Parameters
    ----------
    settings
        Names the horizons.
    features
        Rows of ``features.customer_features`` of the cutoff.
    columns
        The registered features.
    run_id
        Of the scoring.
    why
        Why no model can be read, in a sentence.

    Returns
    -------
    tuple
        The model and its manifest, whose first note says in words what serves and why.
    """
    labels = pd.DataFrame(columns=[*KEYS, "horizon_days", *TARGETS])
    known = tuple(column for column in columns if column.name in ALWAYS_KEPT)
    panel = Panel.build(features, labels, known)
    as_of: Cutoff = panel.cutoffs[0]
    histories = Histories(panel, settings.model.seed)
    model = CLVModel(settings.value.horizons, settings.value.yearly_discount_rate)
    model.history_ = histories.at(as_of)
    name = RATE_ONLY if model.history_ is None else HISTORY_ONLY
    reason = f"{why} So {_WORDS[name]} serves as of {as_of}, untested: run `clv train`."
    for horizon in model.horizons:
        model.served_by_[horizon] = name
        model.confidence_[horizon] = ("low", reason)
    entry = {
        "served_by": name,
        "reason": reason,
        "confidence": "low",
        "status": reason,
        "training_cutoffs": [],
        "evaluation_cutoffs": [],
    }
    horizons = {str(horizon): entry for horizon in model.horizons}
    doubts = [*histories.failures.values(), *histories.cautions.values()]
    manifest = make_manifest(settings, panel, as_of, run_id, model, horizons, [reason, *doubts])
    return model, {
        **manifest,
        "model_version": f"{manifest['model_version']}-stand-in",
        "is_stand_in": True,
        "figures": {},
        "decision": {"promote": False, "reason": reason},
    }
