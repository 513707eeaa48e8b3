"""TreeSHAP of many rows: exact, and worked out once for each way that a tree's splits can go.

A tree's contributions depend on nothing but which of its splits a row passes. A tree of depth 4
has 15 of them and in a shop some hundreds of patterns occur, however many customers there are. So
XGBoost's own TreeSHAP is asked about one row of each pattern and tree, and everyone else's answer
is looked up: the same numbers at a fraction of the cost (`benchmarks/scale_models.py` prints it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from clv_pipeline.models.panel import Floats, Matrix

# Rows at a time: what they take stays in the processor's cache.
CHUNK_ROWS = 8_192
# Patterns of more splits are not numbered; such trees are left to XGBoost whole.
MOST_SPLITS = 15


@dataclass(frozen=True, eq=False)
class _Split:
    """One split: where a row goes on."""

    column: int
    bound: np.float32
    is_yes_if_missing: bool
    categories: NDArray[np.float32] | None

    def passes(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell the rows that go one way from those that go the other."""
        if self.categories is not None:
            found = np.isin(values, self.categories)
            return found | np.isnan(values) if self.is_yes_if_missing else found
        # No comparison holds of NaN, so the one is chosen that sends it the right way.
        if self.is_yes_if_missing:
            return ~(values >= self.bound)
        return values < self.bound


@dataclass(eq=False)
class _Tree:
    """A tree's splits, and the contributions of each pattern that has been met."""

    number: int
    splits: tuple[_Split, ...]
    # By pattern: its row in ``effects``, -1 where none has been met.
    places: NDArray[np.int32]
    effects: NDArray[np.float32]
    met: int = field(default=0)
    alone: xgb.Booster | None = field(default=None)

    def pattern(self, columns: dict[int, NDArray[np.float32]]) -> NDArray[np.uint16]:
        """Return the number of the way that each row's splits go."""
        first = next(iter(columns.values()))
        found = np.zeros(len(first), dtype=np.uint16)
        bit = np.empty_like(found)
        for k, split in enumerate(self.splits):
            np.multiply(split.passes(columns[split.column]), np.uint16(1 << k), out=bit)
            found += bit
        return found

    def keep(self, patterns: NDArray[np.uint16], effects: NDArray[np.float32]) -> None:
        """Remember the contributions of patterns."""
        need = self.met + len(patterns)
        if need > len(self.effects):
            grown = np.zeros((2 * need, self.effects.shape[1]), dtype=np.float32)
            grown[: self.met] = self.effects[: self.met]
            self.effects = grown
        self.effects[self.met : need] = effects
        self.places[patterns] = np.arange(self.met, need, dtype=np.int32)
        self.met = need


