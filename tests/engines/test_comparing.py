"""The comparison of two engines sees what differs, and an engine that is missing is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks.comparing import Pair
from clv_pipeline.engines import session
from clv_pipeline.engines.building import split_by_engine
from clv_pipeline.settings import Settings, SettingsError, build_settings
from clv_pipeline.transform import STAGES

TABLE = "features.feat_rfm"
ROWS = "('a', DATE '2024-01-01', 1.0, 2), ('b', DATE '2024-01-01', 4e9, 3)"


def write(path: Path, rows: str, whole: str = "BIGINT") -> Path:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA features")
        connection.execute(
            f"CREATE TABLE {TABLE} (customer_id VARCHAR, cutoff_date DATE, s DOUBLE, n {whole})"
        )
        connection.execute(f"INSERT INTO {TABLE} VALUES {rows}")
    return path


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (ROWS, set()),
        (ROWS.replace("4e9", "4000000001.0"), set()),
        (ROWS.replace("4e9", "4000000010.0"), {"s"}),
        (ROWS.replace("4e9", "NULL"), {"s"}),
        (ROWS.replace(", 3)", ", 4)"), {"missing", "added"}),
        (ROWS.split(", ('b'")[0], {"missing", "unpaired"}),
        (f"{ROWS}, ('b', DATE '2024-01-01', 4e9, 3)", {"added", "unpaired"}),
    ],
)
def test_differences_are_seen(tmp_path: Path, rows: str, found: set[str]) -> None:
    pair = Pair(write(tmp_path / "a.duckdb", ROWS), write(tmp_path / "b.duckdb", rows, "INTEGER"))
    assert set(pair.differences(TABLE)) == found
    pair.close()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["parse"], {"warehouse": ["parse"]}),
        (
            ["build", "--select", STAGES["as_of"], "--select", STAGES["marts"], "--fail-fast"],
            {
                "spark": ["build", "--select", STAGES["as_of"], "--fail-fast"],
                "warehouse": ["build", "--select", STAGES["marts"], "--fail-fast"],
            },
        ),
        (["run", "--select", "feat_rfm"], {"spark": ["run", "--select", "feat_rfm"]}),
        (["run", "-s", "mart"], {"warehouse": ["run", "--select", "mart"]}),
        (
            ["build"],
            {
                "spark": ["build", "--select", *(s for n, s in STAGES.items() if n != "marts")],
                "warehouse": ["build", "--select", STAGES["marts"]],
            },
        ),
    ],
)
def test_each_engine_gets_its_part(
    make_settings: Callable[..., Settings], arguments: list[str], expected: dict[str, list[str]]
) -> None:
    settings = make_settings(engine={"name": "spark"})
    assert dict(split_by_engine(settings, arguments, STAGES, {"mart"})) == expected
    everything = [("warehouse", arguments)]
    assert split_by_engine(make_settings(), arguments, STAGES, {"mart"}) == everything


@pytest.mark.parametrize(
    ("name", "word"), [("find_spec", "pip install 'clv-pipeline[spark]'"), ("find_java", "Java 17")]
)
def test_what_is_missing_is_named(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, name: str, word: str
) -> None:
    monkeypatch.setattr(session, "_running", [])
    monkeypatch.setattr(session, "find_spec", lambda _: True)
    monkeypatch.setattr(session, name, lambda *_: None)
    settings = make_settings(engine={"name": "spark"})
    with pytest.raises(session.EngineError, match=r"engine\.name = 'spark' needs") as error:
        session.open_spark(settings)
    assert word in str(error.value)
    session.check_engine(make_settings())


@pytest.mark.parametrize(
    "wrong",
    [{"name": "Spark"}, {"spark_master": "http://x"}, {"spark_memory": "4GB"}, {"threads": -1}],
)
def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"engine.{next(iter(wrong))}"):
        build_settings(tmp_path, {"engine": wrong})
