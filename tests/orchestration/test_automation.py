from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest

from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.orchestration.automation import (
    build_file_sensor,
    build_jobs,
    build_schedules,
    list_files,
)
from clv_pipeline.orchestration.partitions import cutoff_partitions
from clv_pipeline.settings import Settings, build_settings, load_settings
from clv_pipeline.warehouse import hold_run_lock


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def automation(settings: Settings) -> dg.Definitions:
    partitions = cutoff_partitions(settings)

    @dg.asset(partitions_def=partitions)
    def something() -> None:
        pass

    jobs = build_jobs([], [])
    return dg.Definitions(
        assets=[something],
        jobs=jobs,
        schedules=build_schedules(settings, partitions, jobs),
        sensors=[build_file_sensor(settings, partitions, jobs[0])],
    )


def tick(
    settings: Settings, instance: dg.DagsterInstance, cursor: str | None
) -> tuple[list[dg.RunRequest], str | None, str | None]:
    definitions = automation(settings)
    sensor = definitions.resolve_sensor_def("new_files")
    with dg.build_sensor_context(
        instance, cursor=cursor, repository_def=definitions.get_repository_def()
    ) as context:
        result = sensor.evaluate_tick(context)
    return list(result.run_requests or []), result.cursor, result.skip_message


def test_a_file_that_is_being_copied_starts_no_run(
    project: Settings, instance: dg.DagsterInstance
) -> None:
    file = project.root / "data" / "orders.csv"
    requests, cursor, reason = tick(project, instance, None)
    assert not requests
    assert "whole" in str(reason)
    with file.open("a") as stream:
        stream.write("more,1999-01-01,1,1\n")
    requests, cursor, _ = tick(project, instance, cursor)
    assert not requests
    requests, cursor, _ = tick(project, instance, cursor)
    assert len(requests) == 1
    requests, cursor, reason = tick(project, instance, cursor)
    assert not requests
    assert reason == "No file is new."


