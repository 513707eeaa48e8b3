"""The training panel: customers at several cutoffs, their labels, and numbers that models read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray

from clv_pipeline.models.binning import bin_batches, cut
from clv_pipeline.models.blocks import is_sorted
from clv_pipeline.models.room import forget_with, make_cache, make_matrix, take_rows
from clv_pipeline.timeline import Cutoff

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

Floats = NDArray[np.float64]
KEYS = ["customer_id", "cutoff_date"]
TARGETS = ["label_value", "label_orders", "has_purchase"]
# What baselines and buy-till-you-die models read.
ALWAYS_KEPT = frozenset(
    {
        "frequency",
        "recency",
        "T",
        "monetary_value",
        "count_order_days",
        "sum_value",
        "days_since_last_order",
    }
)


class PanelError(ValueError):
    """A panel that can't be used; the message names the column and what is wrong."""


@dataclass(frozen=True, eq=False)
class Target:
    """What came to pass in the label windows, a row each.

    Attributes
    ----------
    value
        Value in the reporting currency; may be negative where refunds prevail.
    orders
        Count of orders.
    has_purchase
        Whether there was an order.
    """

    value: Floats
    orders: Floats
    has_purchase: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.value)

    def take(self, rows: NDArray[Any]) -> Target:
        """Return the rows named by a mask or by positions."""
        return Target(self.value[rows], self.orders[rows], self.has_purchase[rows])


@dataclass(frozen=True, eq=False)
class Matrix:
    """Encoded features: what every model's ``fit`` and ``predict`` take as ``X``.

    Attributes
    ----------
    customer_id
        Keys, shape (n,).
    cutoff_date
        ``datetime64[D]``, shape (n,).
    names
        Columns of ``values``.
    values
        float32, shape (n, p); NaN is missing.
    categorical
        Names of the columns that hold category codes.
    """

    customer_id: NDArray[Any]
    cutoff_date: NDArray[np.datetime64]
    names: tuple[str, ...]
    values: NDArray[np.float32]
    categorical: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.values)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def column(self, name: str) -> Floats:
        """Return one column as float64.

        Raises
        ------
        PanelError
            If there is no such column.
        """
        if name not in self.names:
            raise PanelError(f"the feature '{name}' is missing; a model needs it.")
        return self.values[:, self.names.index(name)].astype(np.float64)

    def take(self, rows: NDArray[Any]) -> Matrix:
        """Return the rows named by a mask or by positions."""
        return replace(
            self,
            customer_id=self.customer_id[rows],
            cutoff_date=self.cutoff_date[rows],
            values=take_rows(self.values, rows),
        )

    def select(self, names: Sequence[str]) -> Matrix:
        """Return some of the columns, in the order that is asked for.

        Raises
        ------
        PanelError
            If there is no such column.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise PanelError(f"the features {missing} are missing.")
        places = [self.names.index(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            values=np.ascontiguousarray(self.values[:, places]),
            categorical=self.categorical & set(names),
        )

    def with_columns(self, columns: Mapping[str, Floats]) -> Matrix:
        """Return a matrix with further columns at its end."""
        if not columns:
            return self
        width = len(self.names)
        values = make_matrix(len(self), width + len(columns))
        values[:, :width] = self.values
        for k, column in enumerate(columns.values(), width):
            values[:, k] = column
        return replace(self, names=(*self.names, *columns), values=values)

    @property
    def feature_types(self) -> list[str] | None:
        """XGBoost's code of each column: 'c' for categories, 'q' for quantities."""
        if not self.categorical:
            return None
        return ["c" if name in self.categorical else "q" for name in self.names]

    def binned(self, max_bin: int) -> xgb.DMatrix:
        """Return the matrix in XGBoost's bins; made once and shared between objectives.

        Bins (a byte each) lie on disk where memory has no room for them: `room.limit_matrices`.
        """
        if max_bin not in self._binned:
            cache = make_cache(self.values.size)
            # Names would be compared anew in each round of boosting; the encoder keeps them.
            bins = bin_batches(cut(self.values), max_bin, self.feature_types, cache)
            forget_with(bins, cache)
            self._binned[max_bin] = bins
        return self._binned[max_bin]

    @cached_property
    def _binned(self) -> dict[int, xgb.DMatrix]:
        return {}


