"""Feast itself applies what we export, and gives the same historical values back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from clv_pipeline.cli import cli
from clv_pipeline.features.registry import load_features, online_schema
from clv_pipeline.features.store import FeatureStore, RetrievalError
from clv_pipeline.serving.feast_repository import export_repository
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, quote_identifier

ZONE = "America/New_York"
DAYS = (date(2024, 1, 31), date(2024, 2, 29))
CUSTOMERS = ("a", "b", "ünï 'c'")
# Runs in Feast's own environment, whose pandas is older than ours.
ASK = """
import json, sys
import pandas as pd
from feast import FeatureStore
store = FeatureStore(repo_path=sys.argv[1])
spine = pd.read_json(sys.stdin, orient="records", dtype={"customer_id": str}, convert_dates=False)
spine["event_timestamp"] = pd.to_datetime(spine["event_timestamp"], utc=True)
for name in json.loads(sys.argv[2]):
    service = store.get_feature_service(name)
    found = store.get_historical_features(entity_df=spine, features=service).to_df()
    found["event_timestamp"] = found["event_timestamp"].astype(str)
    print(name + "\\t" + found.to_json(orient="records", double_precision=15))
"""


@pytest.fixture
def filled(make_settings: Callable[..., Settings]) -> Settings:
    """Two snapshots of every registered feature, made directly; one customer comes later."""
    settings = make_settings(
        project={"name": "my-shop", "time_zone": ZONE}, features={"max_age_days": 20}
    )
    random = np.random.default_rng(3)
    schema = online_schema(load_features())

    def cell(kind: str) -> Any:
        if random.random() < 0.2:
            return None
        made = {"varchar": "wörd", "boolean": bool(random.integers(2))}
        return made.get(kind, float(random.integers(0, 1000)) / 8)

    columns = ", ".join(f"{quote_identifier(name)} {kind}" for name, kind in schema.items())
    with open_warehouse(settings) as connection:
        connection.execute("CREATE SCHEMA features")
        connection.execute(f"CREATE TABLE features.customer_features ({columns})")
        for day in DAYS:
            for customer in CUSTOMERS[: 2 if day == DAYS[0] else 3]:
                values = [cell(kind) for kind in list(schema.values())[2:]]
                marks = ", ".join("?" * len(schema))
                connection.execute(
                    f"INSERT INTO features.customer_features VALUES ({marks})",
                    [customer, day, *values],
                )
        connection.execute("CREATE SCHEMA as_of")
        connection.execute(
            "CREATE TABLE as_of.customer_spine AS SELECT customer_id, cutoff_date, "
            "1::DOUBLE AS share_of_customers FROM features.customer_features"
        )
    return settings


@pytest.fixture(scope="session")
def feast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment with Feast, made for the test where none is named."""
    named = os.environ.get("CLV_FEAST_ENVIRONMENT")
    if named:
        return Path(named) / "bin"
    folder = tmp_path_factory.mktemp("feast") / "venv"
    wanted = ["feast>=0.67,<0.68", "pandas<3"]
    uv = shutil.which("uv")
    make = [uv, "venv", "-q", str(folder)] if uv else [sys.executable, "-m", "venv", str(folder)]
    python = str(folder / "bin" / "python")
    install = [uv, "pip", "install", "-q", "--python", python] if uv else [python, "-m", "pip"]
    # To compile all of it takes longer than to use the little that is asked for.
    quiet = ["install", "-q", "--no-compile", "--disable-pip-version-check"]
    install += wanted if uv else [*quiet, *wanted]
    for command in (make, install):
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        except subprocess.TimeoutExpired:
            pytest.skip("Feast can't be installed here within five minutes")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"Feast can't be installed here: {error.stderr.strip()[-300:]}")
    return folder / "bin"


def test_the_export_is_a_repository_without_feast(filled: Settings, tmp_path: Path) -> None:
    done = export_repository(filled, tmp_path / "repo")
    assert done.rows == 5
    assert "feat_rfm" in done.views
    assert {"value_v1", "value_v2", "contact_v1"} <= set(done.services)
    text = (tmp_path / "repo" / "clv_features.py").read_text()
    compile(text, "clv_features.py", "exec")
    frame = pd.read_parquet(tmp_path / "repo" / "data" / "customer_features.parquet")
    # The day is over at midnight in New York.
    assert set(frame["event_timestamp"].dt.tz_convert("UTC").astype(str)) == {
        "2024-02-01 05:00:00+00:00",
        "2024-03-01 05:00:00+00:00",
    }
    assert "project: my_shop" in (tmp_path / "repo" / "feature_store.yaml").read_text()


def test_nothing_to_export_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    with open_warehouse(settings):
        pass
    with pytest.raises(RetrievalError, match="run `clv run` first"):
        export_repository(settings, tmp_path / "repo")


def test_the_command_needs_a_folder() -> None:
    found = CliRunner().invoke(cli, ["features", "export"])
    assert found.exit_code == 2
    assert "--feast" in found.output


@pytest.mark.slow
def test_feast_gives_the_same_historical_values(
    filled: Settings, feast: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repo"
    export_repository(filled, repository)
    services = ["value_v2", "contact_v1"]
    over = datetime(2024, 2, 1, 5, tzinfo=UTC)
    moments = [
        over - timedelta(seconds=1),  # before the first snapshot
        over,  # the moment at which its day was over
        over + timedelta(days=7, hours=3),
        over + timedelta(days=20, hours=23),  # the last day of its age
        over + timedelta(days=21),  # too old
        datetime(2024, 3, 2, 12, tzinfo=UTC),
    ]
    spine = pd.DataFrame(
        [(customer, when) for customer in (*CUSTOMERS, "nobody") for when in moments],
        columns=["customer_id", "event_timestamp"],
    )
    environment = os.environ | {"FEAST_USAGE": "False", "DO_NOT_TRACK": "1"}
    applied = subprocess.run(
        [feast / "feast", "-c", repository, "apply"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert applied.returncode == 0, applied.stderr
    sent = spine.assign(event_timestamp=spine["event_timestamp"].astype(str))
    asked = subprocess.run(
        [feast / "python", "-c", ASK, repository, json.dumps(services)],
        input=sent.to_json(orient="records"),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert asked.returncode == 0, asked.stderr
    ours = FeatureStore(filled)
    asked_of_us = spine.rename(columns={"event_timestamp": "timestamp"})
    lines = dict(line.split("\t", 1) for line in asked.stdout.splitlines() if "\t" in line)
    assert set(lines) == set(services)
    for name, text in lines.items():
        theirs = {
            (row["customer_id"], pd.Timestamp(row["event_timestamp"])): row
            for row in json.loads(text)
        }
        names = ours.list_services()[name].feature_names
        held = ours.get_historical_features(asked_of_us, name)
        count_found = 0
        for row in held.to_dict("records"):
            values = {feature: None if pd.isna(row[feature]) else row[feature] for feature in names}
            # Feast's file store leaves out rows for which it has nothing of the right age.
            empty = dict.fromkeys(names)
            found = theirs.get((row["customer_id"], row["timestamp"]), empty)
            assert {feature: found[feature] for feature in names} == values
            count_found += values != empty
        # Two customers at three moments, three at the last.
        assert count_found == 9