def test_what_has_landed_starts_no_run(
    project: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project.root / "data" / "orders.csv"
    os.utime(file, (1_700_000_000, 1_700_000_000))
    monkeypatch.setattr("clv_pipeline.ingest.sightings.TICK_NS", 0)
    land_inputs(project, "run-1")
    with hold_run_lock(project):
        _, cursor, reason = tick(project, instance, None)
        assert cursor is None
        assert "A run is under way" in str(reason)
    for _ in range(2):
        requests, cursor, reason = tick(project, instance, cursor)
        assert not requests
        assert reason == "No file is new."
    (project.root / "data" / "orders-2.csv").write_text("customer_id\n2\n")
    _, cursor, _ = tick(project, instance, cursor)
    (request,), _, _ = tick(project, instance, cursor)
    assert request.tags["clv/new_files"] == "data/orders-2.csv"


def test_nothing_need_be_turned_on(project: Settings) -> None:
    definitions = automation(project)
    assert len(definitions.schedules or []) == 2
    plans = [*(definitions.schedules or []), *(definitions.sensors or [])]
    assert all(plan.default_status.value == "RUNNING" for plan in plans)


def test_each_change_is_one_run_for_the_newest_cutoff(
    project: Settings, instance: dg.DagsterInstance
) -> None:
    cursor: str | None = None
    keys = []
    for number in range(3):
        (project.root / "data" / f"orders-{number}.csv").write_text(f"customer_id\n{number}\n")
        _, cursor, _ = tick(project, instance, cursor)
        requests, cursor, _ = tick(project, instance, cursor)
        assert len(requests) == 1
        keys.append(requests[0].run_key)
        assert requests[0].partition_key == cutoff_partitions(project).get_last_partition_key()
        assert requests[0].tags["clv/cutoff"] == requests[0].partition_key
    assert len(set(keys)) == 3


def test_a_changed_time_alone_is_a_change(project: Settings, instance: dg.DagsterInstance) -> None:
    _, cursor, _ = tick(project, instance, None)
    _, cursor, _ = tick(project, instance, cursor)
    os.utime(project.root / "data" / "orders.csv", (1, 1))
    _, cursor, _ = tick(project, instance, cursor)
    requests, _, _ = tick(project, instance, cursor)
    assert len(requests) == 1


def test_the_cursor_is_a_ledger_of_paths_sizes_and_times(
    project: Settings, instance: dg.DagsterInstance
) -> None:
    _, cursor, _ = tick(project, instance, None)
    _, cursor, _ = tick(project, instance, cursor)
    done = json.loads(cursor or "")["done"]
    status = (project.root / "data" / "orders.csv").stat()
    assert done == {"data/orders.csv": [status.st_size, status.st_mtime_ns]}
    assert list(list_files(project)) == ["data/orders.csv"]


def schedule_tick(
    settings: Settings, name: str, moment: datetime, instance: dg.DagsterInstance
) -> Any:
    definitions = automation(settings)
    schedule = definitions.resolve_schedule_def(name)
    context = dg.build_schedule_context(
        instance,
        scheduled_execution_time=moment,
        repository_def=definitions.get_repository_def(),
    )
    return schedule, schedule.evaluate_tick(context)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        # 22:30 UTC is half past midnight in Berlin in summer, so the day before is over there.
        (datetime(2024, 7, 10, 22, 30, tzinfo=UTC), "2024-07-10"),
        # The night of 25 hours and the night of 23.
        (datetime(2024, 10, 27, 23, 30, tzinfo=UTC), "2024-10-27"),
        (datetime(2024, 3, 31, 22, 30, tzinfo=UTC), "2024-03-31"),
    ],
)
def test_the_night_run_asks_for_the_day_before(
    tmp_path: Any, instance: dg.DagsterInstance, moment: datetime, expected: str
) -> None:
    settings = build_settings(
        tmp_path,
        {
            "project": {"time_zone": "Europe/Berlin"},
            "cadence": {"first_cutoff": date(2024, 1, 1), "scoring_time": "00:30"},
        },
    )
    schedule, result = schedule_tick(settings, "daily_scoring_schedule", moment, instance)
    assert schedule.cron_schedule == "30 0 * * *"
    assert schedule.execution_timezone == "Europe/Berlin"
    (request,) = result.run_requests
    assert request.partition_key == expected
    assert request.tags["clv/cutoff"] == expected


def test_training_is_weekly_on_the_weekday_of_clv_toml(
    tmp_path: Any, instance: dg.DagsterInstance
) -> None:
    settings = build_settings(
        tmp_path,
        {"cadence": {"first_cutoff": date(2024, 1, 1), "training_weekday": 6}},
    )
    schedule, result = schedule_tick(
        settings, "training_schedule", datetime(2024, 7, 14, 2, 0, tzinfo=UTC), instance
    )
    assert schedule.cron_schedule == "0 2 * * 0"
    (request,) = result.run_requests
    assert request.partition_key == "2024-07-13"


def test_a_tick_outside_the_data_says_so(tmp_path: Any, instance: dg.DagsterInstance) -> None:
    settings = build_settings(
        tmp_path,
        {"cadence": {"first_cutoff": date(1997, 1, 1), "last_cutoff": date(1998, 6, 30)}},
    )
    _, result = schedule_tick(
        settings, "daily_scoring_schedule", datetime(2024, 7, 14, 0, 30, tzinfo=UTC), instance
    )
    assert not result.run_requests
    assert "2024-07-13 lies outside" in result.skip_message


def test_partitions_run_from_the_first_to_the_last_cutoff(tmp_path: Any) -> None:
    settings = build_settings(
        tmp_path,
        {"cadence": {"first_cutoff": date(1997, 3, 31), "last_cutoff": date(1998, 6, 30)}},
    )
    partitions = cutoff_partitions(settings)
    assert partitions.get_first_partition_key() == "1997-03-31"
    assert partitions.get_last_partition_key() == "1998-06-30"


def test_without_a_last_cutoff_the_newest_is_yesterday(project: Settings) -> None:
    partitions = cutoff_partitions(load_settings(project.root))
    assert partitions.get_last_partition_key() == str(
        date.fromordinal(datetime.now(UTC).date().toordinal() - 1)
    )
