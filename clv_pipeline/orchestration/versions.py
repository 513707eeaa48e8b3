"""The trained models: list them, choose the one that serves."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd

from clv_pipeline.models import store
from clv_pipeline.orchestration.learning import mark_champion
from clv_pipeline.orchestration.project import hold_lock_once
from clv_pipeline.settings import Settings

MEASURES = ("normalized_gini", "spearman", "rmse", "total_bias", "top_10_capture")


def list_versions(settings: Settings) -> pd.DataFrame:
    """Return a row per version with the figures of its longest backtested horizon, newest first."""
    folder = settings.paths.models
    try:
        champion = store.champion_version(folder)
    except store.ModelStoreError:  # listed all the same, so that one can be promoted
        champion = None
    rows = []
    for manifest in reversed(store.list_models(folder)):
        version = manifest["model_version"]
        figures = manifest.get("figures") or {}
        horizon = max(figures, key=int, default=None)
        newest = figures[horizon] if horizon else {}
        rows.append(
            {
                "": "*" if version == champion else "",
                "version": version,
                "trained for": manifest["as_of"],
                "horizon": None if horizon is None else int(horizon),
                **{name: newest.get(name) for name in MEASURES},
                "gate": manifest["decision"]["reason"],
            }
        )
    return pd.DataFrame(rows)


def promote_version(settings: Settings, version: str) -> None:
    """Let a version serve.

    Raises
    ------
    clv_pipeline.models.store.ModelStoreError
        If there is no such version, or it is damaged.
    """
    with hold_lock_once(settings):
        store.promote(settings.paths.models, version, "named by hand", _by_hand())
        mark_champion(settings)


def roll_back(settings: Settings) -> str:
    """Let the champion before the present one serve again, and return its version.

    Raises
    ------
    clv_pipeline.models.store.ModelStoreError
        If there is none.
    """
    with hold_lock_once(settings):
        version = store.rollback(settings.paths.models, _by_hand())
        mark_champion(settings)
    return version


def _by_hand() -> str:
    return f"command-line-{datetime.now(UTC):%Y%m%dT%H%M%S}"
