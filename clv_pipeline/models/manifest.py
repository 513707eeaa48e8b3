"""What a model was made of, and the version that follows from it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.panel import KEYS, TARGETS, Panel
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

LIBRARIES = ("clv-pipeline", "numpy", "pandas", "scikit-learn", "scipy", "xgboost-cpu", "xgboost")

# What a value means, and is not a horizon.
_MEANINGS = (
    ("value", "definition"),
    ("value", "yearly_discount_rate"),
    ("project", "reporting_currency"),
)


def make_manifest(
    settings: Settings,
    panel: Panel,
    as_of: Cutoff,
    run_id: str,
    model: CLVModel,
    horizons: dict[str, Any],
    notes: Sequence[str],
    data_hash: str | None = None,
) -> dict[str, Any]:
    """Describe a fitted model.

    Its ``model_version`` is the cutoff and eight digits of a hash of the data, the recipe (the
    settings that a fit depends on, the features, the code): the same input gives the same version.

    Parameters
    ----------
    settings
        Horizons, cadence, model.
    panel
        What it was trained on.
    as_of
        The cutoff that it was trained for.
    run_id
        Of the training.
    model
        The fitted model.
    horizons
        By horizon: what serves and why, cutoffs, weights.
    notes
        What could not be done.
    data_hash
        Of the panel, where it is known already.
    """
    recipe = describe_recipe(settings, panel)
    data_hash = data_hash or hash_panel(panel)
    content = json.dumps([str(as_of), data_hash, recipe, settings.cadence.backtest_folds])
    return {
        "model_version": f"{as_of}-{hashlib.sha256(content.encode()).hexdigest()[:8]}",
        "as_of": str(as_of),
        "run_id": run_id,
        "data_hash": data_hash,
        "recipe": recipe,
        "feature_service": settings.features.service,
        "cutoffs": [str(c) for c in panel.cutoffs],
        "count_rows": len(panel.features),
        "horizons": horizons,
        "history": model.history_.describe() if model.history_ else None,
        "libraries": library_versions(),
        "notes": list(notes),
    }


def describe_recipe(settings: Settings, panel: Panel) -> dict[str, Any]:
    """Return what a fit depends on besides the data."""
    return {
        "settings": {
            **describe_question(settings),
            "cadence": {
                key: getattr(settings.cadence, key)
                for key in ("training_step_days", "training_cutoffs", "min_history_days")
            },
            "model": settings.model.model_dump(mode="json"),
        },
        "feature_service": settings.features.service,
        "features": sorted(f.name for f in panel.columns if f.is_model_input),
        "feature_versions": {f.name: f.version for f in panel.columns if f.version > 1},
        "code": code_hash(),
    }


def describe_question(settings: Settings) -> dict[str, Any]:
    """Return what values mean: a model that was fitted for others gives wrong ones."""
    return {
        "value": settings.value.model_dump(mode="json"),
        "project": {"reporting_currency": settings.project.reporting_currency},
    }


def find_other_question(manifest: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """Say what a model was fitted for instead of what is asked; None where it is the same.

    Parameters
    ----------
    manifest
        Of the model.
    asked
        What `describe_question` returns.
    """
    held = manifest.get("recipe", {}).get("settings", {})
    for section, key in _MEANINGS:
        before, now = held.get(section, {}).get(key), asked[section][key]
        if before is not None and before != now:
            return f"was trained for {section}.{key} = {before}, not for {now}"
    known = held.get("value", {}).get("horizons")
    missing = sorted(set(asked["value"]["horizons"]) - set(known or asked["value"]["horizons"]))
    return f"was not trained for the horizons {missing}" if missing else None


def hash_panel(panel: Panel) -> str:
    """Return a hash of the panel's keys, model inputs and labels; rows are in a fixed order."""
    digest = hashlib.sha256()
    names = sorted(f.name for f in panel.columns if f.name in panel.features)
    for frame, columns in (
        (panel.features, KEYS + names),
        (panel.labels, [*KEYS, "horizon_days", *TARGETS]),
    ):
        for column in columns:
            values = frame[column]
            if not pd.api.types.is_numeric_dtype(values):
                values = values.astype(str)
            hashes = pd.util.hash_pandas_object(values, index=False).to_numpy(dtype=np.uint64)
            digest.update(column.encode())
            digest.update(hashes.tobytes())
    return digest.hexdigest()


def code_hash() -> str:
    """Return a hash of the sources that decide what a fit gives."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    sources = [*package.glob("models/**/*.py"), package / "timeline.py", package / "training.py"]
    for source in sorted(sources):
        digest.update(source.relative_to(package).as_posix().encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what a fit gives."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
