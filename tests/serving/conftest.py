from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.dbt_project import install_dbt_project
from clv_pipeline.features.registry import load_features
from clv_pipeline.models import store
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.publication import publish
from clv_pipeline.scoring import score_customers
from clv_pipeline.serving.publishing import add_online_store, finish_publication
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame, replace_rows
from tests.dbt.random_shop import LAST_DAY, TIME_ZONE, random_shop
from tests.features.building import build_features
from tests.support import fill_raw

HORIZONS = (30, 90)
CUTOFF = Cutoff(LAST_DAY)
MODEL = "20240229-untrained"


@dataclass(frozen=True)
class Shop:
    """A shop with every signal, its warehouse built as of one cutoff, and published.

    Attributes
    ----------
    settings
        Of the project.
    raw
        What landed.
    features
        Rows of ``features.customer_features``.
    """

    settings: Settings
    raw: dict[str, pd.DataFrame]
    features: pd.DataFrame


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    settings = build_settings(
        tmp_path_factory.mktemp("served"),
        {"project": {"time_zone": TIME_ZONE}, "value": {"horizons": list(HORIZONS)}},
    )
    raw = make_raw()
    fill_raw(settings, raw)
    build_features(settings, [CUTOFF], CUTOFF)
    with open_warehouse(settings, read_only=True) as connection:
        features = read_frame(
            connection, "SELECT * FROM features.customer_features ORDER BY customer_id"
        )
    # Without labels the model answers by rate times value: nothing needs to be trained.
    model = CLVModel(HORIZONS)
    store.save_model(settings.paths.models, model, {"model_version": MODEL})
    write_values(settings, model, features, "run1")
    publish_now(settings, "run1")
    return Shop(settings, raw, features)


def make_raw() -> dict[str, pd.DataFrame]:
    """Make rows of every input, late, repeated, restated, refunded and merged."""
    raw = random_shop(seed=7, customers=60)
    random = np.random.default_rng(7)
    lines = raw["transactions"]
    kinds = np.array([None, "fruit", "bread"], dtype=object)
    raw["transactions"] = lines.assign(
        category=random.choice(kinds, len(lines)),
        quantity=random.integers(1, 4, len(lines)).astype(float),
        discount=np.where(random.random(len(lines)) < 0.5, 1.25, np.nan),
        country=random.choice(["US", "DE"], len(lines)),
    )
    events = raw["events"]
    people = events["user_id"].unique()[:30]
    when = events["ts"].iloc[: len(people)].to_numpy()
    raw["campaign_exposures"] = pd.DataFrame(
        {
            "user_id": people,
            "ts": when,
            "campaign_id": "spring",
            "arm": np.where(np.arange(len(people)) % 3, "treated", "control"),
        }
    )
    raw["texts"] = pd.DataFrame(
        {
            "user_id": people[:12],
            "ts": when[:12],
            "kind": "review",
            "text": ["very good, thank you", "awful, I want my money back"] * 6,
        }
    )
    return raw


def write_values(settings: Settings, model: CLVModel, features: pd.DataFrame, run_id: str) -> None:
    """Put the model's answers where the mart has them."""
    scores = score_customers(model, features, settings, run_id, MODEL)
    columns = ["clv", "clv_p10", "clv_p50", "clv_p90", "probability_purchase"]
    wide: dict[str, Any] = {}
    for horizon in HORIZONS:
        rows = scores[scores["horizon_days"] == horizon]
        for column in columns:
            measure, bound = column.split("_p") if column.startswith("clv_p") else (column, "")
            name = f"{measure}_{horizon}d" + (f"_p{bound}" if bound else "")
            wide[name] = rows[column].to_numpy()
    order = scores[scores["horizon_days"] == HORIZONS[0]]
    frame = order[["customer_id", "cutoff_date"]].reset_index(drop=True).assign(**wide)
    frame = frame.assign(run_id=run_id, model_version=MODEL, segment="loyal")
    frame["cutoff_date"] = pd.to_datetime(frame["cutoff_date"])
    with open_warehouse(settings) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS clv")
        replace_rows(connection, "clv.customer_clv", frame)
        connection.execute("ALTER TABLE clv.customer_clv ALTER cutoff_date TYPE DATE")


def publish_now(settings: Settings, run_id: str) -> None:
    """Publish without an audit."""
    install_dbt_project(settings)
    load_features(settings.paths.dbt_project)
    published = publish(
        settings, run_id, CUTOFF, lambda _: None, lambda folder: add_online_store(settings, folder)
    )
    finish_publication(settings, published.version)
