"""Learning where the rows lie: xgboost.spark, counts of purchase histories, answers per part."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost as xgb
from numpy.typing import NDArray

from clv_pipeline.engines.lake import mount
from clv_pipeline.engines.session import open_spark, running_spark, without_warnings
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

FEATURES = "features.customer_features"
_LABEL, _WEIGHT, _OFFSET = "label", "weight", "base_margin"
# XGBoost's names -> those of its estimators.
_NAMES = {"eta": "learning_rate", "lambda": "reg_lambda", "seed": "random_state"}
# Spark says by its settings how many threads a worker has, and the estimator chooses a classifier's
# objective.
_LEFT_OUT = ("nthread",)
_SPARK_TYPES = {
    pa.string(): "string",
    pa.date32(): "date",
    pa.int64(): "bigint",
    pa.float64(): "double",
}


def boost_on_spark(
    values: NDArray[np.float32],
    feature_types: Sequence[str] | None,
    label: NDArray[Any],
    parameters: Mapping[str, Any],
    trees: int,
    weight: NDArray[Any] | None = None,
    offset: NDArray[Any] | None = None,
) -> xgb.Booster:
    """Fit a booster by xgboost.spark, its rows divided among Spark's workers.

    Each worker holds a part of the rows, and they add their histograms up in every level of a tree.
    Only quantiles differ from what one process finds: each worker sets the values of leaves by its
    own rows, and their means are taken.

    Parameters
    ----------
    values
        Shape (n, p); NaN is missing.
    feature_types
        XGBoost's code of each column; quantities when None.
    label, weight, offset
        Shape (n,) each.
    parameters
        As ``xgboost.train`` takes them.
    trees
        Rounds of boosting.

    Raises
    ------
    EngineError
        If no Spark session runs in this process.
    """
    spark = running_spark()
    with without_warnings():
        from xgboost.spark import SparkXGBClassifier, SparkXGBRegressor

        logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)
        names = [f"f{k}" for k in range(values.shape[1])]
        columns = {name: values[:, k] for k, name in enumerate(names)}
        columns[_LABEL] = label.astype(np.float32)
        further: dict[str, Any] = {}
        if weight is not None:
            columns[_WEIGHT], further["weight_col"] = weight.astype(np.float32), _WEIGHT
        if offset is not None:
            columns[_OFFSET], further["base_margin_col"] = offset.astype(np.float32), _OFFSET
        if feature_types is not None:
            further["feature_types"] = list(feature_types)
        rows = spark.createDataFrame(pa.table(columns))
        workers = min(spark.sparkContext.defaultParallelism, len(label))
        chosen = {_NAMES.get(k, k): v for k, v in parameters.items() if k not in _LEFT_OUT}
        is_classifier = chosen["objective"] == "binary:logistic"
        if is_classifier:
            del chosen["objective"]
        make = SparkXGBClassifier if is_classifier else SparkXGBRegressor
        estimator = make(
            features_col=names,
            label_col=_LABEL,
            num_workers=workers,
            verbose=False,
            n_estimators=trees,
            **further,
            **chosen,
        )
        booster: xgb.Booster = estimator.fit(rows).get_booster()
    # Matrices of this package come without names.
    booster.feature_names = None
    return booster


def count_histories(settings: Settings, cutoff: Cutoff) -> pd.DataFrame:
    """Let Spark count the customers of each purchase history, which is all that a fit needs.

    Customers with the same frequency, recency and T have the same likelihood, so a
    buy-till-you-die model is fitted on these rows with their counts as weights, however many
    customers there are.

    Returns
    -------
    DataFrame
        ``frequency``, ``recency``, ``T`` in days, and ``count_customers``, in that order; customers
        without an order are left out.
    """
    spark = open_spark(settings)
    mount(spark, settings, {})
    rows = spark.sql(
        f"""
        select frequency, recency, `T`, count(*) as count_customers
        from {FEATURES}
        where cutoff_date = date '{cutoff}' and count_order_days > 0
        group by frequency, recency, `T`
        order by frequency, recency, `T`
        """
    ).toArrow()
    found: pd.DataFrame = rows.to_pandas()
    return found


def map_cutoff(
    settings: Settings,
    cutoff: Cutoff,
    names: Sequence[str],
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """Let Spark's workers answer for the customers of a cutoff, and return what they wrote.

    Parameters
    ----------
    names
        Features that are read, beside the keys; those that the table does not have are left out.
    answer
        From rows of features to rows of ``schema``; sent to the workers, which must have this
        package and see the home.
    schema
        Of the answers: texts, days, whole numbers and doubles.

    Yields
    ------
    pyarrow.Table
        A part of the answers, each customer once, in no order.
    """
    spark = open_spark(settings)
    mount(spark, settings, {})
    table = spark.table(FEATURES)
    held = set(table.columns)
    chosen = ["customer_id", "cutoff_date", *(name for name in names if name in held)]
    rows = table.where(f"cutoff_date = date '{cutoff}'").select(*(f"`{name}`" for name in chosen))

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            frame = pa.Table.from_batches([batch]).to_pandas(date_as_object=False)
            found = pa.Table.from_pandas(answer(frame), schema=schema, preserve_index=False)
            yield from found.to_batches()

    folder = settings.paths.spark / "answers"
    shutil.rmtree(folder, ignore_errors=True)
    kinds = ", ".join(f"`{field.name}` {_SPARK_TYPES[field.type]}" for field in schema)
    with without_warnings():
        parts = rows.repartition(settings.engine.spark_partitions).mapInArrow(run, kinds)
        parts.write.parquet(folder.as_uri())
    for file in sorted(folder.glob("*.parquet")):
        yield pq.read_table(file)
    shutil.rmtree(folder, ignore_errors=True)
