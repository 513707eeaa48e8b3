"""The whole run, by its command: whichever engine is set, the same is published."""

from __future__ import annotations

import sys
from datetime import date

import duckdb
import pandas as pd
import pytest

from clv_pipeline import cli
from clv_pipeline.models import store
from clv_pipeline.orchestration.code_location import build_definitions
from clv_pipeline.orchestration.serving import GATES_BEFORE_PUBLICATION
from clv_pipeline.settings import Settings, load_settings
from tests.engines.spark import NEEDS_SPARK, SPARK
from tests.orchestration.conftest import write_project
from tests.orchestration.test_code_location import describe_graph

pytestmark = NEEDS_SPARK
CUTOFF = date(2024, 2, 29)
# What tells one run from another, or says when it was.
OF_THE_RUN = {"run_id", "model_version", "checked_at", "started_at", "finished_at"}
# Pseudonyms are made with a secret of each home.
OF_THE_RUN |= {"failed_keys"}
TOLERANCE = 1e-6


def spark_toml() -> str:
    lines = ["[engine]"]
    for name, value in SPARK.items():
        if not isinstance(value, dict):
            lines.append(f"{name} = {value!r}".replace("'", '"'))
    lines += ["[engine.spark_options]"]
    lines += [f'"{name}" = "{value}"' for name, value in SPARK["spark_options"].items()]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Settings]:
    """The same shop run by both engines, with a champion of their own, published."""
    found = []
    for name, engine in (("duckdb", ""), ("spark", spark_toml())):
        folder = write_project(tmp_path_factory.mktemp(name) / "project", CUTOFF)
        config = folder / "clv.toml"
        text = config.read_text(encoding="utf-8").replace("horizons = [30, 90]", "horizons = [60]")
        config.write_text(f"{text}\n{engine}\n", encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", "")
            patch.delenv("DAGSTER_HOME")
            command = ["clv", "run", "--config", str(folder), "--cutoff", str(CUTOFF)]
            patch.setattr(sys, "argv", command)
            cli.main()
        found.append(load_settings(folder))
    return found[0], found[1]


def read(settings: Settings) -> dict[str, pd.DataFrame]:
    """Return every published table, in the order of its keys."""
    found = {}
    for file in sorted(settings.paths.published.glob("*.parquet")):
        frame = duckdb.execute("SELECT * FROM read_parquet(?)", [str(file.resolve())]).df()
        frame = frame.drop(columns=OF_THE_RUN & set(frame))
        exact = [name for name in frame if not pd.api.types.is_float_dtype(frame[name])]
        found[file.stem] = frame.sort_values(exact, ignore_index=True)
    return found


def test_both_engines_publish_the_same(projects: tuple[Settings, Settings]) -> None:
    ours, theirs = map(read, projects)
    assert set(ours) == set(theirs)
    assert len(ours["customer_clv"]) > 300
    for name, frame in ours.items():
        pd.testing.assert_frame_equal(
            theirs[name], frame, rtol=TOLERANCE, atol=TOLERANCE, obj=f"published table {name}"
        )


def test_both_runs_pass_the_same_gates_in_the_same_graph(
    projects: tuple[Settings, Settings],
) -> None:
    graphs = [describe_graph(build_definitions(settings)) for settings in projects]
    assert graphs[0] == graphs[1]
    ours, theirs = (read(settings)["data_quality"] for settings in projects)
    assert set(ours["gate"]) >= set(GATES_BEFORE_PUBLICATION)
    assert ours.groupby("gate").size().to_dict() == theirs.groupby("gate").size().to_dict()


def test_both_registries_hold_the_same_champion(projects: tuple[Settings, Settings]) -> None:
    ours, theirs = (store.load_serving(settings.paths.models) for settings in projects)
    assert ours[1]["recipe"]["features"] == theirs[1]["recipe"]["features"]
    assert ours[1]["horizons"].keys() == theirs[1]["horizons"].keys()
    for horizon, entry in ours[1]["horizons"].items():
        assert theirs[1]["horizons"][horizon]["served_by"] == entry["served_by"]
    assert ours[0].history_ is not None
    assert theirs[0].history_ is not None
    expected, found = (model.history_.describe()["parameters"] for model, *_ in (ours, theirs))
    assert found == pytest.approx(expected, rel=TOLERANCE)
