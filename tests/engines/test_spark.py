"""Spark builds what DuckDB builds. One session, and one pair of homes, for the whole file."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from sklearn.metrics import mean_pinball_loss

from benchmarks.comparing import Pair
from clv_pipeline.dbt_project import dbt_variables, packaged_dbt_project
from clv_pipeline.engines import lake
from clv_pipeline.engines.learning import boost_on_spark, count_histories
from clv_pipeline.engines.session import find_java, open_spark, spark_config
from clv_pipeline.features.registry import load_features
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.ingest.shop.write import write_shop
from clv_pipeline.models import boosters, store
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.btyd.bgnbd import BGNBD
from clv_pipeline.models.panel import Matrix
from clv_pipeline.scoring import score_customers, score_on_spark
from clv_pipeline.settings import Settings, build_settings, load_settings
from clv_pipeline.stand_in import make_stand_in
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import STAGES, run_dbt
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.conftest import SHARED_DATA
from tests.dbt.random_shop import random_shop
from tests.support import cdnow_transactions, fill_raw

pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None or find_java() is None,
        reason="Spark needs the extra `spark` and Java",
    ),
]
RETAIL = SHARED_DATA / "online_retail_ii" / "online_retail_2009-12_2010-12.parquet"
# A session for tables of a few thousand rows: compiling would take longer than computing.
SPARK: dict[str, Any] = {
    "name": "spark",
    "spark_master": "local[2]",
    "spark_memory": "1g",
    "spark_partitions": 2,
    "spark_options": {
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    },
}
# Within CDNOW, Online Retail II, the random shop and the simulated one.
CUTOFFS = [date(1997, 9, 30), date(2010, 8, 31), date(2023, 9, 30), date(2024, 1, 31)]
END = date(2024, 2, 29)
TABLES = [
    f"{stage}.{path.stem}"
    for stage in STAGES
    if stage != "marts"
    for path in sorted((packaged_dbt_project() / "models" / stage).glob("*.sql"))
]


def transactions() -> pd.DataFrame:
    """Return every tenth customer of CDNOW and, where it lies there, of Online Retail II."""
    cdnow = cdnow_transactions()
    cdnow = cdnow[cdnow["user_id"].astype(int) % 10 == 0]
    parts = [cdnow.assign(user_id="cdnow " + cdnow["user_id"], _file_id=9_001)]
    if RETAIL.is_file():
        rows = pd.read_parquet(RETAIL)
        who = rows["CustomerID"].fillna(rows["Invoice"].str.extract(r"(\d+)")[0].astype(float))
        rows = rows[(who % 10 == 0) & (rows["Price"] > 0)]
        names = "retail " + rows["CustomerID"].astype("Int64").astype("string")
        parts.append(
            pd.DataFrame(
                {
                    "user_id": names.astype(object).where(names.notna(), None),
                    "transaction_id": "retail " + rows["Invoice"],
                    "ts": rows["InvoiceDate"],
                    "amount": (rows["Quantity"] * rows["Price"]).round(4),
                    "sku": rows["StockCode"],
                    "is_refund": rows["Invoice"].str.startswith("C"),
                    "quantity": rows["Quantity"].astype(float),
                    "_file_id": 9_002,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def build(settings: Settings, cutoffs: list[date], *selected: str, through: date = END) -> None:
    stages = selected or tuple(STAGES[stage] for stage in STAGES if stage != "marts")
    chosen = [part for stage in stages for part in ("--select", stage)]
    command = ["build", *chosen, "--exclude-resource-type", "test"]
    days = [Cutoff(day) for day in cutoffs]
    run_dbt(settings, command, dbt_variables(settings, days, Cutoff(through), "run"))


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Settings]:
    """The same landed rows of four shops in one, built by DuckDB and by Spark."""
    root = tmp_path_factory.mktemp("engines")
    shop = write_shop(
        root / "shop",
        customers=60,
        days=800,
        cutoffs=[CUTOFFS[-1]],
        horizons=(30, 90),
        files_per="all",
    )
    ours = load_settings(shop.folder)
    land_inputs(ours, "run")
    for name, frame in random_shop(seed=3, customers=50).items():
        fill_raw(ours, {name: frame.assign(_file_id=frame["_file_id"] + 9_010)}, append=True)
    fill_raw(ours, {"transactions": transactions()}, append=True)
    document = tomllib.loads(shop.config.read_text(encoding="utf-8"))
    theirs = build_settings(root / "spark", {**document, "engine": SPARK})
    theirs.paths.home.mkdir(parents=True)
    build(ours, CUTOFFS)
    shutil.copy(ours.paths.warehouse, theirs.paths.warehouse)
    build(theirs, CUTOFFS)
    return ours, theirs


@pytest.fixture
def pair(homes: tuple[Settings, Settings]) -> Iterator[Pair]:
    pair = Pair(*(home.paths.warehouse for home in homes))
    yield pair
    pair.close()


@pytest.mark.parametrize("table", TABLES)
def test_spark_builds_the_same_table(pair: Pair, table: str) -> None:
    assert pair.count(f"FROM ours.{table}") > 0
    assert pair.differences(table) == {}


def test_a_cutoff_loses_labels_that_have_not_matured_and_the_others_keep_theirs(
    homes: tuple[Settings, Settings],
) -> None:
    lake._mounted.clear()  # as in another process: the folders say which tables there are
    day = CUTOFFS[2]
    for settings in homes:
        build(settings, [day], "customer_labels", through=day)
    pair = Pair(*(home.paths.warehouse for home in homes))
    try:
        assert pair.differences("as_of.customer_labels") == {}
        for name in ("ours", "theirs"):
            assert not pair.count(f"FROM {name}.as_of.customer_labels WHERE cutoff_date = '{day}'")
            assert pair.count(f"FROM {name}.as_of.customer_labels")
    finally:
        pair.close()


def test_everything_lies_below_the_home(homes: tuple[Settings, Settings]) -> None:
    folder = homes[1].paths.spark
    assert {path.name for path in folder.iterdir()} == {
        "lake",
        "log4j2.properties",
        "scratch",
        "sources",
        "spark.log",
    }
    for name in ("spark-warehouse", "metastore_db", "derby.log", "artifacts"):
        assert not Path(name).exists()


def test_nobody_but_this_machine_reaches_the_session(homes: tuple[Settings, Settings]) -> None:
    config = spark_config(homes[1])
    assert config["spark.ui.enabled"] == "false"
    assert config["spark.driver.bindAddress"] == config["spark.driver.host"] == "127.0.0.1"


def parameters(**further: Any) -> dict[str, Any]:
    return {
        "tree_method": "hist",
        "max_depth": 3,
        "eta": 0.3,
        "lambda": 1.0,
        "max_bin": 64,
        "seed": 1,
        "nthread": 1,
        "verbosity": 0,
        **further,
    }


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Quantities with few values, so that bins are the same however rows are divided."""
    random = np.random.default_rng(0)
    values = random.integers(0, 20, (600, 4)).astype(np.float32)
    values[:, 3] = random.integers(0, 3, 600)
    values[::7, 1] = np.nan
    return values, values[:, 0] / 10 + (values[:, 3] == 1) + random.random(600)


