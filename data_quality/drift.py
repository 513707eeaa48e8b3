"""Drift: how far a feature's distribution has moved since the last good run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from clv_pipeline.features.registry import Feature
from clv_pipeline.warehouse import has_table, quote_identifier, read_frame

REFERENCE_TABLE = "ops.feature_reference"
REFERENCE_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("cutoff_date", pa.date32()),
        ("feature", pa.string()),
        ("bin_number", pa.int64()),
        ("lower_bound", pa.float64()),
        ("upper_bound", pa.float64()),
        ("category", pa.string()),
        ("count_customers", pa.int64()),
    ]
)
# Customers whose values make the distributions: those with the smallest MD5 of their id, so that
# the sample is the same whenever it is drawn, and mostly the same people from day to day.
SAMPLE_SIZE = 50_000
MIN_SAMPLE = 100
QUANTILES = np.arange(0.1, 1.0, 0.1)
MAX_CATEGORIES = 20
NULL_BIN = "null"
OTHER_BIN = "other"


@dataclass(frozen=True)
class Distribution:
    """How many customers of a sample fall into each bin of a feature.

    Attributes
    ----------
    edges
        Quantiles of a number, ascending and distinct. There is a bin for each edge itself (features
        are full of zeros and other point masses), one between neighbours and one at each end.
        None for a category.
    counts
        Customers per bin, by bin name: '0', '1', ... in ascending order, or the category's
        pseudonym; 'null' and 'other' where there are such.
    """

    edges: npt.NDArray[np.float64] | None
    counts: dict[str, int]


@dataclass(frozen=True)
class Drift:
    """A feature against the last good run.

    Attributes
    ----------
    psi
        Population stability index.
    is_collapsed
        Whether all customers are in one bin now, of several before.
    """

    psi: float
    is_collapsed: bool


@dataclass(frozen=True)
class Reference:
    """Distributions of the last good run.

    Attributes
    ----------
    run_id, cutoff
        Which run that was.
    distributions
        By feature.
    """

    run_id: str
    cutoff: date
    distributions: dict[str, Distribution]


def read_sample(
    connection: duckdb.DuckDBPyConnection, features: Sequence[Feature], *cutoffs: date
) -> pd.DataFrame:
    """Read the features of the sampled customers at some cutoffs."""
    columns = ", ".join(quote_identifier(feature.name) for feature in features)
    return read_frame(
        connection,
        f"SELECT {columns} FROM features.customer_features WHERE list_contains(?, cutoff_date) "
        f"ORDER BY md5(customer_id), customer_id, cutoff_date LIMIT {SAMPLE_SIZE}",
        [list(cutoffs)],
    )


def is_numeric(feature: Feature) -> bool:
    """Whether a feature is binned by quantiles; flags and categories are not."""
    return feature.kind == "numeric"


def describe(
    sample: pd.DataFrame,
    features: Sequence[Feature],
    pseudonymize: Callable[[str], str],
    like: Reference | None = None,
) -> dict[str, Distribution]:
    """Count the sample into bins.

    Parameters
    ----------
    pseudonymize
        Names categories: a category may be personal data.
    like
        Use the bins of this reference for the features that it has; new quantiles when None.
    """
    found = {}
    for feature in features:
        known = None if like is None else like.distributions.get(feature.name)
        if like is not None and known is None:
            continue
        values = sample[feature.name]
        if is_numeric(feature):
            found[feature.name] = _describe_numbers(values, known)
        else:
            found[feature.name] = _describe_categories(values, known, pseudonymize)
    return found


def compare(before: Distribution, now: Distribution) -> Drift:
    """Compute the population stability index, sum of (q - p) ln(q / p) over the bins.

    Half a customer is added to each bin, so that an empty one doesn't make it infinite. Siddiqi,
    Credit Risk Scorecards (2006): below 0.1 is no change, above 0.25 a large one.
    """
    names = sorted(before.counts.keys() | now.counts.keys())
    old = np.array([before.counts.get(name, 0) for name in names]) + 0.5
    new = np.array([now.counts.get(name, 0) for name in names]) + 0.5
    p, q = old / old.sum(), new / new.sum()
    psi = float(np.sum((q - p) * np.log(q / p)))
    filled = [sum(n > 0 for n in d.counts.values()) for d in (before, now)]
    return Drift(psi, filled[0] > 1 and filled[1] == 1)


def read_reference(connection: duckdb.DuckDBPyConnection, cutoff: date) -> Reference | None:
    """Read the distributions of the newest good run of an earlier cutoff.

    A run is good when what it published passed the gate of the publication. Runs of the same cutoff
    don't count, so that a run repeated finds what it found before.
    """
    if not (
        has_table(connection, *REFERENCE_TABLE.split("."))
        and has_table(connection, "ops", "data_quality")
    ):
        return None
    newest = read_frame(
        connection,
        f"""
        WITH good AS (
            SELECT run_id FROM ops.data_quality WHERE gate = 'published'
            GROUP BY run_id HAVING bool_and(is_passed OR severity = 'warn')
        )
        SELECT run_id FROM {REFERENCE_TABLE} SEMI JOIN good USING (run_id)
        WHERE cutoff_date < ? ORDER BY cutoff_date DESC, run_id DESC LIMIT 1
        """,
        [cutoff],
    )
    return None if newest.empty else read_distributions(connection, str(newest["run_id"].iloc[0]))


def read_distributions(connection: duckdb.DuckDBPyConnection, run_id: str) -> Reference | None:
    """Read the distributions that are kept under a run's name; None where there are none."""
    if not has_table(connection, *REFERENCE_TABLE.split(".")):
        return None
    rows = read_frame(
        connection,
        f"SELECT * FROM {REFERENCE_TABLE} WHERE run_id = ? ORDER BY feature, bin_number",
        [run_id],
    )
    if rows.empty:
        return None
    distributions = {}
    for feature, bins in rows.groupby("feature"):
        counts = dict(zip(bins["category"], bins["count_customers"].astype(int), strict=True))
        is_edge = bins["lower_bound"].notna() & (bins["lower_bound"] == bins["upper_bound"])
        edges = bins.loc[is_edge, "lower_bound"].to_numpy(dtype=float)
        is_number = bins["lower_bound"].notna().any()
        distributions[str(feature)] = Distribution(edges if is_number else None, counts)
    first = rows.iloc[0]
    return Reference(run_id, pd.Timestamp(first["cutoff_date"]).date(), distributions)


