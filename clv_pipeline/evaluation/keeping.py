"""A fold's answers as files: what a training that goes on need not work out again."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from clv_pipeline.evaluation.backtest import FoldResult
from clv_pipeline.models.base import Files, dump_json, load_arrays, load_json
from clv_pipeline.models.panel import Target
from clv_pipeline.timeline import Fold

# Answers of models, by name.
_BY_MODEL = ("value", "probability")


def dump_fold(result: FoldResult) -> Files:
    """Return what a fold found as named files."""
    arrays = {f"target/{field.name}": getattr(result.target, field.name) for field in _OF_TARGET}
    for part in _BY_MODEL:
        arrays |= {f"{part}/{name}": values for name, values in getattr(result, part).items()}
    for model, bounds in result.bounds.items():
        arrays |= {f"bounds/{model}/{name}": values for name, values in bounds.items()}
    if result.stake is not None:
        arrays["stake"] = result.stake
    # npz knows no names with blanks or slashes that are safe everywhere: numbers, and a list.
    numbered: dict[str, Any] = {str(k): values for k, values in enumerate(arrays.values())}
    buffer = io.BytesIO()
    np.savez(buffer, **numbered)
    document = {
        "arrays": list(arrays),
        "slices": list(result.slices),
        "blend_rule": result.blend_rule,
        "notes": list(result.notes),
    }
    groups = {str(k): values for k, values in enumerate(result.slices.values())}
    files = {
        "fold.json": dump_json(document),
        "arrays.npz": buffer.getvalue(),
        "customers.parquet": _to_parquet(pd.DataFrame({"id": result.customer_id, **groups})),
    }
    if result.effects is not None:
        files["effects.parquet"] = _to_parquet(result.effects)
    return files


def load_fold(fold: Fold, files: Files) -> FoldResult:
    """Read what `dump_fold` gave."""
    document = load_json(files["fold.json"])
    numbered = load_arrays(files["arrays.npz"])
    arrays = {name: numbered[str(k)] for k, name in enumerate(document["arrays"])}
    people = _from_parquet(files["customers.parquet"])
    bounds: dict[str, dict[str, Any]] = {}
    for name in arrays:
        if name.startswith("bounds/"):
            model, _, bound = name.removeprefix("bounds/").rpartition("/")
            bounds.setdefault(model, {})[bound] = arrays[name]
    value, probability = (
        {
            name.removeprefix(f"{part}/"): values
            for name, values in arrays.items()
            if name.startswith(f"{part}/")
        }
        for part in _BY_MODEL
    )
    effects = files.get("effects.parquet")
    return FoldResult(
        fold,
        people["id"].to_numpy(dtype=object),
        Target(*(arrays[f"target/{field.name}"] for field in _OF_TARGET)),
        value,
        probability,
        bounds,
        {name: people[str(k)].to_numpy(dtype=object) for k, name in enumerate(document["slices"])},
        document["blend_rule"],
        arrays.get("stake"),
        tuple(document["notes"]),
        None if effects is None else _from_parquet(effects),
    )


_OF_TARGET = fields(Target)


def _to_parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _from_parquet(data: bytes) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(data))
