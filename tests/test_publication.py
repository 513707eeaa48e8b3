from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from clv_pipeline.publication import PublicationRefusedError, publish
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_published, open_warehouse, read_frame, replace_rows

CUTOFF = Cutoff.parse("1998-06-30")


def build_marts(settings: Settings, run_id: str) -> None:
    with open_warehouse(settings) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS clv")
        for table in ("customer_clv", "data_quality"):
            rows = pd.DataFrame({"customer_id": ["a", "b"], "run_id": run_id})
            replace_rows(connection, f"clv.{table}", rows)


def published_runs(settings: Settings) -> set[str]:
    with open_published(settings) as connection:
        frame = read_frame(
            connection,
            "SELECT run_id FROM clv.customer_clv UNION ALL SELECT run_id FROM clv.data_quality",
        )
    return set(frame["run_id"])


def test_a_publication_holds_every_mart_as_duckdb_and_parquet(settings: Settings) -> None:
    build_marts(settings, "run1")
    report = publish(settings, "run1", CUTOFF, lambda path: None)
    assert report.rows == {"customer_clv": 2, "data_quality": 2}
    parquet = settings.paths.published / "customer_clv.parquet"
    assert duckdb.sql(f"SELECT count(*) FROM '{parquet}'").fetchall() == [(2,)]
    assert published_runs(settings) == {"run1"}


def test_a_reader_keeps_its_version_and_the_next_one_gets_the_new(settings: Settings) -> None:
    build_marts(settings, "run1")
    publish(settings, "run1", CUTOFF, lambda path: None)
    with open_published(settings) as reader:
        build_marts(settings, "run2")
        publish(settings, "run2", CUTOFF, lambda path: None)
        assert reader.execute("SELECT DISTINCT run_id FROM clv.customer_clv").fetchall() == [
            ("run1",)
        ]
    assert published_runs(settings) == {"run2"}


def test_a_failed_audit_leaves_the_last_publication(settings: Settings) -> None:
    build_marts(settings, "run1")
    publish(settings, "run1", CUTOFF, lambda path: None)
    build_marts(settings, "run2")
    with pytest.raises(PublicationRefusedError, match=r"3 rows are wrong. The last good"):
        publish(settings, "run2", CUTOFF, lambda path: "3 rows are wrong.")
    assert published_runs(settings) == {"run1"}
    assert len(list(settings.paths.versions.iterdir())) == 1


def test_a_crash_between_two_tables_leaves_the_last_publication(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_marts(settings, "run1")
    publish(settings, "run1", CUTOFF, lambda path: None)
    build_marts(settings, "run2")

    def crash(path: Path) -> str | None:
        (path.parent / "data_quality.parquet").unlink()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(settings, "run2", CUTOFF, crash)
    assert published_runs(settings) == {"run1"}


def test_only_the_newest_versions_are_kept(make_settings) -> None:  # type: ignore[no-untyped-def]
    settings = make_settings(publish={"keep_versions": 2})
    for k in range(4):
        build_marts(settings, f"run{k}")
        publish(settings, f"run{k}", CUTOFF, lambda path: None)
    assert {v.name for v in settings.paths.versions.iterdir()} == {
        "1998-06-30_run2",
        "1998-06-30_run3",
    }


def test_a_retried_publication_does_not_touch_the_version_that_is_served(
    settings: Settings,
) -> None:
    build_marts(settings, "run1")
    first = publish(settings, "run1", CUTOFF, lambda path: None)
    second = publish(settings, "run1", CUTOFF, lambda path: None)
    assert first.version != second.version
    assert settings.paths.published.resolve() == second.version.resolve()


def test_of_a_long_history_the_newest_cutoffs_are_published_and_each_months_last(
    make_settings,  # type: ignore[no-untyped-def]
) -> None:
    days = pd.date_range("2023-11-20", "2024-03-05", freq="D").delete(list(range(75, 80)))
    history = pd.DataFrame({"cutoff_date": days.repeat(2), "customer_id": ["a", "b"] * len(days)})
    settings = make_settings(publish={"history_cutoffs": 3})
    with open_warehouse(settings) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS clv")
        replace_rows(connection, "clv.customer_clv_history", history.sample(frac=1, random_state=1))
    report = publish(settings, "run1", CUTOFF, lambda path: None)
    of_months = history["cutoff_date"].groupby(history["cutoff_date"].dt.to_period("M")).max()
    kept = {*of_months, *days[-3:]}
    expected = sorted(zip(*history[history["cutoff_date"].isin(kept)].T.values, strict=True))
    with open_published(settings) as connection:
        found = read_frame(connection, "SELECT * FROM clv.customer_clv_history ORDER BY ALL")
    parquet = settings.paths.published / "customer_clv_history.parquet"
    assert sorted(zip(*found.T.values, strict=True)) == expected
    assert report.rows == {"customer_clv_history": len(expected)} == {"customer_clv_history": 14}
    assert duckdb.sql(f"SELECT count(*) FROM '{parquet}'").fetchall() == [(14,)]
