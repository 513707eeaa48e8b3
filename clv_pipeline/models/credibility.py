"""Categories with many values as one number: what became of customers like these, shrunk.

Credibility theory (Bühlmann and Straub, 1970), which is empirical Bayes: the mean of a category
counts for as much as it differs from chance. The unit is a customer, whose rows at several cutoffs
tell the same story again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Out of fold: a row's number is made from the customers of the other folds.
FOLDS = 5
# Fewer customers say more about themselves than about the category, and would be named by it.
MIN_CUSTOMERS = 5


@dataclass(frozen=True, eq=False)
class Credibility:
    """A number per value of a category.

    Attributes
    ----------
    prior
        The mean over all customers: what a value gets that is rare or was never seen.
    inertia
        Customers whose word counts as much as the prior's: the variance within the values over the
        variance between them; infinite where the values do not differ beyond chance.
    figures
        By value: ``(sum + inertia * prior) / (customers + inertia)``.
    """

    prior: float
    inertia: float
    figures: Mapping[str, float]

    @classmethod
    def fit(cls, values: pd.Series[Any], customers: pd.Series[Any], outcome: Floats) -> Self:
        """Learn from rows.

        Parameters
        ----------
        values
            The category of each row; null is left out.
        customers
            Whose row it is.
        outcome
            What became of the customer, shape (n,).
        """
        people = _by_customer(values, customers, outcome)
        prior, inertia = _find_inertia(people)
        if not np.isfinite(inertia):
            return cls(prior, inertia, {})
        sums = people.groupby("value", sort=True)["outcome"].agg(["sum", "count"])
        sums = sums[sums["count"] >= MIN_CUSTOMERS]
        figures = (sums["sum"] + inertia * prior) / (sums["count"] + inertia)
        return cls(prior, inertia, {str(name): float(x) for name, x in figures.items()})

    @property
    def is_telling(self) -> bool:
        """Whether the values differ beyond chance."""
        return bool(self.figures)

    def transform(self, values: pd.Series[Any]) -> Floats:
        """Return the number of each row; the prior where the value is unknown, NaN where null."""
        named = values.astype(object).where(values.notna(), None).map(_name)
        found = named.map(lambda name: self.figures.get(name, self.prior))
        numbers: Floats = found.to_numpy(dtype=np.float64, copy=True)
        numbers[values.isna().to_numpy()] = np.nan
        return numbers

    def transform_training_rows(
        self, values: pd.Series[Any], customers: pd.Series[Any], outcome: Floats
    ) -> Floats:
        """Return the number of each row that was fitted on, made without that row's customer.

        Prior and inertia are those of all rows: being the same for every row, they tell none apart.
        """
        return self.look_up(values, customers, self.leave_out(values, customers, outcome))

    def leave_out(
        self, values: pd.Series[Any], customers: pd.Series[Any], outcome: Floats
    ) -> pd.Series[float]:
        """Return a number per value and fold of customers, made without that fold's customers."""
        people = _by_customer(values, customers, outcome)
        people = people[people["value"].isin(list(self.figures))]
        totals = people.groupby("value")["outcome"].agg(["sum", "count"])
        own = people.groupby(["value", "fold"])["outcome"].agg(["sum", "count"])
        others = totals.reindex(own.index.get_level_values("value")).set_axis(own.index) - own
        return (others["sum"] + self.inertia * self.prior) / (others["count"] + self.inertia)

    def look_up(
        self, values: pd.Series[Any], customers: pd.Series[Any], figures: pd.Series[float]
    ) -> Floats:
        """Return the number of each row from what `leave_out` gave for the rows of the fit."""
        names = values.astype(object).where(values.notna(), None).map(_name)
        places = pd.MultiIndex.from_arrays([names, _fold(customers)])
        found = figures.reindex(places).to_numpy(dtype=np.float64)
        return np.where(np.isnan(found), self.transform(values), found)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"prior": self.prior, "inertia": self.inertia, "figures": dict(self.figures)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave."""
        return cls(document["prior"], document["inertia"], dict(document["figures"]))


def _name(value: Any) -> str | None:
    return None if value is None else str(value)


def _fold(customers: pd.Series[Any]) -> NDArray[np.int64]:
    names = customers.astype(str).to_numpy(dtype=object)
    folds: NDArray[np.int64] = (pd.util.hash_array(names) % FOLDS).astype(np.int64)
    return folds


def _by_customer(
    values: pd.Series[Any], customers: pd.Series[Any], outcome: Floats
) -> pd.DataFrame:
    """Return one row per value and customer: ``outcome``, the mean over the rows, and ``fold``."""
    rows = pd.DataFrame(
        {
            "value": values.astype(object).to_numpy(),
            "customer": customers.astype(str).to_numpy(dtype=object),
            "outcome": outcome,
            "fold": _fold(customers),
        }
    ).dropna(subset=["value"])
    rows["value"] = rows["value"].map(str)
    return rows.groupby(["value", "customer", "fold"])["outcome"].mean().reset_index()


def _find_inertia(people: pd.DataFrame) -> tuple[float, float]:
    """Return the mean and the ratio of the variances, by the method of moments."""
    total = len(people)
    if not total:
        return 0.0, np.inf
    prior = float(people["outcome"].mean())
    groups = people.groupby("value")["outcome"].agg(["mean", "count"])
    sizes = groups["count"].to_numpy(dtype=np.float64)
    between = float(sizes @ (groups["mean"].to_numpy() - prior) ** 2)
    within = float(((people["outcome"] - prior) ** 2).sum()) - between
    if total <= len(groups) or within <= 0:
        return prior, np.inf if between <= 0 or total <= len(groups) else 0.0
    noise = within / (total - len(groups))
    spread = (between - (len(groups) - 1) * noise) / (total - float(sizes @ sizes) / total)
    return prior, noise / spread if spread > 0 else np.inf
