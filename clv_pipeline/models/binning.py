"""Rows become XGBoost's bins a batch at a time: in memory where they fit, on disk where not.

A batch of float32 comes in, one byte per value stays. So a matrix takes an eighth of what the same
rows take as float64, and is never held whole beside its source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

# Rows of a batch; a panel of fewer is one batch.
BATCH_ROWS = 250_000


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows for a booster.

    Attributes
    ----------
    values
        float32, shape (n, p); NaN is missing.
    label, weight, offset
        Shape (n,) each, where they are known already.
    """

    values: NDArray[np.float32]
    label: NDArray[np.float32] | None = None
    weight: NDArray[np.float32] | None = None
    offset: NDArray[np.float32] | None = None


Batches = Callable[[], Iterable[Batch]]


class _Reader(xgb.DataIter):
    """Hands batches to XGBoost, which reads them twice: for the bins' edges, then into them."""

    def __init__(
        self, batches: Batches, feature_types: list[str] | None, cache: Path | None
    ) -> None:
        self._batches = batches
        self._feature_types = feature_types
        self._left: Iterator[Batch] = iter(())
        super().__init__(cache_prefix=None if cache is None else str(cache / "bins"))

    def next(self, input_data: Callable[..., None]) -> bool:
        batch = next(self._left, None)
        if batch is None:
            return False
        known = {"label": batch.label, "weight": batch.weight, "base_margin": batch.offset}
        given: dict[str, Any] = {k: v for k, v in known.items() if v is not None}
        input_data(data=batch.values, feature_types=self._feature_types, **given)
        return True

    def reset(self) -> None:
        self._left = iter(self._batches())


def bin_batches(
    batches: Batches,
    max_bin: int,
    feature_types: list[str] | None = None,
    cache: Path | None = None,
) -> xgb.DMatrix:
    """Put rows into bins.

    Parameters
    ----------
    batches
        Called for each pass over the rows, which must be the same in each, in the same order. The
        bins' edges depend on how rows are cut into batches, so the cut belongs to the result.
    max_bin
        Bins of a feature.
    feature_types
        XGBoost's code of each column; None where all are quantities.
    cache
        An existing folder for the bins, where they must not be held in memory
        (``ExtMemQuantileDMatrix``); each tree then reads them from there.
    """
    reader = _Reader(batches, feature_types, cache)
    options: dict[str, Any] = {"max_bin": max_bin, "enable_categorical": feature_types is not None}
    if cache is None:
        return xgb.QuantileDMatrix(reader, **options)
    return xgb.ExtMemQuantileDMatrix(reader, **options)


def cut(values: NDArray[np.float32], rows: int = BATCH_ROWS) -> Batches:
    """Return the batches of a matrix that is in memory; none of it is copied."""
    return lambda: (Batch(values[k : k + rows]) for k in range(0, max(len(values), 1), rows))
