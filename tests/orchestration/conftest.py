"""A small project on real orders, moved in time so that they end yesterday."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from clv_pipeline.progress import Progress
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.timeline import Cutoff
from tests.orchestration.support import HOSTILE
from tests.support import build_once

CDNOW = Path(__file__).resolve().parents[2] / "clv_pipeline" / "datasets" / "cdnow.csv.gz"
LAST_DAY = date(1998, 6, 30)
CUSTOMERS = 400

TOML = """\
[project]
name = "tiny"
reporting_currency = "USD"

[value]
horizons = [30, 90]

[cadence]
first_cutoff = {first}
training_cutoffs = 2
backtest_folds = 1

[model]
trees = 10
clusters = 3
threads = 1

[inputs.transactions]
files = ["data/orders*.csv"]
columns = {{ user_id = "customer_id", ts = "date", sku = "item" }}
"""


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


def write_project(folder: Path, last_day: date | None = None) -> Path:
    """Write the data and the clv.toml of a small project whose orders end on a day."""
    last_day = last_day or yesterday()
    orders = pd.read_csv(CDNOW, parse_dates=["date"])
    chosen = orders["customer_id"].drop_duplicates().sort_values().iloc[::58][:CUSTOMERS]
    orders = orders[orders["customer_id"].isin(chosen)].astype({"customer_id": str})
    frequent = orders["customer_id"].value_counts(sort=True).index[: len(HOSTILE)]
    orders["customer_id"] = orders["customer_id"].replace(dict(zip(frequent, HOSTILE, strict=True)))
    orders["item"] = [HOSTILE[k % len(HOSTILE)] if k < 50 else "cd" for k in range(len(orders))]
    orders["date"] = orders["date"] + pd.Timedelta(days=(last_day - LAST_DAY).days)
    # Somebody orders on the last day, so that the data do not look stale.
    orders.loc[orders["date"].idxmax(), "date"] = pd.Timestamp(last_day)
    (folder / "data").mkdir(parents=True)
    orders.to_csv(folder / "data" / "orders.csv", index=False, date_format="%Y-%m-%d")
    first = last_day - timedelta(days=400)
    (folder / "clv.toml").write_text(TOML.format(first=first), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see another one's project."""
    for name in [name for name in os.environ if name.startswith(("CLV_", "DAGSTER_HOME"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    """A small project in which nothing has run."""
    return load_settings(write_project(tmp_path / "project"))


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with a champion, scored and published as of yesterday."""
    from clv_pipeline.orchestration import commands

    def train(folder: Path) -> None:
        settings = load_settings(write_project(folder / "project"))
        with commands.hold_runner(settings, Progress()) as runner:
            commands.run(runner, Cutoff(yesterday()), None)

    return build_once(tmp_path_factory, "trained", train) / "project"


@pytest.fixture
def copy_trained(trained_folder: Path, tmp_path: Path) -> Callable[[str], Settings]:
    """Copy the trained project, for tests that change it."""

    def copy(name: str = "copy") -> Settings:
        shutil.copytree(trained_folder, tmp_path / name, symlinks=True)
        return load_settings(tmp_path / name)

    return copy


@pytest.fixture
def trained(copy_trained: Callable[[str], Settings]) -> Iterator[Settings]:
    yield copy_trained("copy")
