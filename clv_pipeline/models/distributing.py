"""Training rows that an engine keeps: made ready by its workers, by the code of one process.

What is learned of all rows at once (encoder, clusters, caps, levels, purchase histories) comes from
the panel that is in memory; what is computed row by row is computed where the rows lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from clv_pipeline.engines.learning import LearningRows, keep_rows
from clv_pipeline.models.boosters import Lesson, RowLevels, Teach
from clv_pipeline.models.clusters import BehaviourClusters
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.histories import SUMMED_UP, forecast_columns
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.panel import TARGETS, Matrix, Target
from clv_pipeline.models.sampling import customer_part
from clv_pipeline.models.seasons import MEASURED, Levels
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

_LEVELS = tuple(f"level_{name}" for name in MEASURED)
# Enough to tell which columns a lesson has.
_PATTERN_ROWS = 100


@dataclass(frozen=True, eq=False)
class Preparation:
    """Makes training rows of features and labels, a part of them at a time.

    Attributes
    ----------
    encoder, figures
        Fitted; the second from ``Encoder.leave_out``.
    histories
        Buy-till-you-die models by cutoff; empty where that expert takes no part.
    horizon_days
        H of the labels.
    caps
        By cutoff, what a label counts as at most.
    levels
        Of the training cutoffs, which are learned around; None where nothing is known of them.
    left_out
        Customers of this group of so many take no part.
    clusters
        Fitted; None until they are.
    """

    encoder: Encoder
    figures: Mapping[str, pd.Series[float]]
    histories: Mapping[Cutoff, HistoryModel]
    horizon_days: int
    caps: Mapping[Cutoff, float]
    levels: Levels | None
    left_out: tuple[int, int] | None = None
    clusters: BehaviourClusters | None = None

    @property
    def needs(self) -> list[str]:
        """Features that are read, beside the keys."""
        return list(dict.fromkeys((*self.encoder.names, *SUMMED_UP)))

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the numbers that lessons are made of, columns by the place of each feature."""
        if self.left_out is not None:
            part, parts = self.left_out
            rows = rows[customer_part(rows["customer_id"], parts) != part]
        if rows.empty:
            return rows
        rows = rows.reset_index(drop=True)
        X = self.matrix(rows)
        value, orders = (rows[name].to_numpy(dtype=np.float64) for name in TARGETS[:2])
        caps = {np.datetime64(cutoff.day): cap for cutoff, cap in self.caps.items()}
        most = np.array([caps[day] for day in X.cutoff_date])
        bought = rows[TARGETS[2]].to_numpy(dtype=np.float64)
        columns = [np.minimum(value, most), orders, bought]
        if self.levels is not None:
            levels = self.levels.of_rows(X.cutoff_date)
            columns += [getattr(levels, name) for name in MEASURED]
        names = [*_features(len(X.names)), *TARGETS, *_LEVELS]
        every = [*X.values.T, *columns]
        return pd.DataFrame(dict(zip(names, every, strict=False)))

    def matrix(self, rows: pd.DataFrame) -> Matrix:
        """Return what models read of some rows."""
        X = self.encoder.transform_training(rows, self.figures)
        if self.histories:
            X = X.with_columns(forecast_columns(self.histories, rows, self.horizon_days))
        return X if self.clusters is None else X.with_columns(self.clusters.columns(X))


@dataclass(frozen=True, eq=False)
class DistributedRows:
    """Training rows with their numbers, on the workers of an engine.

    Attributes
    ----------
    rows
        Where they lie.
    pattern
        What `Preparation` gives of a few of them.
    like
        Names and kinds of the features.
    """

    rows: LearningRows
    pattern: pd.DataFrame
    like: Matrix

    def boost(self, teach: Teach, parameters: Mapping[str, Any], trees: int) -> xgb.Booster:
        """Fit a booster on what is taught of every row."""
        like = self.like
        few = _teach(teach, like, self.pattern)

        def lesson(rows: pd.DataFrame) -> pd.DataFrame:
            found = _teach(teach, like, rows)
            columns = dict(zip(_features(len(like.names)), found.X.values.T, strict=True))
            columns["label"] = found.label
            if found.weight is not None:
                columns["weight"] = found.weight
            if found.offset is not None:
                columns["offset"] = found.offset
            return pd.DataFrame(columns)

        return self.rows.boost(
            lesson,
            _features(len(like.names)),
            like.feature_types,
            parameters,
            trees,
            has_weight=few.weight is not None,
            has_offset=few.offset is not None,
        )


def labelled_head(rows: pd.DataFrame, y: Target) -> pd.DataFrame:
    """Return a few rows with their labels, to see what a `Preparation` makes of them."""
    few = np.arange(min(len(rows), _PATTERN_ROWS))
    labels = y.take(few)
    columns = (labels.value, labels.orders, labels.has_purchase)
    return rows.iloc[few].assign(**dict(zip(TARGETS, columns, strict=True)))


@contextmanager
def distribute(
    settings: Settings, few: pd.DataFrame, made: Preparation
) -> Iterator[DistributedRows]:
    """Let the engine make training rows ready, and keep them for a while.

    Parameters
    ----------
    few
        From `labelled_head`.
    made
        How; with its clusters. Its caps name the cutoffs.
    """
    pattern, like = made(few), made.matrix(few).take(np.arange(0))
    with keep_rows(
        settings,
        list(made.caps),
        made.horizon_days,
        made.needs,
        TARGETS,
        made,
        list(map(str, pattern)),
    ) as rows:
        yield DistributedRows(rows, pattern, like)


def _teach(teach: Teach, like: Matrix, rows: pd.DataFrame) -> Lesson:
    values = rows[_features(len(like.names))].to_numpy(dtype=np.float32)
    nobody = np.full(len(rows), None, dtype=object)
    X = replace(like, customer_id=nobody, cutoff_date=nobody, values=values)
    value, orders, bought = (rows[name].to_numpy(dtype=np.float64) for name in TARGETS)
    levels = None
    if _LEVELS[0] in rows:
        levels = RowLevels(*(rows[name].to_numpy(dtype=np.float64) for name in _LEVELS))
    return teach(X, Target(value, orders, bought > 0), levels, None)


def _features(count: int) -> list[str]:
    return [f"f{k}" for k in range(count)]