@pytest.mark.parametrize(
    "objective",
    [
        {"objective": "binary:logistic", "base_score": 0.4},
        {"objective": "reg:tweedie", "tweedie_variance_power": 1.5, "base_score": 1.0},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
    ],
    ids=lambda part: part["objective"],
)
def test_boosters_are_those_of_one_process(
    homes: tuple[Settings, Settings], objective: dict[str, Any]
) -> None:
    open_spark(homes[1])
    values, label = rows()
    is_classifier = objective["objective"] == "binary:logistic"
    y = (label > 1.5).astype(np.float32) if is_classifier else label.astype(np.float32)
    weight = np.where(values[:, 0] > 5, 2.0, 1.0).astype(np.float32)
    offset = (values[:, 2] / 50).astype(np.float32)
    kinds = ["q", "q", "q", "c"]
    matrix = xgb.QuantileDMatrix(
        values, y, feature_types=kinds, enable_categorical=True, max_bin=64, weight=weight
    )
    has_one_output = "quantile_alpha" not in objective
    if has_one_output:
        matrix.set_base_margin(offset)
    chosen = parameters(**objective)
    ours = xgb.train(chosen, matrix, 5)
    theirs = boost_on_spark(values, kinds, y, chosen, 5, weight, offset if has_one_output else None)
    expected, found = (np.asarray(b.inplace_predict(values)) for b in (ours, theirs))
    assert np.ptp(expected) > 0.1
    if has_one_output:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    else:
        # Workers set leaves by their own rows and take the mean: no worse, but not the same.
        alpha = objective["quantile_alpha"]
        loss = [mean_pinball_loss(y, p[:, 0], alpha=alpha[0]) for p in (expected, found)]
        assert loss[1] < 1.05 * loss[0] < 1.05 * mean_pinball_loss(y, 0 * y, alpha=alpha[0])


