"""Batches worked out by several processes, in the order in which they came.

Python works on one core at a time. Where there are many customers, a process per core takes whole
batches; each answers for itself, so how many there are changes nothing but the time.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from clv_pipeline.settings import Settings

# Starting a process takes seconds; fewer customers are answered for sooner than that.
LEAST_ROWS = 300_000
# Binds those, too, that ask for a number of threads themselves, as XGBoost does.
_LIMIT = "OMP_THREAD_LIMIT"
_THREADS = ("OMP_NUM_THREADS", _LIMIT)

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Make = Callable[[], Callable[[Any], Any]]
_work: Callable[[Any], Any] | None = None


def count_workers(settings: Settings, rows: int, least: int = LEAST_ROWS) -> int:
    """Return how many processes share so many customers; one does where there are too few."""
    if rows < least:
        return 1
    return settings.engine.threads or os.cpu_count() or 1


@contextmanager
def with_one_thread() -> Iterator[None]:
    """Let linear algebra use one thread: more of them sum in another order, to other last bits."""
    with threadpool_limits(1, user_api="blas"):
        yield


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
    with open_pool(make, workers) as pool:
        for task in tasks:
            waiting.append(pool.submit(_answer, task))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def open_pool(make: Make, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open processes for ``answer_all``, each with a function that ``make`` makes there."""
    kept = {name: os.environ.get(name) for name in _THREADS}
    # Each has its share of the cores: what runs threads of its own must not take the others'.
    os.environ |= {"OMP_NUM_THREADS": "1", _LIMIT: str(max((os.cpu_count() or 1) // workers, 1))}
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _prepare, (make,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def answer_all(pool: ProcessPoolExecutor, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
    """Let processes answer for tasks, of whatever length; each as soon as it is done."""
    asked = {pool.submit(_answer, task): task for task in tasks}
    for done in as_completed(asked):
        yield asked[done], done.result()


def _prepare(make: Make) -> None:
    global _work
    _work = make()


def _answer(task: Any) -> Any:
    return None if _work is None else _work(task)
