"""Batches worked out by several processes, in the order in which they came.

Python works on one core at a time. Where there are many customers, a process per core takes whole
batches; each answers for itself, so how many there are changes nothing but the time.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

from clv_pipeline.settings import Settings

# Starting a process takes seconds; fewer customers are answered for sooner than that.
LEAST_ROWS = 300_000
_THREADS = "OMP_NUM_THREADS"

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Make = Callable[[], Callable[[Any], Any]]
_work: Callable[[Any], Any] | None = None


def count_workers(settings: Settings, rows: int) -> int:
    """Return how many processes share so many customers."""
    if rows < LEAST_ROWS:
        return 1
    return settings.engine.threads or os.cpu_count() or 1


def map_batches(
    make: Callable[[], Callable[[Task], Answer]], tasks: Iterable[Task], workers: int
) -> Iterator[Answer]:
    """Answer for batches, one after the other.

    Parameters
    ----------
    make
        Makes the function that answers; called once in each process, so it can be sent there.
    tasks
        The batches, which are sent, too.
    workers
        Processes; with one, this one does the work. No more batches wait than there are of them.
    """
    if workers <= 1:
        yield from map(make(), tasks)
        return
    waiting: deque[Future[Answer]] = deque()
    threads = os.environ.get(_THREADS)
    # Each has a core of its own: what runs threads of its own must not take the others'.
    os.environ[_THREADS] = "1"
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, _prepare, (make,)) as pool:
            for task in tasks:
                waiting.append(pool.submit(_answer, task))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        if threads is None:
            os.environ.pop(_THREADS, None)
        else:
            os.environ[_THREADS] = threads


def _prepare(make: Make) -> None:
    global _work
    _work = make()


def _answer(task: Any) -> Any:
    return None if _work is None else _work(task)
