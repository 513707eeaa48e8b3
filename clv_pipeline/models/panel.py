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

    def part(self, rows: NDArray[np.int64]) -> Matrix:
        """Return rows by their positions; the last part is kept, and so are its bins."""
        for known, kept in self._part:
            if np.array_equal(known, rows):
                return kept
        self._part[:] = [(rows, self.take(rows))]
        return self._part[0][1]

    @cached_property
    def _part(self) -> list[tuple[NDArray[np.int64], Matrix]]:
        return []

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

    def with_columns(self, columns: Mapping[str, NDArray[np.floating[Any]]]) -> Matrix:
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

    @cached_property
    def cutoffs(self) -> tuple[Cutoff, ...]:
        """The cutoffs that have features, oldest first."""
        return tuple(Cutoff(day.date()) for day in sorted(self.features["cutoff_date"].unique()))

    def for_cutoffs(self, cutoffs: Iterable[Cutoff]) -> Panel:
        """Return the rows of some cutoffs."""
        chosen = tuple(cutoffs)
        return replace(
            self,
            features=self.features.take(_places_of(self._feature_places, chosen)),
            labels=self.labels.take(_places_of(self._label_places, chosen)),
        )

    def features_at(self, cutoff: Cutoff) -> pd.DataFrame:
        """Return the feature rows of every customer of a cutoff."""
        return self.features.take(_places_of(self._feature_places, [cutoff]))

    def count_at(self, cutoff: Cutoff) -> int:
        """Return how many customers a cutoff has."""
        return len(_places_of(self._feature_places, [cutoff]))

    # A fit asks for the rows of one cutoff or another hundreds of times.
    @cached_property
    def _feature_places(self) -> Mapping[Any, Any]:
        return self.features.groupby("cutoff_date").indices

    @cached_property
    def _label_places(self) -> Mapping[Any, Any]:
        return self.labels.groupby("cutoff_date").indices

    def matrix(
        self, horizon_days: int, cutoffs: Iterable[Cutoff] | None = None
    ) -> tuple[pd.DataFrame, Target]:
        """Return the feature rows whose label over a horizon matured, and those labels.

        Parameters
        ----------
        horizon_days
            H of the labels.
        cutoffs
            Whose rows; all of them when None.

        Returns
        -------
        tuple
            Raw feature rows, for an ``Encoder``, and the target, aligned.
        """
        if horizon_days not in self._labelled:
            self._labelled[horizon_days] = self._find_labels(horizon_days)
        labels = self._labelled[horizon_days]
        if cutoffs is None:
            places = np.flatnonzero(labels >= 0)
        else:
            places = _places_of(self._feature_places, cutoffs)
            places = places[labels[places] >= 0]
        target = self._targets.take(labels[places])
        if not np.isfinite(target.value).all():
            raise PanelError(f"labels over {horizon_days} days hold values that are not finite.")
        if len(places) == len(self.features):
            return self.features, target
        return self.features.take(places).reset_index(drop=True), target

    @cached_property
    def _labelled(self) -> dict[int, NDArray[np.int64]]:
        return {}

    @cached_property
    def _targets(self) -> Target:
        """What came to pass, in the order of the labels."""
        return Target(
            self.labels["label_value"].to_numpy(dtype=np.float64, na_value=np.nan),
            self.labels["label_orders"].to_numpy(dtype=np.float64, na_value=np.nan),
            self.labels["has_purchase"].to_numpy(dtype=bool),
        )

    @cached_property
    def _keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """A number per key: of the rows of features, of the labels, and how many there can be."""
        both = [pd.concat([self.features[k], self.labels[k]], ignore_index=True) for k in KEYS]
        (customers, people), (days, cutoffs) = (pd.factorize(column) for column in both)
        keys = customers.astype(np.int64) * len(cutoffs) + days
        rows = len(self.features)
        return keys[:rows], keys[rows:], len(people) * len(cutoffs)

    def _find_labels(self, horizon_days: int) -> NDArray[np.int64]:
        """Return the place of each feature row's label over a horizon, -1 where there is none."""
        of_features, of_labels, count = self._keys
        chosen = np.flatnonzero((self.labels["horizon_days"] == horizon_days).to_numpy())
        place = np.full(count, -1, dtype=np.int64)
        place[of_labels[chosen]] = chosen
        return place[of_features]


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


def _places_of(places: Mapping[Any, Any], cutoffs: Iterable[Cutoff]) -> NDArray[np.int64]:
    """Return the positions of the rows of some cutoffs, ascending."""
    days = {pd.Timestamp(cutoff.day) for cutoff in cutoffs}
    chosen = [rows for day, rows in places.items() if pd.Timestamp(day) in days]
    found = np.sort(np.concatenate(chosen)) if chosen else np.empty(0)
    return found.astype(np.int64, copy=False)


def _sorted_by_key(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    # One unit of time, or keys of the two tables would not meet.
    days = pd.to_datetime(frame["cutoff_date"]).astype("datetime64[s]")
    frame = frame.assign(cutoff_date=days)
    if is_sorted(frame, keys):  # sorting copies
        return frame.reset_index(drop=True)
    return frame.sort_values(keys, ignore_index=True)
