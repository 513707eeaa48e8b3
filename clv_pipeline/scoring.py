"""The champion and a day's features become scores, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from clv_pipeline.engines.learning import map_cutoff
from clv_pipeline.evaluation.groups import PRIOR_SPREAD
from clv_pipeline.models import store
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.coherence import hurdle_variance
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.parallel import map_batches
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import has_table, quote_identifier, stream_frames

FEATURES, PREDICTIONS = "features.customer_features", "scores.customer_predictions"
BATCH_ROWS = 100_000
COLUMNS = {
    "clv": "value",
    "clv_p10": "p10",
    "clv_p50": "p50",
    "clv_p90": "p90",
    "clv_low_80": "low_80",
    "clv_high_80": "high_80",
    "clv_low_95": "low_95",
    "clv_high_95": "high_95",
    "probability_purchase": "probability",
    "expected_orders": "orders",
}

# What a worker of Spark sends back.
ANSWERS = pa.schema(
    [
        ("customer_id", pa.string()),
        ("cutoff_date", pa.date32()),
        ("horizon_days", pa.int64()),
        *((name, pa.float64()) for name in COLUMNS),
        ("model_version", pa.string()),
        ("run_id", pa.string()),
    ]
)
# Standard deviations at the ends of the intervals of totals.
TOTAL_ENDS = {"low_80": -1.2816, "high_80": 1.2816, "low_95": -1.96, "high_95": 1.96}
TOTAL_COLUMNS = (
    "cutoff_date",
    "horizon_days",
    "group_kind",
    "group_value",
    "count_customers",
    "clv",
    *TOTAL_ENDS,
    "model_version",
    "run_id",
)


class ScoringError(RuntimeError):
    """Scores that can't be given; the message says why and what to do."""


def score_customers(
    model: CLVModel,
    features: pd.DataFrame,
    settings: Settings,
    run_id: str,
    model_version: str = "",
) -> pd.DataFrame:
    """Answer for every customer and horizon.

    Each row is answered by itself, so batches change nothing.

    Parameters
    ----------
    model
        What serves.
    features
        Rows of ``features.customer_features``: a customer and cutoff each.
    settings
        Names the horizons that are asked for.
    run_id, model_version
        Written into the rows.

    Returns
    -------
    DataFrame
        ``scores.customer_predictions``: customer_id, cutoff_date, horizon_days, clv, clv_p10,
        clv_p50, clv_p90, clv_low_80, clv_high_80, clv_low_95, clv_high_95, probability_purchase,
        expected_orders, model_version, run_id; sorted by customer and horizon. Values in the
        reporting currency, all finite.

    Raises
    ------
    ScoringError
        If the model lacks a horizon, or a feature that it needs is missing.
    """
    missing = [h for h in settings.value.horizons if h not in model.horizons]
    if missing:
        raise ScoringError(
            f"The champion was not trained for the horizons {missing}: run `clv train` first."
        )
    ordered = features.sort_values(["cutoff_date", "customer_id"], ignore_index=True)
    starts = range(0, max(len(ordered), 1), BATCH_ROWS)
    parts = [_answer(model, ordered.iloc[k : k + BATCH_ROWS], settings) for k in starts]
    found = pd.concat(parts, ignore_index=True)
    return found.assign(model_version=model_version, run_id=run_id)


def refuse_other_horizons(
    connection: duckdb.DuckDBPyConnection, settings: Settings, cutoff: Cutoff
) -> None:
    """Stop where a later cutoff was scored for other horizons: analysts would still be shown it."""
    if not has_table(connection, *PREDICTIONS.split(".")):
        return
    query = (
        f"SELECT cutoff_date, list_sort(list(DISTINCT horizon_days)) FROM {PREDICTIONS} "
        f"WHERE cutoff_date = (SELECT max(cutoff_date) FROM {PREDICTIONS}) AND cutoff_date > ? "
        "GROUP BY 1"
    )
    later = connection.execute(query, [cutoff.day]).fetchone()
    if later is not None and later[1] != sorted(settings.value.horizons):
        raise ScoringError(
            f"{later[0]} was scored for the horizons {later[1]} and is newer than {cutoff}, so it "
            f"would stay the published cutoff: run `clv run --cutoff {later[0]}` first."
        )


