"""How each feature is doing in a run: missing values, quantiles, drift and age, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from clv_pipeline.features.registry import Feature
from clv_pipeline.models import store
from clv_pipeline.settings import Settings
from clv_pipeline.tables import OPS_TABLES
from clv_pipeline.warehouse import has_table
from data_quality import drift
from data_quality.pseudonyms import Pseudonymizer

# The rows of drift's table that hold a training set instead of a run.
TRAINING_RUN = "training of {version}"
QUANTILES = {
    "quantile_05": 0.05,
    "quantile_25": 0.25,
    "quantile_50": 0.5,
    "quantile_75": 0.75,
    "quantile_95": 0.95,
}
# Where the newest row of an input is found that a cutoff may see.
_SEEN: dict[str, str] = {
    "transactions": "intermediate.int_customer_days",
    "events": "intermediate.int_event_days",
    "texts": "staging.stg_texts",
    "campaign_exposures": "staging.stg_campaign_exposures",
}


@dataclass(frozen=True)
class Training:
    """What the champion was trained on.

    Attributes
    ----------
    version
        The champion.
    reference
        Distributions over its training cutoffs.
    rows
        The same as rows of drift's table, to be kept; None where they are kept already.
    """

    version: str
    reference: drift.Reference
    rows: pa.Table | None


def read_training(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    features: Sequence[Feature],
    pseudonymize: Pseudonymizer,
) -> Training | None:
    """Read, or make once, the distributions of the champion's training set.

    Returns
    -------
    Training or None
        None without a champion, or when its training cutoffs are no longer held.
    """
    try:
        version = store.champion_version(settings.paths.models)
        manifest = store.read_manifest(settings.paths.models, version) if version else {}
    except store.ModelStoreError:
        return None
    if version is None:
        return None
    run_id = TRAINING_RUN.format(version=version)
    held = drift.read_distributions(connection, run_id)
    if held is not None:
        return Training(version, held, None)
    horizons = manifest.get("horizons", {}).values()
    days = {day for entry in horizons for day in entry.get("training_cutoffs", ())}
    cutoffs = [date.fromisoformat(day) for day in sorted(days)]
    sample = drift.read_sample(connection, features, *cutoffs) if cutoffs else pd.DataFrame()
    if len(sample) < drift.MIN_SAMPLE:
        return None
    described = drift.describe(sample, features, pseudonymize)
    rows = drift.to_reference(described, cutoffs[-1], run_id)
    return Training(version, drift.Reference(run_id, cutoffs[-1], described), rows)


def measure(
    sample: pd.DataFrame,
    features: Sequence[Feature],
    run: drift.Reference,
    against_training: dict[str, drift.Distribution],
    training: Training | None,
    psi_last_run: dict[str, float],
    ages: dict[str, int],
) -> pd.DataFrame:
    """Lay out a row per feature, with the columns of ``ops.feature_health``.

    Parameters
    ----------
    sample
        Values of the sampled customers at the cutoff.
    run
        Names the run and its cutoff.
    against_training
        The sample in the bins of the training set.
    training
        The training set; None without a champion.
    psi_last_run
        By feature, where there is an earlier good run.
    ages
        Days since the newest row, by input that has rows.
    """
    rows = []
    for feature in features:
        before = training.reference.distributions.get(feature.name) if training else None
        now = against_training.get(feature.name)
        known = [ages[name] for name in feature.inputs if name in ages]
        rows.append(
            {
                "run_id": run.run_id,
                "cutoff_date": run.cutoff,
                "feature": feature.name,
                "feature_view": feature.view,
                "count_customers": len(sample),
                "null_share": _null_share(sample[feature.name]),
                **_quantiles(sample[feature.name], feature),
                "psi_training": drift.compare(before, now).psi if before and now else None,
                "psi_last_run": psi_last_run.get(feature.name),
                "training_null_share": _share_of_nulls(before),
                "age_days": max(known, default=None),
                "model_version": training.version if training else None,
            }
        )
    columns = [column.name for column in OPS_TABLES["feature_health"].columns]
    return pd.DataFrame(rows, columns=columns)


def to_table(health: pd.DataFrame) -> pa.Table:
    """Type the rows as ``ops.feature_health`` has them."""
    kinds = {"VARCHAR": pa.string(), "DATE": pa.date32(), "DOUBLE": pa.float64()}
    schema = pa.schema(
        [(c.name, kinds.get(c.kind, pa.int64())) for c in OPS_TABLES["feature_health"].columns]
    )
    clean = health.astype(object).where(health.notna(), None)
    return pa.Table.from_pylist(clean.to_dict("records"), schema=schema)


def read_ages(connection: duckdb.DuckDBPyConnection, cutoff: date) -> dict[str, int]:
    """Count the days from the newest row of each input to the cutoff, by what it could see."""
    ages = {}
    for name, table in _SEEN.items():
        if has_table(connection, *table.split(".")):
            rows = connection.execute(
                f"SELECT max(activity_date) FROM {table} "
                "WHERE activity_date <= $day AND known_date <= $day",
                {"day": cutoff},
            ).fetchall()
            if rows[0][0] is not None:
                ages[name] = (cutoff - rows[0][0]).days
    return ages


def _null_share(values: pd.Series[Any]) -> float | None:
    return float(values.isna().mean()) if len(values) else None


def _share_of_nulls(distribution: drift.Distribution | None) -> float | None:
    if distribution is None:
        return None
    total = sum(distribution.counts.values())
    return distribution.counts.get(drift.NULL_BIN, 0) / total if total else None


def _quantiles(values: pd.Series[Any], feature: Feature) -> dict[str, float | None]:
    names = ["minimum", *QUANTILES, "maximum"]
    if not drift.is_numeric(feature):
        return dict.fromkeys(names)
    numbers = pd.to_numeric(values).to_numpy(dtype=float, na_value=np.nan)
    present = numbers[np.isfinite(numbers)]
    if not len(present):
        return dict.fromkeys(names)
    found = np.quantile(present, [0.0, *QUANTILES.values(), 1.0])
    return dict(zip(names, map(float, found), strict=True))
