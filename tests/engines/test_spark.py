"""Spark builds what DuckDB builds. One session, and one pair of homes, for the whole file."""

from __future__ import annotations

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
from clv_pipeline.drawing import NOBODY_DRAWN, Draw
from clv_pipeline.engines import lake
from clv_pipeline.engines.building import drop_past_cutoffs
from clv_pipeline.engines.counting import count_histories
from clv_pipeline.engines.learning import LearningRows
from clv_pipeline.engines.session import open_spark, spark_config
from clv_pipeline.features.registry import load_features
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.ingest.shop.write import write_shop
from clv_pipeline.models import history, store
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.fold import Workbench
from clv_pipeline.models.histories import Histories
from clv_pipeline.models.panel import Panel
from clv_pipeline.orchestration.learning import read_panel
from clv_pipeline.scoring import score_customers, score_on_spark
from clv_pipeline.settings import Settings, build_settings, load_settings
from clv_pipeline.stand_in import make_stand_in
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import STAGES, run_dbt
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.conftest import SHARED_DATA
from tests.dbt.random_shop import random_shop
from tests.engines.spark import NEEDS_SPARK, SPARK
from tests.support import cdnow_transactions, fill_raw

pytestmark = NEEDS_SPARK
RETAIL = SHARED_DATA / "online_retail_ii" / "online_retail_2009-12_2010-12.parquet"
# The data of every shop are moved to end on the day on which the random one's do.
END = date(2024, 2, 29)
CUTOFFS = [date(2023, 9, 30), date(2023, 12, 31)]
TABLES = [
    f"{stage}.{path.stem}"
    for stage in STAGES
    if stage != "marts"
    for path in sorted((packaged_dbt_project() / "models" / stage).glob("*.sql"))
]


def transactions() -> pd.DataFrame:
    """Return the whole of CDNOW and, where it lies there, a tenth of Online Retail II.

    `python -m benchmarks.engines` compares the whole of both.
    """
    cdnow = cdnow_transactions()
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
    for part in parts:
        part["ts"] += pd.Timestamp(END) - part["ts"].max().normalize()
    return pd.concat(parts, ignore_index=True)


def build(
    settings: Settings,
    cutoffs: list[date],
    *selected: str,
    through: date = END,
    draw: Draw = NOBODY_DRAWN,
) -> None:
    stages = selected or tuple(STAGES[stage] for stage in STAGES if stage != "marts")
    chosen = [part for stage in stages for part in ("--select", stage)]
    command = ["build", *chosen, "--exclude-resource-type", "test"]
    days = [Cutoff(day) for day in cutoffs]
    run_dbt(settings, command, dbt_variables(settings, days, Cutoff(through), "run", draw))


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


def test_everything_lies_below_the_home(homes: tuple[Settings, Settings]) -> None:
    names = {path.name for path in homes[1].paths.spark.iterdir()}
    # What the session itself writes lies below the home that opened it.
    of_session = {"log4j2.properties", "scratch", "spark.log"}
    assert {"lake", "sources"} <= names <= {"lake", "sources"} | of_session
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
    homes: tuple[Settings, Settings], tmp_path: Path, objective: dict[str, Any]
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
    names = [f"f{k}" for k in range(4)]
    columns = dict(zip(names, values.T, strict=True))
    columns |= {"label": y, "weight": weight, "offset": offset}
    for k in range(2):
        part = pd.DataFrame({name: column[k::2] for name, column in columns.items()})
        part.to_parquet(tmp_path / f"{k}.parquet")
    theirs = LearningRows(tmp_path).boost(
        lambda part: part if has_one_output else part.drop(columns="offset"),
        names,
        kinds,
        chosen,
        5,
        has_weight=True,
        has_offset=has_one_output,
    )
    expected, found = (np.asarray(b.inplace_predict(values)) for b in (ours, theirs))
    assert np.ptp(expected) > 0.1
    if has_one_output:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    else:
        # Workers set leaves by their own rows and take the mean: no worse, but not the same.
        alpha = objective["quantile_alpha"]
        loss = [mean_pinball_loss(y, p[:, 0], alpha=alpha[0]) for p in (expected, found)]
        assert loss[1] < 1.05 * loss[0] < 1.05 * mean_pinball_loss(y, 0 * y, alpha=alpha[0])


def read_both(homes: tuple[Settings, Settings]) -> Panel:
    """Return the panel that both homes hold: they are equal, as other tests say."""
    columns = load_features()
    cutoffs = tuple(Cutoff(day) for day in CUTOFFS)
    return Panel.build(*read_panel(homes[0], cutoffs, columns), columns)


