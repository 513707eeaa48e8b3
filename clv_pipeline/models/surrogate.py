"""A stand-in of trees for a model that has none, with how well it stands in."""

from __future__ import annotations

from typing import Self

import numpy as np
import xgboost as xgb

from clv_pipeline.models.attribution import Parts
from clv_pipeline.models.base import sample_rows
from clv_pipeline.models.panel import Floats, Matrix

MAX_ROWS = 6_000


class SurrogateTrees:
    """Trees fitted on a model's answers, so that TreeSHAP can take them apart.

    They are fitted to the logarithm of 1 + value, as values are few large ones among many small
    ones; the answers are scaled to the model's total. One tree is a surrogate decision tree, which
    can be read as rules; more of them follow the model more closely. Either way ``fidelity_`` says
    how far to believe it.

    Parameters
    ----------
    trees, depth
        Of the boosting; a single tree is fitted without shrinkage.
    seed
        Of the sample and of the rows held out.

    Attributes
    ----------
    fidelity_
        R squared between the logarithms (of 1 + value) of the surrogate's and of the model's
        answers on a third of the rows, held out; 1 where the model says the same of everyone.
    """

    def __init__(self, trees: int = 60, depth: int = 4, seed: int = 0) -> None:
        self.trees = trees
        self.depth = depth
        self.seed = seed

    def fit(self, X: Matrix, answers: Floats) -> Self:
        """Learn what the model answers; on at most 6,000 rows.

        Parameters
        ----------
        X
            Encoded features; columns that the model itself does not read may be among them.
        answers
            The model's predictions for these rows, shape (n,).
        """
        rows = sample_rows(len(X), MAX_ROWS, self.seed)
        seen, y = X.take(rows), np.asarray(answers, dtype=np.float64)[rows]
        held = np.random.default_rng(self.seed).permutation(len(seen)) % 3 == 0
        logs = np.log1p(np.maximum(y, 0.0))
        trial = self._fit(seen.take(~held), logs[~held])
        missed = float(np.sum((logs[held] - _margins(trial, seen.take(held))) ** 2))
        spread = float(np.sum((logs[held] - logs[held].mean()) ** 2)) if held.any() else 0.0
        self.fidelity_ = 1.0 - missed / spread if spread > 0 else 1.0
        self.booster_ = self._fit(seen, logs)
        total = float(np.expm1(_margins(self.booster_, seen)).sum())
        self.scale_ = float(np.maximum(y, 0.0).sum()) / total if total > 0 else 1.0
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return what the stand-in answers."""
        return self._link(_margins(self.booster_, X))

    def contributions(self, X: Matrix) -> Parts:
        """Take the stand-in's answers apart: an effect in money per row and column.

        TreeSHAP on the logarithm's scale, passed on to money by ``Parts.through``.
        """
        found = np.asarray(self.booster_.predict(_table(X), pred_contribs=True), dtype=np.float64)
        base = float(found[0, -1]) if len(found) else 0.0
        return Parts(base, found[:, :-1]).through(self._link)

    def rules(self, X: Matrix) -> str:
        """Return the first tree as indented rules in the names of ``X``."""
        names = list(X.names)
        nodes = self.booster_.trees_to_dataframe()
        nodes = nodes[nodes["Tree"] == 0].set_index("ID")
        lines: list[str] = []

        def walk(node: str, depth: int) -> None:
            row, indent = nodes.loc[node].to_dict(), "  " * depth
            if row["Feature"] == "Leaf":
                leaf = self.base_ + float(row["Gain"])
                lines.append(f"{indent}{self._link(np.array([leaf]))[0]:,.2f}")
                return
            name = names[int(str(row["Feature"]).removeprefix("f"))]
            known = row["Split"] == row["Split"]
            test = (
                f"{name} < {float(row['Split']):,.4g}" if known else f"{name} in {row['Category']}"
            )
            lines.append(f"{indent}if {test}:")
            walk(str(row["Yes"]), depth + 1)
            lines.append(f"{indent}else:")
            walk(str(row["No"]), depth + 1)

        walk(str(nodes.index[0]), 0)
        return "\n".join(lines)

    def _link(self, logs: Floats) -> Floats:
        return np.asarray(np.expm1(np.maximum(logs, 0.0)) * self.scale_, dtype=np.float64)

    def _fit(self, X: Matrix, y: Floats) -> xgb.Booster:
        self.base_ = float(y.mean()) if len(y) else 0.0
        parameters = {
            "objective": "reg:squarederror",
            "max_depth": self.depth,
            "eta": 1.0 if self.trees == 1 else 0.15,
            "base_score": self.base_,
            "lambda": 0.0,
            "min_child_weight": 5.0,
            "gamma": 1e-4,
            "seed": self.seed,
            "nthread": 1,
            "verbosity": 0,
        }
        return xgb.train(parameters, _table(X, y), num_boost_round=self.trees)


def _margins(booster: xgb.Booster, X: Matrix) -> Floats:
    return np.asarray(booster.predict(_table(X)), dtype=np.float64)


def _table(X: Matrix, y: Floats | None = None) -> xgb.DMatrix:
    return xgb.DMatrix(
        X.values,
        label=y,
        feature_types=X.feature_types,
        enable_categorical=bool(X.categorical),
    )
