import sqlite3
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from clv_pipeline.orchestration.event_store import keep_open

SEEN: list[int] = []


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    # Making one takes seconds.
    with dg.instance_for_test(temp_dir=str(tmp_path_factory.mktemp("instance"))) as instance:
        yield instance


def make_job() -> dg.JobDefinition:
    @dg.asset(check_specs=[dg.AssetCheckSpec("good", asset="first")])
    def first(context: dg.AssetExecutionContext) -> Iterator[Any]:
        # What another process would see while the step is under way.
        folder = Path(context.instance.root_directory) / "history" / "runs"
        with sqlite3.connect(folder / f"{context.run.run_id}.db") as other:
            SEEN.append(other.execute("SELECT count(*) FROM event_logs").fetchone()[0])
        yield dg.MaterializeResult(metadata={"rows": 3})
        yield dg.AssetCheckResult(passed=True, check_name="good")

    @dg.asset(deps=[first])
    def second() -> None:
        raise ValueError("no")

    definitions = dg.Definitions(assets=[first, second], jobs=[dg.define_asset_job("both")])
    return definitions.resolve_job_def("both")


@pytest.mark.parametrize("is_kept", [False, True])
def test_the_same_is_written(instance: dg.DagsterInstance, is_kept: bool) -> None:
    SEEN.clear()
    with keep_open(instance) if is_kept else nullcontext():
        result = make_job().execute_in_process(instance=instance, raise_on_error=False)
    assert "_connect" not in vars(instance.event_log_storage)
    assert SEEN[0] > 5
    kinds = [
        e.dagster_event.event_type_value
        for e in instance.all_logs(result.run_id)
        if e.dagster_event
    ]
    assert kinds.count("STEP_START") == 2
    assert kinds.count("STEP_FAILURE") == 1
    assert kinds[-1] == "PIPELINE_FAILURE"
    materialized = instance.get_latest_materialization_event(dg.AssetKey("first"))
    assert materialized is not None
    assert materialized.asset_materialization is not None
    assert materialized.asset_materialization.metadata["rows"].value == 3
    run = instance.get_run_by_id(result.run_id)
    assert run is not None and run.status == dg.DagsterRunStatus.FAILURE


def test_a_database_is_opened_once(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = sqlite3.dbapi2.connect

    def connect(database: str, *arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(Path(str(database)).name)
        return real(database, *arguments, **options)

    monkeypatch.setattr(sqlite3.dbapi2, "connect", connect)
    with keep_open(instance):
        run_id = make_job().execute_in_process(instance=instance, raise_on_error=False).run_id
    # Once by the storage, once by the asset above.
    assert opened.count(f"{run_id}.db") <= 2


def test_another_storage_is_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance, keep_open(instance):
        assert make_job().execute_in_process(instance=instance, raise_on_error=False).run_id