def test_purchase_models_are_fitted_on_counts(
    homes: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_CUSTOMERS", 10**9)
    panel, newest = read_both(homes), Cutoff(CUTOFFS[1])
    counts = count_histories(homes[1], panel.cutoffs)
    buyers = panel.for_cutoffs([newest]).features.query("count_order_days > 0")
    names = ["frequency", "recency", "T"]
    expected = buyers.groupby(names).size().rename("count_customers").reset_index()
    found = counts[newest].purchases
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert len(found) < len(buyers) / 2
    # From the rows that DuckDB holds, and from what Spark has counted.
    ours = Histories(panel, 0).at(newest)
    theirs = Histories(panel, 0, counts).at(newest)
    assert ours is not None
    assert theirs is not None
    for name in ("parameters", "spend_parameters"):
        one, other = ours.describe()[name], theirs.describe()[name]
        assert other == pytest.approx(one, rel=1e-6)
    few = count_histories(homes[1], [newest], most=1_000)[newest]
    assert 900 < few.purchases["count_customers"].sum() < 1_100
    assert few.spend["count_customers"].sum() == few.purchases["count_customers"].sum()


def test_experts_learn_where_the_rows_lie(homes: tuple[Settings, Settings]) -> None:
    """Large training sets are fitted by Spark, and say what those of one process say."""
    panel, (learned, newest) = read_both(homes), (Cutoff(day) for day in CUTOFFS)
    counts = count_histories(homes[1], panel.cutoffs)
    said = []
    for settings, distributed in zip(homes, (0, 1), strict=True):
        options = replace(
            FitOptions.from_settings(settings, 30),
            trees=20,
            # Small steps: of large ones, the rows that a tree draws decide more.
            learning_rate=0.08,
            max_rows=10**6,
            max_quantile_rows=10**6,
            distributed_rows=distributed,
        )
        bench = Workbench(panel, options, Histories(panel, 0, counts), settings=settings)
        experts = bench.experts([learned])
        rows = panel.for_cutoffs([newest]).features
        said.append(experts.level_zero.predict(bench.matrix(rows, experts)))
    ours, theirs = said
    for kind in ("value", "probability", "orders"):
        for name, one in getattr(ours, kind).items():
            other = getattr(theirs, kind)[name]
            # Each worker draws the rows of a tree for itself: as much as two seeds differ in.
            assert other.sum() == pytest.approx(one.sum(), rel=0.08), (kind, name)
            assert np.corrcoef(one, other)[0, 1] > 0.97, (kind, name)
    np.testing.assert_array_equal(theirs.cluster, ours.cluster)
    assert not list((homes[1].paths.spark / "scratch" / "learning").iterdir())
    assert FitOptions.from_settings(homes[1], 90).distributed_rows == 200_000
    assert FitOptions.from_settings(homes[0], 90).distributed_rows == 0


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


def test_a_cutoff_loses_labels_that_have_not_matured_and_the_others_keep_theirs(
    homes: tuple[Settings, Settings],
) -> None:
    lake._mounted.clear()  # as in another process: the folders say which tables there are
    day = CUTOFFS[0]
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


def test_a_drawn_share_is_the_same_customers(homes: tuple[Settings, Settings]) -> None:
    draw, stages = Draw(frozenset({Cutoff(CUTOFFS[0])}), 2), ("as_of", "features")
    for settings in homes:
        build(settings, CUTOFFS, *(STAGES[stage] for stage in stages), draw=draw)
    pair = Pair(*(home.paths.warehouse for home in homes))
    try:
        shares = "SELECT DISTINCT cutoff_date, share_of_customers FROM ours.as_of.customer_spine"
        assert pair.count(f"FROM ({shares} WHERE share_of_customers IN (0.25, 1))") == 2
        for table in TABLES:
            if table.partition(".")[0] in stages:
                assert pair.differences(table) == {}, table
    finally:
        pair.close()


def test_cutoffs_that_fell_behind_are_dropped_and_built_again(
    homes: tuple[Settings, Settings],
) -> None:
    stages = ("as_of", "features")
    kept = Cutoff(CUTOFFS[-1])
    for settings in homes:
        build(settings, CUTOFFS, *(STAGES[stage] for stage in stages))
        assert drop_past_cutoffs(settings, [kept], is_training=True) == CUTOFFS[:-1]
    for again in (False, True):
        if again:
            for settings in homes:
                build(settings, CUTOFFS[:1], *(STAGES[stage] for stage in stages))
        pair = Pair(*(home.paths.warehouse for home in homes))
        try:
            days = "SELECT DISTINCT cutoff_date FROM theirs.as_of.customer_spine"
            assert pair.count(f"FROM ({days})") == 1 + again
            # What is written anew in every run holds that run's cutoffs, until the next one.
            for table in (*(t for t in TABLES if t.startswith("as_of.")), lake.FEATURES):
                assert pair.differences(table) == {}, table
        finally:
            pair.close()
