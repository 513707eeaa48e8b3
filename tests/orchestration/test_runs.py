"""Whole runs on a small project: what they leave behind, and what happens when they break."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from clv_pipeline.engines.building import drop_past_cutoffs
from clv_pipeline.orchestration import commands, dbt, ledger, serving
from clv_pipeline.orchestration.automation import SCORING_JOB
from clv_pipeline.orchestration.environment import prepare_environment
from clv_pipeline.orchestration.running import NoCutoffError, RunFailedError
from clv_pipeline.reuse import forget_steps
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse
from data_quality import gates
from tests.orchestration.support import (
    CLV,
    HOSTILE,
    answer,
    assert_same,
    environment,
    query_warehouse,
    read_published,
    score,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def newest(trained_folder: Path) -> Cutoff:
    """The cutoff as of which the trained project is published."""
    settings = load_settings(trained_folder)
    ((day,),) = query_warehouse(settings, "SELECT max(cutoff_date) FROM clv.customer_clv_history")
    return Cutoff(day)


def test_a_run_leaves_a_row_that_says_what_it_did(trained_folder: Path) -> None:
    settings = load_settings(trained_folder)
    runs = query_warehouse(
        settings,
        "SELECT job, status, count_rows_in, count_rows_kept, count_customers, "
        "model_version IS NULL, finished_at >= started_at, message "
        "FROM ops.pipeline_runs ORDER BY started_at, job DESC",
    )
    rows = len(pd.read_csv(trained_folder / "data" / "orders.csv"))
    assert runs == [
        ("training", "succeeded", rows, rows, None, False, True, None),
        ("daily_scoring", "succeeded", rows, rows, 400, False, True, None),
    ]


def test_every_asset_shows_its_rows_and_a_preview_or_a_plot(trained: Settings) -> None:
    prepare_environment(trained)
    with dg.DagsterInstance.get() as instance:
        keys = instance.all_asset_keys()
        found = {
            key.to_user_string(): instance.get_latest_materialization_event(key) for key in keys
        }
    assert len(found) > 40
    for name, event in found.items():
        if event is None:
            continue
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert "dagster/row_count" in metadata, name
        shown = [v for v in metadata.values() if isinstance(v, dg.MarkdownMetadataValue)]
        assert shown, name


def test_hostile_texts_are_carried_as_data_into_the_published_tables(trained: Settings) -> None:
    found = read_published(trained, "customer_clv").set_index("customer_id")
    assert set(HOSTILE) < set(found.index)
    values = found.loc[list(HOSTILE), ["clv_90d", "clv_90d_p10", "clv_90d_p50", "clv_90d_p90"]]
    assert values.notna().all(axis=None)
    assert (values["clv_90d"] > 0).all()
    assert set(found.loc[list(HOSTILE), "confidence"]) <= {"high", "medium", "low"}
    skus = query_warehouse(trained, "SELECT DISTINCT sku FROM staging.stg_transactions")
    assert {sku for (sku,) in skus} == {*HOSTILE, "cd"}


def test_the_ui_sees_the_runs_of_the_command_line(trained: Settings, newest: Cutoff) -> None:
    prepare_environment(trained)
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs()
        assert {run.job_name for run in runs} == {"training", "daily_scoring"}
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert {run.tags["clv/cutoff"] for run in runs} == {str(newest)}
        assert {run.tags["dagster/partition"] for run in runs} == {str(newest)}
        materialized = instance.get_materialized_partitions(dg.AssetKey("published_tables"))
        assert materialized == {str(newest)}


def test_a_backfill_in_any_order_is_the_same(
    trained: Settings, newest: Cutoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[Cutoff], bool]] = []

    def drop(settings: Settings, wanted: Sequence[Cutoff], *, is_training: bool) -> list[date]:
        asked.append((list(wanted), is_training))
        return drop_past_cutoffs(settings, wanted, is_training=is_training)

    monkeypatch.setattr(dbt, "drop_past_cutoffs", drop)
    # The newest day has been scored before; then it comes before the older one, then after it.
    score(trained, newest.shift(-1))
    backwards = answer(trained)
    assert backwards[1]["cutoff_date"].nunique() == 2
    score(trained, newest)
    assert_same(answer(trained), backwards)
    # Each run asks what has fallen behind; what the training built stays until the next.
    assert asked == [([newest.shift(-1)], False), ([newest], False)]
    days = query_warehouse(trained, "SELECT DISTINCT cutoff_date FROM as_of.customer_spine")
    assert {day for (day,) in days} > {newest.day, newest.shift(-1).day}


def test_a_gate_that_fails_leaves_the_last_publication(trained: Settings, newest: Cutoff) -> None:
    before = trained.paths.published.resolve()
    cents = pd.read_csv(trained.root / "data" / "orders.csv")
    cents = cents.assign(amount=cents["amount"] * 100).head(300)
    cents.to_csv(trained.root / "data" / "orders-cents.csv", index=False)
    with pytest.raises(RunFailedError, match=r"raw gate stopped .* median order value"):
        score(trained, newest)
    assert trained.paths.published.resolve() == before
    ((status, message),) = query_warehouse(
        trained,
        "SELECT status, message FROM ops.pipeline_runs ORDER BY started_at DESC LIMIT 1",
    )
    assert status == "failed"
    assert "median order value" in message
    # Whoever asks for publication alone is refused, too.
    refusal = serving.publish_cutoff(trained, newest, "by-hand").refusal
    assert refusal is not None
    assert "raw gate" in refusal
    assert trained.paths.published.resolve() == before


def test_only_the_step_that_failed_for_a_passing_reason_is_tried_again(
    trained: Settings, trained_folder: Path, newest: Cutoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {"stand": 1, "run_gate": 1}

    def fail_once(module: Any, name: str, only: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(module, name)

        def flaky(*arguments: Any) -> Any:
            if failures[name] and only(*arguments):
                failures[name] -= 1
                raise OSError(f"{name}: the disk was away for a moment")
            return real(*arguments)

        monkeypatch.setattr(module, name, flaky)

    fail_once(serving, "stand")
    fail_once(gates, "run_gate", lambda settings, gate, *_: gate == "staging")
    score(trained, newest)
    assert failures == {"stand": 0, "run_gate": 0}
    with dg.DagsterInstance.get() as instance:
        (newest_run,) = instance.get_runs(limit=1)
        events = [e.dagster_event for e in instance.all_logs(newest_run.run_id) if e.dagster_event]
    kinds = Counter((e.event_type, e.step_key) for e in events)
    again = {step for kind, step in kinds if kind == dg.DagsterEventType.STEP_UP_FOR_RETRY}
    assert again == {"scores__customer_standing", "intermediate__int_customer_days_staging_gate"}
    began = {step: n for (kind, step), n in kinds.items() if kind == dg.DagsterEventType.STEP_START}
    assert set(began.values()) == {1}
    # The same day for the second time, broken off twice, is the same.
    assert_same(answer(trained), answer(load_settings(trained_folder)))


def test_predictions_that_no_gate_has_seen_are_not_published(
    trained: Settings, newest: Cutoff
) -> None:
    run = ledger.RunRecord("later", SCORING_JOB, newest)
    time.sleep(1.1)  # runs are told apart by the second
    ledger.begin_run(trained, run)
    serving.score(trained, newest, run.run_id)
    refusal = serving.find_refusal(trained, newest)
    assert refusal is not None
    assert "after their gate last ran" in refusal


@pytest.mark.parametrize("step", [serving.stand, serving.total, serving.explain_drivers])
def test_a_step_by_hand_is_refused_where_features_have_fallen_behind(
    trained: Settings, newest: Cutoff, step: Callable[[Settings, Cutoff], Any]
) -> None:
    tables = ("customer_standing", "clv_totals", "feature_effects")
    before = [query_warehouse(trained, f"SELECT * FROM scores.{name}") for name in tables]
    with open_warehouse(trained) as connection:
        connection.execute("DELETE FROM features.customer_features")
    with pytest.raises(serving.ServingError, match=r"features .* no customer .* daily_scoring"):
        step(trained, newest)
    assert [query_warehouse(trained, f"SELECT * FROM scores.{name}") for name in tables] == before


def test_two_runs_at_once_are_not_possible(trained: Settings, newest: Cutoff) -> None:
    holder = (
        "import sys, time\n"
        "from clv_pipeline.settings import load_settings\n"
        "from clv_pipeline.warehouse import hold_run_lock\n"
        "with hold_run_lock(load_settings()):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(120)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        env=environment(trained),
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            second = subprocess.run(
                [CLV, "run", "--cutoff", str(newest)],
                env=environment(trained),
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            other.kill()
    assert second.returncode == 1
    assert "Another run is writing" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_run_that_was_killed_is_gone_on_with(
    trained: Settings,
    trained_folder: Path,
    newest: Cutoff,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = trained.paths.published.resolve()
    # So that there is something to build before the run is killed.
    forget_steps(trained, ["as_of"])
    ((first_run,),) = query_warehouse(trained, "SELECT DISTINCT run_id FROM ops.built_steps")
    with subprocess.Popen(
        [sys.executable, "-m", "clv_pipeline.cli", "run", "--cutoff", str(newest)],
        env=environment(trained) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "predictions gate" in line:
                os.killpg(process.pid, signal.SIGKILL)  # while it says where customers stand
    assert process.returncode == -signal.SIGKILL
    assert trained.paths.published.resolve() == before

    def refuse(*_: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(serving, "score", refuse)
    score(trained, newest)
    assert trained.paths.published.resolve() != before
    assert_same(answer(trained), answer(load_settings(trained_folder)))
    runs = query_warehouse(
        trained,
        "SELECT status, count_customers, model_version IS NULL, run_id FROM ops.pipeline_runs "
        "ORDER BY started_at DESC LIMIT 2",
    )
    killed = runs[1][3]
    assert [row[:3] for row in runs] == [("succeeded", 400, False), ("interrupted", None, True)]
    built = query_warehouse(trained, "SELECT step, run_id FROM ops.built_steps ORDER BY ALL")
    assert {step for step, run_id in built if run_id == first_run} == {"staging"}
    assert {step for step, run_id in built if run_id == killed} == {"as_of", "features"}
    with dg.DagsterInstance.get() as instance:
        unfinished = [run for run in instance.get_runs() if not run.is_finished]
        (newest_run,) = instance.get_runs(limit=1)
        said = [entry.user_message for entry in instance.all_logs(newest_run.run_id)]
    assert not unfinished
    assert f"Finished by run {killed}, before it was interrupted." in said
    # Once it has ended, the same day is done anew.
    with pytest.raises(RunFailedError, match="done again"):
        score(trained, newest)


def test_a_cutoff_outside_the_range_is_refused(trained: Settings, newest: Cutoff) -> None:
    with (
        commands.hold_runner(trained) as runner,
        pytest.raises(NoCutoffError, match=r"cutoffs run from .* to .*last_cutoff"),
    ):
        runner.run(SCORING_JOB, Cutoff(newest.day + timedelta(days=400)))