def to_reference(distributions: dict[str, Distribution], cutoff: date, run_id: str) -> pa.Table:
    """Lay distributions out as rows of ``ops.feature_reference``."""
    rows = []
    for feature, distribution in distributions.items():
        for number, (category, count) in enumerate(distribution.counts.items()):
            lower, upper = _bounds(distribution, category)
            rows.append(
                {
                    "run_id": run_id,
                    "cutoff_date": cutoff,
                    "feature": feature,
                    "bin_number": number,
                    "lower_bound": lower,
                    "upper_bound": upper,
                    "category": category,
                    "count_customers": count,
                }
            )
    return pa.Table.from_pylist(rows, schema=REFERENCE_SCHEMA)


def _describe_numbers(values: pd.Series[Any], known: Distribution | None) -> Distribution:
    numbers = pd.to_numeric(values).to_numpy(dtype=float, na_value=np.nan)
    present = numbers[np.isfinite(numbers)]
    if known is not None and known.edges is not None:
        edges = known.edges
    else:
        edges = np.unique(np.quantile(present, QUANTILES)) if len(present) else np.array([])
    place = np.searchsorted(edges, present, "left") + np.searchsorted(edges, present, "right")
    counts = np.bincount(place, minlength=2 * len(edges) + 1)
    named = {str(number): int(count) for number, count in enumerate(counts)}
    return Distribution(edges, {**named, NULL_BIN: len(numbers) - len(present)})


def _describe_categories(
    values: pd.Series[Any],
    known: Distribution | None,
    pseudonymize: Callable[[str], str],
) -> Distribution:
    counted = values.dropna().astype(str).value_counts()
    named: dict[str, int] = {}
    for value, count in counted.items():
        name = pseudonymize(str(value))
        is_kept = len(named) < MAX_CATEGORIES if known is None else name in known.counts
        target = name if is_kept else OTHER_BIN
        named[target] = named.get(target, 0) + int(count)
    return Distribution(None, {**named, NULL_BIN: int(values.isna().sum())})


def _bounds(distribution: Distribution, name: str) -> tuple[float | None, float | None]:
    if distribution.edges is None or name == NULL_BIN:
        return None, None
    edges, number = distribution.edges, int(name)
    lower = float(edges[(number - 1) // 2]) if number > 0 else -np.inf
    upper = float(edges[number // 2]) if number // 2 < len(edges) else np.inf
    return lower, upper