def test_large_training_sets_go_to_spark(
    homes: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = homes[1].engine
    assert engine.distributes(engine.spark_learning_rows)
    assert not engine.distributes(engine.spark_learning_rows - 1)
    assert not homes[0].engine.distributes(10**9)
    sent = []
    monkeypatch.setattr(boosters, "boost_on_spark", lambda values, *_: sent.append(len(values)))
    values, label = rows()
    matrix = Matrix(
        np.arange(600).astype(str),
        np.full(600, "2024-01-01", "datetime64[D]"),
        ("a", "b", "c", "d"),
        values,
    )
    options = replace(FitOptions.from_settings(homes[1], 90), distributed_rows=600, trees=1)
    boosters.boost(matrix, label, options, {"objective": "reg:squarederror"})
    assert sent == [600]
    boosters.boost(matrix.take(np.arange(599)), label[:599], options, {"objective": "reg:gamma"})
    assert sent == [600]
    assert FitOptions.from_settings(homes[1], 90).distributed_rows == 200_000
    assert FitOptions.from_settings(homes[0], 90).distributed_rows == 0


def test_purchase_models_are_fitted_on_counts(homes: tuple[Settings, Settings]) -> None:
    cutoff = Cutoff(CUTOFFS[0])
    counts = count_histories(homes[1], cutoff)
    with open_warehouse(homes[0], read_only=True) as connection:
        customers = read_frame(
            connection,
            "SELECT frequency, recency, T FROM features.customer_features "
            "WHERE cutoff_date = ? AND count_order_days > 0",
            [cutoff.day],
        )
    names = list(customers)
    assert list(counts) == [*names, "count_customers"]
    expected = customers.groupby(names).size().rename("count_customers").reset_index()
    pd.testing.assert_frame_equal(counts, expected, check_dtype=False)
    assert len(counts) < len(customers)
    one_by_one = BGNBD().fit(*(customers[name] for name in names))
    collapsed = BGNBD().fit(*(counts[name] for name in names), weights=counts["count_customers"])
    assert collapsed.parameters_ == pytest.approx(one_by_one.parameters_, rel=1e-6)


def test_answers_are_those_of_one_process(homes: tuple[Settings, Settings]) -> None:
    cutoff = Cutoff(CUTOFFS[0])
    ours, theirs = homes
    with open_warehouse(ours, read_only=True) as connection:
        features = read_frame(
            connection,
            "SELECT * FROM features.customer_features WHERE cutoff_date = ?",
            [cutoff.day],
        )
    model, manifest = make_stand_in(ours, features, load_features(), "run", "a test")
    store.save_model(theirs.paths.models, model, manifest)
    version = str(manifest["model_version"])
    expected = score_customers(model, features, ours, "run", version)
    parts = list(score_on_spark(theirs, model.columns, cutoff, "run", version))
    keys = ["customer_id", "horizon_days"]
    found = pd.concat([part.to_pandas(date_as_object=False) for part in parts])
    found = found.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(
        found[list(expected)], expected.sort_values(keys, ignore_index=True), check_dtype=False
    )
