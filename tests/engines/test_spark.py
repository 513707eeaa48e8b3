"""Spark builds what DuckDB builds. One session, and one pair of homes, for the whole file."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clv_pipeline.engines import lake
from clv_pipeline.engines.session import find_java, spark_config
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.ingest.shop.write import write_shop
from clv_pipeline.settings import Settings, build_settings, load_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import STAGES, dbt_variables, packaged_dbt_project, run_dbt
from tests.conftest import SHARED_DATA
from tests.dbt.random_shop import random_shop
from tests.engines.comparing import Pair
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