@dataclass(frozen=True, eq=False)
class Panel:
    """Customers at several cutoffs, with what was known then and what came to pass.

    Attributes
    ----------
    features
        One row per customer and cutoff, sorted by both; the registered columns beside the keys.
    labels
        One row per customer, cutoff and matured horizon: ``horizon_days``, ``label_value``,
        ``label_orders``, ``has_purchase``.
    columns
        The registered features.
    days
        Order days as they were known at each cutoff, where a model reads them one by one:
        ``customer_id``, ``cutoff_date``, ``activity_date``, ``value``.
    """

    features: pd.DataFrame
    labels: pd.DataFrame
    columns: tuple[Feature, ...]
    days: pd.DataFrame | None = None

    @classmethod
    def build(
        cls, features: pd.DataFrame, labels: pd.DataFrame, columns: Sequence[Feature]
    ) -> Panel:
        """Check and sort the two tables.

        Raises
        ------
        PanelError
            If a key or a column is missing, a key is null, or a row is there twice.
        """
        for name, frame, needed in (
            ("features", features, KEYS),
            ("labels", labels, [*KEYS, "horizon_days", *TARGETS]),
        ):
            missing = [column for column in needed if column not in frame]
            if missing:
                raise PanelError(f"the panel's {name} lack the columns {missing}.")
            keys = frame[KEYS + (["horizon_days"] if name == "labels" else [])]
            if keys.isna().any(axis=None):
                raise PanelError(f"the panel's {name} hold rows without a key.")
            if keys.duplicated().any():
                raise PanelError(f"the panel's {name} hold a key twice.")
        return cls(
            _sorted_by_key(features, KEYS),
            _sorted_by_key(labels, [*KEYS, "horizon_days"]),
            tuple(columns),
        )

    @property
    def cutoffs(self) -> tuple[Cutoff, ...]:
        """The cutoffs that have features, oldest first."""
        return tuple(Cutoff(day.date()) for day in sorted(self.features["cutoff_date"].unique()))

    def for_cutoffs(self, cutoffs: Iterable[Cutoff]) -> Panel:
        """Return the rows of some cutoffs."""
        days = {pd.Timestamp(cutoff.day) for cutoff in cutoffs}
        return replace(
            self,
            features=_take_days(self.features, self._feature_places, days),
            labels=_take_days(self.labels, self._label_places, days),
        )

    # A fit asks for the rows of one cutoff or another hundreds of times.
    @cached_property
    def _feature_places(self) -> Mapping[Any, Any]:
        return self.features.groupby("cutoff_date").indices

    @cached_property
    def _label_places(self) -> Mapping[Any, Any]:
        return self.labels.groupby("cutoff_date").indices

    def matrix(self, horizon_days: int) -> tuple[pd.DataFrame, Target]:
        """Return the feature rows whose label over a horizon matured, and those labels.

        Parameters
        ----------
        horizon_days
            H of the labels.

        Returns
        -------
        tuple
            Raw feature rows, for an ``Encoder``, and the target, aligned.
        """
        labels = self.labels[self.labels["horizon_days"] == horizon_days]
        rows = self.features.merge(labels[KEYS + TARGETS], on=KEYS, how="inner", validate="1:1")
        target = Target(
            rows["label_value"].to_numpy(dtype=np.float64, na_value=np.nan),
            rows["label_orders"].to_numpy(dtype=np.float64, na_value=np.nan),
            rows["has_purchase"].to_numpy(dtype=bool),
        )
        if not np.isfinite(target.value).all():
            raise PanelError(f"labels over {horizon_days} days hold values that are not finite.")
        return rows.drop(columns=TARGETS), target


def leave_out(columns: Sequence[Feature], names: Iterable[str]) -> tuple[Feature, ...]:
    """Return the features without those that models must not read.

    Raises
    ------
    PanelError
        If a name is no feature, or sums up a purchase history, which every model needs.
    """
    known, unwanted = {feature.name for feature in columns}, set(names)
    if strange := sorted(unwanted - known):
        raise PanelError(f"left_out_features: {strange} are no features of this service.")
    if needed := sorted(unwanted & ALWAYS_KEPT):
        raise PanelError(f"left_out_features: {needed} are needed by every model.")
    return tuple(feature for feature in columns if feature.name not in unwanted)


def _take_days(
    frame: pd.DataFrame, places: Mapping[Any, Any], days: set[pd.Timestamp]
) -> pd.DataFrame:
    chosen = [rows for day, rows in places.items() if pd.Timestamp(day) in days]
    return frame.take(np.sort(np.concatenate(chosen)) if chosen else [])


def _sorted_by_key(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    # One unit of time, or keys of the two tables would not meet.
    days = pd.to_datetime(frame["cutoff_date"]).astype("datetime64[s]")
    frame = frame.assign(cutoff_date=days)
    if is_sorted(frame, keys):  # sorting copies
        return frame.reset_index(drop=True)
    return frame.sort_values(keys, ignore_index=True)