def score_in_batches(
    connection: duckdb.DuckDBPyConnection,
    model: CLVModel,
    settings: Settings,
    cutoff: Cutoff,
    run_id: str,
    model_version: str,
    count: Callable[[int], object] | None = None,
    workers: int = 1,
) -> Iterator[pd.DataFrame]:
    """Answer for every customer of a cutoff like `score_customers`, a batch at a time.

    Parameters
    ----------
    connection
        The warehouse; may be written to meanwhile.
    count
        Told how many customers each batch had.
    workers
        Processes that share the batches.
    """
    query = select_features(connection, model.columns, is_narrow=True)
    batches = stream_frames(connection, query, [cutoff.day], BATCH_ROWS)
    make = partial(_make_scorer, model, settings, run_id, model_version)
    for found in map_batches(make, batches, workers):
        yield found
        if count is not None:
            count(len(found) // len(settings.value.horizons))


def _make_scorer(
    model: CLVModel, settings: Settings, run_id: str, model_version: str
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return partial(
        score_customers,
        model,
        settings=settings,
        run_id=run_id,
        model_version=model_version,
    )


def score_on_spark(
    settings: Settings, names: Iterable[str], cutoff: Cutoff, run_id: str, model_version: str
) -> Iterator[pa.Table]:
    """Answer for every customer of a cutoff like `score_customers`, on Spark's workers.

    Each loads the model by itself, and answers for its part of the customers.

    Parameters
    ----------
    names
        Features that the model reads.
    model_version
        Which model of the home answers.

    Yields
    ------
    pyarrow.Table
        Rows of ``scores.customer_predictions``; their order says nothing.
    """
    folder = settings.paths.models

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        model = _worker_model(folder, model_version)
        return score_customers(model, rows, settings, run_id, model_version)

    yield from map_cutoff(settings, cutoff, sorted(names), answer, ANSWERS)


@lru_cache(maxsize=1)
def _worker_model(folder: Path, model_version: str) -> CLVModel:
    return store.load_model(folder, model_version)[0]


def select_features(
    connection: duckdb.DuckDBPyConnection,
    names: Iterable[str],
    *more: str,
    is_narrow: bool = False,
) -> str:
    """Write the query of some features of a cutoff's customers, in the order of their ids.

    Features that the table does not have are left out: who needs them says so. Models read numbers
    as float32: for them they may come as narrow as that.
    """
    held = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {FEATURES}").fetchall()}
    wanted = []
    for name in sorted(set(held) & set(names)):
        column = quote_identifier(name)
        is_narrowed = is_narrow and held[name] in ("DOUBLE", "BIGINT", "INTEGER")
        wanted.append(f"{column}::FLOAT AS {column}" if is_narrowed else column)
    columns = ", ".join(["customer_id", "cutoff_date", *wanted, *more])
    return f"SELECT {columns} FROM {FEATURES} WHERE cutoff_date = ? ORDER BY customer_id"


def _answer(model: CLVModel, rows: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    places = [model.horizons.index(h) for h in settings.value.horizons]
    try:
        answers = model.predict(rows)
    except ValueError as error:  # a PanelError, or a history that contradicts itself
        raise ScoringError(f"Scoring stopped: {error}") from error
    repeated = rows[["customer_id", "cutoff_date"]].loc[rows.index.repeat(len(places))]
    part = repeated.reset_index(drop=True)
    part["horizon_days"] = np.tile(np.array(settings.value.horizons), len(rows))
    for column, answer in COLUMNS.items():
        part[column] = answers[answer][:, places].ravel()
    return part


def total_values(
    model: CLVModel,
    predictions: pd.DataFrame,
    groups: pd.DataFrame,
    run_id: str,
    model_version: str = "",
    group_spread: float = PRIOR_SPREAD,
) -> pd.DataFrame:
    """Add values up over the shop and its groups, with what the totals may be missed by.

    The interval is lognormal: the variance of the logarithm is that of the shop's level, as past
    cutoffs were missed, plus that of the customers' luck, each on its own, relative to the total.
    A group may go another way than the shop: ``group_spread`` is added for it.

    Parameters
    ----------
    model
        What serves.
    predictions
        Rows of ``scores.customer_predictions`` of one cutoff.
    groups
        ``customer_id`` and a column per kind of group; a missing value counts as 'unknown'.
    run_id, model_version
        Written into the rows.
    group_spread
        How far groups go another way than the shop, as past cutoffs told.

    Returns
    -------
    DataFrame
        ``scores.clv_totals``: cutoff_date, horizon_days, group_kind, group_value, count_customers,
        clv, low_80, high_80, low_95, high_95, model_version, run_id.
    """
    kinds = [str(c) for c in groups if c != "customer_id"]
    rows = predictions.merge(groups, on="customer_id", how="left")
    return sum_groups(model, rows, kinds, run_id, model_version, group_spread)


def sum_groups(
    model: CLVModel,
    predictions: pd.DataFrame,
    group_kinds: Sequence[str],
    run_id: str,
    model_version: str = "",
    group_spread: float = PRIOR_SPREAD,
) -> pd.DataFrame:
    """Add values up as `total_values` does, of predictions that hold a column per kind of group."""
    if predictions.empty:
        return pd.DataFrame(columns=TOTAL_COLUMNS)
    day = pd.Timestamp(predictions["cutoff_date"].iloc[0])
    rows, kinds = predictions.assign(all="all"), ["all", *group_kinds]
    parts = []
    for horizon, found in rows.groupby("horizon_days"):
        spread, ratio = model.total_error(int(str(horizon)), Cutoff(day.date()))
        luck = ratio * hurdle_variance(
            found["clv"].to_numpy(dtype=np.float64),
            found["probability_purchase"].to_numpy(dtype=np.float64),
        )
        for kind in kinds:
            names = found[kind].astype(object).where(found[kind].notna(), "unknown").astype(str)
            sums = found.assign(luck=luck).groupby(names.to_numpy())
            part = sums.agg(
                count_customers=("clv", "size"), clv=("clv", "sum"), luck=("luck", "sum")
            )
            level = spread if kind == "all" else float(np.hypot(spread, group_spread))
            part = part.rename_axis("group_value").reset_index()
            parts.append(part.assign(horizon_days=int(str(horizon)), group_kind=kind, level=level))
    totals = pd.concat(parts, ignore_index=True)
    clv = totals["clv"].to_numpy(dtype=np.float64)
    relative = totals["luck"].to_numpy(dtype=np.float64) / np.maximum(clv, 1e-9) ** 2
    # The logarithm of a lognormal of that relative variance (method of moments).
    deviation = np.sqrt(totals["level"].to_numpy(dtype=np.float64) ** 2 + np.log1p(relative))
    for name, reach in TOTAL_ENDS.items():
        totals[name] = clv * np.exp(reach * deviation)
    totals = totals.assign(cutoff_date=day, model_version=model_version, run_id=run_id)
    order = ["horizon_days", "group_kind", "group_value"]
    return totals.sort_values(order, ignore_index=True)[list(TOTAL_COLUMNS)]


def estimate_alive(model: CLVModel, features: pd.DataFrame) -> pd.Series[float] | None:
    """Return the chance that each customer still buys, indexed by customer_id.

    Parameters
    ----------
    model
        What serves.
    features
        Rows of ``features.customer_features`` of one cutoff.

    Returns
    -------
    pandas.Series
        Null for customers without an order; None where no purchase history could be fitted.
    """
    if model.history_ is None:
        return None
    alive = model.history_.probability_alive(history_matrix(features))
    return pd.Series(alive, index=features["customer_id"].to_numpy())
