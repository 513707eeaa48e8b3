"""The run lock, which several ticks of one process share and other processes wait for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from clv_pipeline.orchestration.project import hold_lock_once
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import RunUnderWayError, hold_run_lock


def is_free(settings: Settings) -> bool:
    # To the operating system, a lock of its own is another program's.
    try:
        with hold_run_lock(settings):
            return True
    except RunUnderWayError:
        return False


def test_ticks_that_overlap_share_the_lock_until_the_last_one_is_over(settings: Settings) -> None:
    schedule, sensor = ExitStack(), ExitStack()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        one.submit(schedule.enter_context, hold_lock_once(settings)).result()
        two.submit(sensor.enter_context, hold_lock_once(settings)).result()
        one.submit(schedule.close).result()
        assert not is_free(settings)
        two.submit(sensor.close).result()
    assert is_free(settings)


def test_who_is_refused_the_lock_leaves_nothing_behind(settings: Settings) -> None:
    with hold_run_lock(settings), pytest.raises(RunUnderWayError), hold_lock_once(settings):
        pass
    with hold_lock_once(settings):
        assert not is_free(settings)
    assert is_free(settings)
