"""Small publications of an online store, made directly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clv_pipeline.publication import swap_published
from clv_pipeline.serving import redis_store
from clv_pipeline.serving.online import FILE, Layout, Version, write_sqlite
from clv_pipeline.settings import Settings

FEATURES = {
    "customer_id": "varchar",
    "cutoff_date": "date",
    "frequency": "double",
    "country": "varchar",
    "has_email_consent": "boolean",
}
VALUES = {
    "customer_id": "VARCHAR",
    "cutoff_date": "DATE",
    "run_id": "VARCHAR",
    "model_version": "VARCHAR",
    "clv_30d": "DOUBLE",
    "clv_30d_p10": "DOUBLE",
    "clv_365d": "DOUBLE",
    "clv_365d_p10": "DOUBLE",
    "probability_purchase_30d": "DOUBLE",
    "expected_orders_30d": "DOUBLE",
    "segment": "VARCHAR",
    "reason_1": "VARCHAR",
    "reason_1_effect": "DOUBLE",
    "reason_2": "VARCHAR",
    "reason_2_effect": "DOUBLE",
}
CUTOFF = "2024-02-29"


def describe(number: int) -> Version:
    """Describe publication number so and so."""
    name = f"{CUTOFF}_run-{number}"
    return Version(name, f"run-{number}", CUTOFF, f"model-{number}", "2024-03-01T00:30:00+00:00")


def make_row(version: Version, customer: str, number: int) -> tuple[str, str, str]:
    """Pack a row whose every figure tells the publication."""
    features = [customer, CUTOFF, number + 0.1, None, True]
    values: list[Any] = [customer, CUTOFF, version.run_id, version.model_version]
    values += [number + 0.25, 0.0, number + 0.5, 0.0, 0.5, 1.5, f"segment {number}"]
    values += ["ordered once", -1.5, None, None]
    return customer, json.dumps(features), json.dumps(values)


def write_version(settings: Settings, number: int, customers: Sequence[str]) -> Path:
    """Write a version's files, not visible yet."""
    version = describe(number)
    rows = [make_row(version, customer, number) for customer in customers]
    folder = settings.paths.versions / version.name
    folder.mkdir(parents=True)
    layout = Layout(FEATURES, VALUES)
    if settings.serving.online_store == "redis":
        client = redis_store.connect(settings)
        redis_store.write_redis(client, "clv", version, layout, iter([rows]))
    else:
        write_sqlite(folder / FILE, version, layout, iter([rows]))
    return folder


def point_to(settings: Settings, folder: Path) -> None:
    """Let a version serve."""
    swap_published(settings, folder)
    if settings.serving.online_store == "redis":
        redis_store.point_to(redis_store.connect(settings), "clv", folder.name)
