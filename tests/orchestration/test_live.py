"""With a daemon and a web server as users have them: ticks, new files and backfills become runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
)

from clv_pipeline.orchestration.environment import prepare_environment
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from tests.orchestration.support import environment, read_published

pytestmark = pytest.mark.slow
PROGRAMS = Path(sys.executable).parent
WORKSPACE = Path(__file__).resolve().parents[2] / "workspace.yaml"
LOCATION, REPOSITORY = "clv_pipeline", "__repository__"
MINUTES = 12


def ask(port: int, query: str, **variables: Any) -> dict[str, Any]:
    """Ask the web server's GraphQL, as its pages do."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        found: dict[str, Any] = json.loads(response.read())
    assert "errors" not in found, found
    data: dict[str, Any] = found["data"]
    return data


@contextmanager
def program(settings: Settings, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Dagster's, and end it as a service manager would."""
    log = settings.paths.home / f"{command[0]}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [str(PROGRAMS / command[0]), *command[1:]],
            env=environment(settings),
            cwd=settings.root,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) is not None
            # A run that nobody waits for would go on beside the tests that follow.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(is_true: Callable[[], bool], what: str, minutes: float = MINUTES) -> None:
    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline:
        if is_true():
            return
        time.sleep(1)
    raise AssertionError(f"{what} took longer than {minutes} minutes")


def is_up(port: int) -> bool:
    try:
        ask(port, "{ version }")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True


BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


def test_the_services_turn_ticks_files_and_backfills_into_runs(
    trained: Settings,
) -> None:
    prepare_environment(trained)
    hurry_the_queue(trained)
    published = read_published(trained, "customer_clv")["cutoff_date"].iloc[0]
    newest = Cutoff(published.date())
    earlier = str(newest.shift(-2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workspace = ("-w", str(WORKSPACE))
    with (
        dg.DagsterInstance.get() as instance,
        program(trained, "dagster-webserver", *workspace, "-h", "127.0.0.1", "-p", str(port)),
    ):
        wait_until(lambda: is_up(port), "the web server")
        known = {run.run_id for run in instance.get_runs()}
        repository = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY}
        start_schedule(port, instance, repository)
        orders = pd.read_csv(trained.root / "data" / "orders.csv")
        late = orders.tail(20).assign(date=str(newest))
        late.to_csv(trained.root / "data" / "orders-late.csv", index=False)
        launched = ask(
            port,
            BACKFILL,
            params={
                "selector": {
                    "partitionSetName": "daily_scoring_partition_set",
                    "repositorySelector": repository,
                },
                "partitionNames": [earlier],
            },
        )
        outcome = launched["launchPartitionBackfill"]["__typename"]
        assert outcome == "LaunchBackfillSuccess", launched

        def new_runs() -> list[dg.DagsterRun]:
            return [run for run in instance.get_runs() if run.run_id not in known]

        def are_done() -> bool:
            by_kind = {kind_of(run): run for run in new_runs()}
            if not by_kind.keys() >= {"schedule", "sensor", earlier}:
                return False
            # What a sensor asks for is run like the rest; the queue need not be waited for.
            return all(run.is_finished for kind, run in by_kind.items() if kind != "sensor")

        with program(trained, "dagster-daemon", "run", *workspace):
            wait_until(are_done, "the runs")
        runs = new_runs()
    assert {run.job_name for run in runs} == {"daily_scoring"}
    finished = [run for run in runs if run.is_finished]
    assert {run.status for run in finished} == {dg.DagsterRunStatus.SUCCESS}
    assert all(run.tags["clv/cutoff"] == run.tags["dagster/partition"] for run in finished)
    history = read_published(trained, "customer_clv_history")
    scored = {str(day.date()) for day in history["cutoff_date"].unique()}
    assert scored >= {str(newest), earlier}


def hurry_the_queue(settings: Settings) -> None:
    """Let the daemon look into its queue each second; otherwise it does every five."""
    file = settings.paths.dagster_home / "dagster.yaml"
    text, queue = file.read_text(encoding="utf-8"), "  class: QueuedRunCoordinator\n"
    assert queue in text
    config = "  config:\n    dequeue_interval_seconds: 1\n"
    file.write_text(text.replace(queue, queue + config), encoding="utf-8")


def kind_of(run: dg.DagsterRun) -> str:
    """Say what started a run; a backfill's is told by its day."""
    if "dagster/schedule_name" in run.tags:
        return "schedule"
    if "dagster/sensor_name" in run.tags:
        return "sensor"
    return run.tags["dagster/partition"] if "dagster/backfill" in run.tags else "other"


START_SCHEDULE = """
mutation Start($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) {
    __typename
    ... on ScheduleStateResult { scheduleState { id } }
    ... on PythonError { message }
  }
}
"""
STOP_SCHEDULE = """
mutation Stop($id: String!) {
  stopRunningSchedule(id: $id) {
    __typename ... on PythonError { message }
  }
}
"""


def start_schedule(port: int, instance: dg.DagsterInstance, repository: dict[str, str]) -> None:
    """Turn the nightly schedule off and on, and let it have been on since before its last tick."""
    selector = {**repository, "scheduleName": "daily_scoring_schedule"}
    started = ask(port, START_SCHEDULE, selector=selector)["startSchedule"]
    assert started["__typename"] == "ScheduleStateResult", started
    stopped = ask(port, STOP_SCHEDULE, id=started["scheduleState"]["id"])
    assert stopped["stopRunningSchedule"]["__typename"] == "ScheduleStateResult", stopped
    ask(port, START_SCHEDULE, selector=selector)
    (state,) = [s for s in instance.all_instigator_state() if s.name == "daily_scoring_schedule"]
    assert isinstance(state.instigator_data, ScheduleInstigatorData)
    earlier = datetime.now(UTC) - timedelta(hours=25)
    data = ScheduleInstigatorData(
        cron_schedule=state.instigator_data.cron_schedule, start_timestamp=earlier.timestamp()
    )
    instance.update_instigator_state(
        InstigatorState(state.origin, state.instigator_type, InstigatorStatus.RUNNING, data)
    )
