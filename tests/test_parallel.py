"""Batches shared among processes: the same answers in the same order."""

from __future__ import annotations

import math
import os

import pytest

from clv_pipeline.parallel import LEAST_ROWS, answer_all, count_workers, map_batches, open_pool
from clv_pipeline.settings import Settings


def root():
    return math.sqrt


def test_processes_answer_in_the_order_of_the_batches() -> None:
    tasks = range(7)
    assert list(map_batches(root, tasks, 2)) == [math.sqrt(k) for k in tasks]


def test_a_batch_that_fails_says_so() -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(map_batches(root, [1, -1], 2))


def test_few_customers_need_no_processes(settings: Settings) -> None:
    assert count_workers(settings, LEAST_ROWS - 1) == 1
    engine = settings.engine.model_copy(update={"threads": 3})
    assert count_workers(settings.model_copy(update={"engine": engine}), LEAST_ROWS) == 3


def make_getter():
    return os.environ.get


def test_each_process_has_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    with open_pool(make_getter, 2) as pool:
        answers = dict(answer_all(pool, ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT"]))
    assert answers == {"OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "3"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OMP_THREAD_LIMIT" not in os.environ
