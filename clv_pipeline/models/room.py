"""Where large matrices lie: in memory up to a stated limit, in a file to spill to beyond it.

A mapped file reads and writes like any array; the system keeps of it in memory what there is room
for. The file has no name from the moment it is made, so nothing is left of it however a run ends.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from clv_pipeline.settings import Settings
from clv_pipeline.spilling import spill_folder

# Of the memory limit, what one matrix may take; a fit holds a panel, a sample of it and its bins.
MATRIX_SHARE = 0.25


@dataclass(frozen=True)
class Room:
    """How much one matrix may take in memory, and where larger ones go.

    Attributes
    ----------
    most_bytes
        Of one matrix.
    folder
        For larger ones.
    """

    most_bytes: float
    folder: Path


_room: ContextVar[Room | None] = ContextVar("room", default=None)


@contextmanager
def limit_matrices(settings: Settings) -> Iterator[None]:
    """Let no matrix take more memory than ``engine.memory_limit`` leaves room for."""
    most = MATRIX_SHARE * settings.engine.memory_bytes()
    token = _room.set(Room(most, spill_folder(settings)))
    try:
        yield
    finally:
        _room.reset(token)


def folder_beyond(size: float) -> Path | None:
    """Return the folder for something of so many bytes; None where it has room in memory."""
    room = _room.get()
    if room is None or size <= room.most_bytes:
        return None
    room.folder.mkdir(parents=True, exist_ok=True)
    return room.folder


def make_matrix(rows: int, columns: int) -> NDArray[np.float32]:
    """Return an array for so many numbers, where there is room for them."""
    folder = folder_beyond(4 * rows * columns)
    if folder is None:
        return np.empty((rows, columns), dtype=np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, columns))


def take_rows(values: NDArray[np.float32], rows: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the rows named by a mask or by positions."""
    places = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.intp, copy=False)
    found = make_matrix(len(places), values.shape[1])
    return np.take(values, places, axis=0, out=found, mode="clip")


def make_cache(size: float) -> Path | None:
    """Return a new folder for bins of so many bytes; None where they have room in memory."""
    folder = folder_beyond(size)
    return None if folder is None else Path(tempfile.mkdtemp(prefix="bins_", dir=folder))


def forget_with(bins: xgb.DMatrix, cache: Path | None) -> None:
    """Remove the folder of bins when nobody needs them any more."""
    if cache is not None:
        weakref.finalize(bins, shutil.rmtree, cache, ignore_errors=True)
