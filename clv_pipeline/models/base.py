"""What every model shares: the interface, the options of a fit, and how arrays become bytes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.models.panel import Floats, Matrix, Target
from clv_pipeline.models.season_index import FLAT
from clv_pipeline.settings import Settings

Files = dict[str, bytes]


class ValueModel(Protocol):
    """scikit-learn's interface: arguments in ``__init__``, fitted attributes end in ``_``."""

    def fit(self, X: Matrix, y: Target) -> Self:
        """Learn from rows of training cutoffs whose labels matured."""
        ...

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value over the horizon, never negative, shape (n,)."""
        ...


@runtime_checkable
class ServableModel(ValueModel, Protocol):
    """A model that can be kept as data: JSON, npz and XGBoost's UBJSON, never pickle."""

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        ...

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        ...


@dataclass(frozen=True)
class FitOptions:
    """How one model is fitted.

    Attributes
    ----------
    horizon_days
        H of the labels.
    seed, threads
        Of every random draw and of XGBoost; the same two give the same bits on one machine.
    trees, depth, learning_rate, max_bin
        Of gradient boosting.
    max_rows, max_quantile_rows
        Most rows that a boosted model sees; a larger panel is sampled.
    clusters
        Of K-means.
    neural
        Whether neural candidates take part.
    distributed_rows
        Training sets of so many rows and more are fitted on Spark; 0: none is.
    giant_multiple
        Of the 99.5 % quantile of a label window, above which a label is capped in training.
    season_index
        What is known of each month, January first, before the shop says it (``season_index``).
    networks
        By neural candidate, those of its own parameters that are set.
    """

    horizon_days: int
    seed: int = 0
    threads: int = 1
    trees: int = 60
    depth: int = 4
    learning_rate: float = 0.13
    max_bin: int = 64
    max_rows: int = 40_000
    max_quantile_rows: int = 20_000
    clusters: int = 6
    giant_multiple: float = 20.0
    season_index: Sequence[float] = FLAT
    networks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    neural: bool = False
    distributed_rows: int = 0

    @classmethod
    def from_settings(cls, settings: Settings, horizon_days: int) -> FitOptions:
        """Take the options from the project's settings."""
        model = settings.model
        return cls(
            horizon_days=horizon_days,
            seed=model.seed,
            threads=model.threads or os.cpu_count() or 1,
            trees=model.trees,
            depth=model.depth,
            learning_rate=model.learning_rate,
            max_rows=model.max_training_rows,
            clusters=model.clusters,
            neural=model.neural,
            giant_multiple=model.giant_multiple,
            season_index=model.season_index,
            networks={n: s.model_dump(exclude_none=True) for n, s in model.networks.items()},
            distributed_rows=settings.engine.spark_learning_rows
            if settings.engine.name == "spark"
            else 0,
        )

    def for_quantiles(self) -> FitOptions:
        """Return options for quantiles: fewer and larger steps, as each is a tree per level."""
        return replace(self, trees=max(self.trees // 2, 1), learning_rate=2 * self.learning_rate)


def sample_rows(n: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return at most ``most`` of ``n`` row positions, ascending, drawn without replacement."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def dump_json(document: Mapping[str, Any]) -> bytes:
    """Return JSON with sorted keys; the same document gives the same bytes."""
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False).encode()


def load_json(data: bytes) -> dict[str, Any]:
    """Read what ``dump_json`` gave."""
    document: dict[str, Any] = json.loads(data)
    return document


def dump_arrays(**arrays: NDArray[Any]) -> bytes:
    """Return arrays as npz; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Read what ``dump_arrays`` gave; arrays of objects are refused."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def nest(prefix: str, files: Files) -> Files:
    """Put files below a folder."""
    return {f"{prefix}/{name}": data for name, data in files.items()}


def unnest(prefix: str, files: Files) -> Files:
    """Return the files below a folder, by their name in it."""
    start = prefix + "/"
    return {
        name.removeprefix(start): data for name, data in files.items() if name.startswith(start)
    }
