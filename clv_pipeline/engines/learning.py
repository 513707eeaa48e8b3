"""Learning where the rows lie: training rows and xgboost.spark, and answers per part."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost as xgb

from clv_pipeline.engines.lake import FEATURES, LABELS, mount
from clv_pipeline.engines.session import open_spark, running_spark, without_warnings
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

_LABEL, _WEIGHT, _OFFSET = "label", "weight", "offset"
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


@dataclass(frozen=True)
class LearningRows:
    """Numbers of training rows, in files that Spark's workers read: none passes through here.

    Attributes
    ----------
    folder
        Of Parquet files.
    """

    folder: Path

    def boost(
        self,
        teach: Callable[[pd.DataFrame], pd.DataFrame],
        features: Sequence[str],
        feature_types: Sequence[str] | None,
        parameters: Mapping[str, Any],
        trees: int,
        *,
        has_weight: bool = False,
        has_offset: bool = False,
    ) -> xgb.Booster:
        """Fit a booster by xgboost.spark, the rows divided among Spark's workers.

        Each worker holds a part of the rows, and they add their histograms up in every level of a
        tree. Bins are those of all workers' rows, found by each and merged; leaves of quantiles
        are set by each worker's own rows, and their means are taken; each worker draws the rows
        of a tree for itself.

        Parameters
        ----------
        teach
            From rows of the files to ``features``, ``label`` and, where there are any, ``weight``
            and ``offset``; may leave rows out. Sent to the workers.
        feature_types
            XGBoost's code of each feature; quantities when None.
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
        extra = [_LABEL, *[_WEIGHT] * has_weight, *[_OFFSET] * has_offset]
        chosen = {_NAMES.get(k, k): v for k, v in parameters.items() if k not in _LEFT_OUT}
        is_classifier = chosen["objective"] == "binary:logistic"
        if is_classifier:
            del chosen["objective"]
        if has_weight:
            chosen["weight_col"] = _WEIGHT
        if has_offset:
            chosen["base_margin_col"] = _OFFSET
        if feature_types is not None:
            chosen["feature_types"] = list(feature_types)
        with without_warnings():
            from xgboost.spark import SparkXGBClassifier, SparkXGBRegressor

            logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)
            rows = spark.read.parquet(self.folder.as_uri())
            lessons = rows.mapInArrow(_by_batch(teach), _floats([*features, *extra]))
            make = SparkXGBClassifier if is_classifier else SparkXGBRegressor
            estimator = make(
                features_col=list(features),
                label_col=_LABEL,
                num_workers=spark.sparkContext.defaultParallelism,
                verbose=False,
                n_estimators=trees,
                **chosen,
            )
            booster: xgb.Booster = estimator.fit(lessons).get_booster()
        # Matrices of this package come without names.
        booster.feature_names = None
        return booster


@contextmanager
def keep_rows(
    settings: Settings,
    cutoffs: Sequence[Cutoff],
    horizon_days: int,
    features: Sequence[str],
    labels: Sequence[str],
    make: Callable[[pd.DataFrame], pd.DataFrame],
    names: Sequence[str],
) -> Iterator[LearningRows]:
    """Let Spark's workers make numbers of every customer of some cutoffs, kept for a while.

    Parameters
    ----------
    cutoffs, horizon_days
        Whose features are read, with the label over so many days; rows without one are left out.
    features, labels
        Columns that are read, beside the keys.
    make
        From rows with these to numbers, in columns ``names``; may leave rows out. Sent to the
        workers, which must have this package and see the home.
    """
    spark = open_spark(settings)
    mount(spark, settings, {})
    days = ", ".join(f"date '{cutoff}'" for cutoff in cutoffs)
    wanted = [f"features.`{name}`" for name in ("customer_id", "cutoff_date", *features)]
    wanted += [f"labels.`{name}`" for name in labels]
    rows = spark.sql(
        f"""
        select {", ".join(wanted)}
        from {FEATURES} as features
        inner join {LABELS} as labels using (customer_id, cutoff_date)
        where features.cutoff_date in ({days}) and labels.horizon_days = {horizon_days}
        """
    )
    folder = Path(tempfile.mkdtemp(prefix="rows-", dir=_scratch(settings, "learning")))
    try:
        with without_warnings():
            rows.mapInArrow(_by_batch(make), _floats(names)).write.mode("overwrite").parquet(
                folder.as_uri()
            )
        yield LearningRows(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _by_batch(
    answer: Callable[[pd.DataFrame], pd.DataFrame],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Let a function from rows to numbers answer a batch at a time, as Spark hands them over."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = answer(pa.Table.from_batches([batch]).to_pandas(date_as_object=False))
            if len(found):
                columns = {str(c): found[c].to_numpy(dtype=np.float32) for c in found}
                yield from pa.table(columns).to_batches()

    return run


def _floats(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}` float" for name in names)


def _scratch(settings: Settings, name: str) -> Path:
    folder = settings.paths.spark / "scratch" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