class TreeContributions:
    """TreeSHAP on the link's scale (Lundberg et al. 2020), summed over groups of columns.

    Parameters
    ----------
    booster
        A fitted booster of one output.
    groups
        The group of each column; groups are numbered from 0.
    own
        Names of the last groups, which hold one column each.
    has_offset
        Whether each row's prediction starts from an offset of its own. It is left out here, and so
        is the booster's own start.
    """

    def __init__(
        self,
        booster: xgb.Booster,
        groups: NDArray[np.intp],
        own: Sequence[str] = (),
        *,
        has_offset: bool,
    ) -> None:
        self.booster = booster
        self.groups = groups
        self.own = tuple(own)
        self.has_offset = has_offset
        self._count = int(groups.max(initial=-1)) + 1
        self._trees = _read_trees(booster, self._count)
        self._base: float | None = None

    def explain(self, X: Matrix) -> tuple[float, Floats]:
        """Take the rows' margins apart.

        Returns
        -------
        tuple
            The mean over the training rows, and the effects, shape (n, groups): together each
            row's margin, less its offset.
        """
        if self._trees is None or not len(X):
            return self._explain_whole(X)
        if self._base is None:
            self._base = float(self._ask(self.booster, X, np.zeros(1, dtype=np.intp))[0, -1])
        found = np.zeros((len(X), self._count), dtype=np.float32)
        answers = np.empty((min(len(X), CHUNK_ROWS), self._count), dtype=np.float32)
        used = sorted({split.column for tree in self._trees for split in tree.splits})
        for start in range(0, len(X), CHUNK_ROWS):
            here = slice(start, min(start + CHUNK_ROWS, len(X)))
            columns = {k: np.ascontiguousarray(X.values[here, k]) for k in used}
            effects = found[here]
            for tree in self._trees:
                patterns = tree.pattern(columns)
                places = tree.places.take(patterns)
                if places.min() < 0:
                    self._learn(tree, X, start)
                    places = tree.places.take(patterns)
                # Places are known to be within; "clip" spares numpy the copy that "raise" makes.
                answer = answers[: len(places)]
                effects += tree.effects.take(places, axis=0, out=answer, mode="clip")
        return self._base, found.astype(np.float64)

    def _learn(self, tree: _Tree, X: Matrix, start: int) -> None:
        """Ask XGBoost about the patterns from a row on that were not met before."""
        used = {split.column for split in tree.splits}
        rows = {k: np.ascontiguousarray(X.values[start:, k]) for k in used}
        kinds, first = np.unique(tree.pattern(rows), return_index=True)
        is_new = tree.places[kinds] < 0
        if tree.alone is None:
            tree.alone = self.booster[tree.number : tree.number + 1]
        found = self._ask(tree.alone, X, first[is_new] + start, is_bare=True)[:, :-1]
        tree.keep(kinds[is_new], _sum_groups(found, self.groups, self._count))

    def _explain_whole(self, X: Matrix) -> tuple[float, Floats]:
        if not len(X):
            return 0.0, np.zeros((0, self._count))
        found = self._ask(self.booster, X, np.arange(len(X)))
        sums = _sum_groups(found[:, :-1], self.groups, self._count)
        return float(found[0, -1]), sums.astype(np.float64)

    def _ask(
        self, booster: xgb.Booster, X: Matrix, rows: NDArray[np.intp], *, is_bare: bool = False
    ) -> NDArray[np.float32]:
        start = np.zeros(len(rows), dtype=np.float32) if self.has_offset or is_bare else None
        table = xgb.DMatrix(
            X.values[rows],
            base_margin=start,
            feature_types=X.feature_types,
            enable_categorical=bool(X.categorical),
        )
        return np.asarray(booster.predict(table, pred_contribs=True))


def _sum_groups(
    effects: NDArray[np.float32], groups: NDArray[np.intp], count: int
) -> NDArray[np.float32]:
    found = np.zeros((len(effects), count), dtype=np.float32)
    for k in np.flatnonzero(effects.any(axis=0)):
        found[:, groups[k]] += effects[:, k]
    return found


def _read_trees(booster: xgb.Booster, groups: int) -> list[_Tree] | None:
    """Read the splits of each tree; None where one has too many to number their patterns."""
    nodes = booster.trees_to_dataframe()
    splits = nodes[nodes["Feature"] != "Leaf"]
    if splits.empty or splits.groupby("Tree").size().max() > MOST_SPLITS:
        return None
    return [
        _Tree(
            int(str(number)),
            tuple(map(_read_split, rows.to_dict("records"))),
            np.full(2 ** len(rows), -1, dtype=np.int32),
            np.zeros((0, groups), dtype=np.float32),
        )
        for number, rows in splits.groupby("Tree")
    ]


def _read_split(row: dict[Any, Any]) -> _Split:
    category = row["Category"]
    return _Split(
        int(str(row["Feature"]).removeprefix("f")),
        np.float32(row["Split"]),
        bool(row["Missing"] == row["Yes"]),
        np.array(category, dtype=np.float32) if isinstance(category, list) else None,
    )
