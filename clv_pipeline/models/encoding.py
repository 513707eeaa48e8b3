"""From features of any kind to the numbers that models read, fitted inside the fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clv_pipeline.models.credibility import Credibility
from clv_pipeline.models.panel import ALWAYS_KEPT, Floats, Matrix, PanelError, Target
from clv_pipeline.models.room import make_matrix

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

# A category seen in fewer rows says more about those customers than about the category.
MIN_CATEGORY_ROWS = 20
# With more values than these, a category is read as what became of customers like these.
MAX_CATEGORIES = 20
LARGEST = 1e37


@dataclass(frozen=True, eq=False)
class Encoder:
    """How raw feature columns become numbers. Fitted inside each fold, saved with the model.

    Attributes
    ----------
    names
        Columns, in order.
    categories
        For each categorical column its known values; a value's code is its place in the list,
        and a value that is not in it is missing.
    figures
        For each column with too many values for that: a number per value.
    """

    names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    figures: Mapping[str, Credibility] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, frame: pd.DataFrame, columns: Sequence[Feature], y: Target | None = None
    ) -> Encoder:
        """Learn the categories from rows of training cutoffs.

        Columns that a model may not use are left out, as are columns that tell no two rows apart
        and, of categories with many values, those whose values do not differ beyond chance; those
        that sum up a purchase history stay whatever they hold.

        Without ``y``, the most frequent of many values are kept. With it, a model must be trained
        on the rows that `fit_transform` gives: those of ``transform`` know their own labels.
        """
        names, categories, figures = [], {}, {}
        for feature in columns:
            if not feature.is_model_input or feature.name not in frame:
                continue
            column = frame[feature.name]
            if _is_constant(column) and feature.name not in ALWAYS_KEPT:
                continue
            is_category = feature.kind == "categorical"
            if is_category and y is not None and column.nunique() > MAX_CATEGORIES:
                found = Credibility.fit(column, frame["customer_id"], _outcome(y))
                if found.is_telling:
                    names.append(feature.name)
                    figures[feature.name] = found
                continue
            names.append(feature.name)
            if is_category:
                counts = column.dropna().astype(str).value_counts()
                counts = counts[counts >= min(MIN_CATEGORY_ROWS, counts.max())]
                # Most frequent first, ties by name: the codes do not depend on the order of rows.
                ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
                categories[feature.name] = tuple(str(k) for k, _ in ranked[:MAX_CATEGORIES])
        return cls(tuple(names), categories, figures)

    @classmethod
    def fit_transform(
        cls, frame: pd.DataFrame, columns: Sequence[Feature], y: Target
    ) -> tuple[Encoder, Matrix]:
        """Learn from training rows and encode them, each without its own customer's labels."""
        encoder = cls.fit(frame, columns, y)
        return encoder, encoder.transform_training(frame, encoder.leave_out(frame, y))

    def leave_out(self, frame: pd.DataFrame, y: Target) -> dict[str, pd.Series[float]]:
        """Return what encodes training rows of categories with many values, see `Credibility`."""
        outcome = _outcome(y)
        return {
            name: found.leave_out(frame[name], frame["customer_id"], outcome)
            for name, found in self.figures.items()
        }

    def transform_training(
        self, frame: pd.DataFrame, figures: Mapping[str, pd.Series[float]]
    ) -> Matrix:
        """Encode training rows, or a part of them, each without its own customer's labels.

        Parameters
        ----------
        figures
            From `leave_out`, of the rows of the fit.
        """
        X = self.transform(frame)
        for name, found in self.figures.items():
            X.values[:, self.names.index(name)] = found.look_up(
                frame[name], frame["customer_id"], figures[name]
            )
        return X

    def transform(self, frame: pd.DataFrame) -> Matrix:
        """Encode rows.

        Raises
        ------
        PanelError
            If a column that the model was trained on is missing.
        """
        missing = [name for name in self.names if name not in frame]
        if missing:
            raise PanelError(f"the features {missing} are missing; the model was trained on them.")
        values = make_matrix(len(frame), len(self.names))
        # Numbers that came as float32 lie in one block, and are copied in one piece.
        plain = [
            k
            for k, name in enumerate(self.names)
            if frame.dtypes[name] == np.float32
            and name not in self.categories
            and name not in self.figures
        ]
        values[:, plain] = frame[[self.names[k] for k in plain]].to_numpy()
        for k, name in enumerate(self.names):
            if k in plain:
                continue
            if name in self.categories:
                known = {value: float(i) for i, value in enumerate(self.categories[name])}
                # Each distinct value is looked up once; what is missing stands at the end.
                places, values_found = pd.factorize(frame[name])
                codes = [known.get(str(value), np.nan) for value in values_found]
                numbers = np.array([*codes, np.nan])[places]
            elif name in self.figures:
                numbers = self.figures[name].transform(frame[name])
            else:
                numbers = pd.to_numeric(frame[name]).to_numpy(dtype=np.float64, na_value=np.nan)
            # Beyond float32 is as good as missing for a split, and so is infinite.
            values[:, k] = np.where(np.abs(numbers) < LARGEST, numbers, np.nan)
        values[np.abs(values) >= LARGEST] = np.nan
        return Matrix(
            frame["customer_id"].to_numpy(dtype=object),
            frame["cutoff_date"].to_numpy().astype("datetime64[D]"),
            self.names,
            values,
            frozenset(self.categories),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "names": list(self.names),
            "categories": {k: list(v) for k, v in sorted(self.categories.items())},
            "figures": {k: v.to_dict() for k, v in sorted(self.figures.items())},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Encoder:
        """Read what ``to_dict`` gave."""
        return cls(
            tuple(document["names"]),
            {k: tuple(v) for k, v in document["categories"].items()},
            {k: Credibility.from_dict(v) for k, v in document.get("figures", {}).items()},
        )


def _is_constant(column: pd.Series) -> bool:
    """Whether a column tells no two rows apart; missing is a value as any other."""
    if column.dtype != np.float32:
        return bool(column.nunique(dropna=False) < 2)
    numbers = column.to_numpy()
    is_missing = np.isnan(numbers)
    return bool((numbers == numbers[:1]).all() or is_missing.all())


def _outcome(y: Target) -> Floats:
    """Return what a category is to foretell: value, in logarithms so that giants do not decide."""
    value = np.maximum(y.value, 0.0)
    unit = float(value[value > 0].mean()) if (value > 0).any() else 1.0
    return np.log1p(value / unit)
