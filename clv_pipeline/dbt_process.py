"""dbt in this process: what it leaves open is closed, and what it says is told in a sentence."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clv_pipeline.progress import describe_seconds
from clv_pipeline.settings import Settings

# What the macro tell_slices logs: model, slices done, slices in all, rows in all.
_SLICE = re.compile(r"^slices (\w+) (\d+) (\d+) (\d+)$")


@dataclass(frozen=True)
class NodeResult:
    """What became of one model or test.

    Attributes
    ----------
    node
        dbt's unique id.
    relation
        The quoted name of what a model made; None for a test.
    status
        In dbt's words: success, pass, warn, fail, error, skipped, ...
    seconds
        How long it took.
    count_failed
        Rows that broke a test's rule.
    message
        What dbt says of it.
    """

    node: str
    relation: str | None
    status: str
    seconds: float
    count_failed: int
    message: str | None


class TransformError(RuntimeError):
    """dbt could not build what was asked for; the message names the model or test, and why.

    Parameters
    ----------
    message
        The sentence.
    results
        What ended before or by the failure.
    """

    def __init__(self, message: str, results: tuple[NodeResult, ...] = ()) -> None:
        super().__init__(message)
        self.results = results


class SliceTeller:
    """Hears dbt, and says of models that are built in slices how far they have come.

    Parameters
    ----------
    tell
        Told a sentence.
    clock
        Seconds.
    """

    def __init__(
        self, tell: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell, self._clock = tell, clock
        self._began: dict[str, float] = {}

    def __call__(self, event: Any) -> None:
        """Hear one of dbt's events."""
        if event.info.name == "LogStartLine":
            self._began[event.data.node_info.node_name] = self._clock()
            return
        found = _SLICE.search(event.info.msg)
        if event.info.name != "JinjaLogDebug" or found is None:
            return
        model, done, total, rows = found[1], *map(int, found.groups()[1:])
        seconds = self._clock() - self._began.get(model, self._clock())
        left = describe_seconds(seconds * (total - done) / done)
        pace = f", {rows * done / total / seconds:,.0f} a second" if seconds else ""
        self._tell(
            f"{model}: {rows * done // total:,} of {rows:,} rows read, slice {done} of {total}"
            f"{pace}, {left} left"
        )


def quiet_options(arguments: Sequence[str]) -> list[str]:
    """Return options that keep dbt from printing, writing and testing what nobody asked for."""
    options = ["--log-level", "none", "--log-level-file", "info", "--no-print"]
    if arguments[0] in ("build", "compile"):
        # Writing the manifest anew takes longer than a stage of a small shop.
        options.append("--no-write-json")
    if arguments[0] == "build" and "--resource-type" not in arguments:
        options += ["--exclude-resource-type", "unit_test"]
    return options


@contextmanager
def environment_of(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def close_connections() -> None:
    """Close every database that dbt holds open."""
    # dbt keeps the database open for the life of the process; nobody else could open it then.
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.adapters.factory import FACTORY

    factory: Any = FACTORY
    manager: Any = DuckDBConnectionManager
    for adapter in factory.adapters.values():
        adapter.cleanup_connections()
    factory.reset_adapters()
    if manager._ENV is not None:
        manager._ENV.close()
    manager.close_all_connections()


def close_logs() -> None:
    """Close the log files that dbt forgets."""
    from dbt_common.events.event_manager_client import cleanup_event_logger, get_event_manager

    manager: Any = get_event_manager()
    for logger in manager.loggers:
        for handler in getattr(getattr(logger, "_python_logger", None), "handlers", ()):
            if isinstance(handler, logging.FileHandler):
                handler.close()
    cleanup_event_logger()


def read_results(outcome: Any) -> tuple[NodeResult, ...]:
    """Return what became of each model and test, in the order in which they ended."""
    found = getattr(outcome.result, "results", None) or ()
    return tuple(
        NodeResult(
            result.node.unique_id,
            getattr(result.node, "relation_name", None),
            str(result.status),
            float(result.execution_time),
            int(result.failures or 0),
            result.message or None,
        )
        for result in found
        if hasattr(result, "node")
    )


def explain_failure(arguments: Sequence[str], outcome: Any, settings: Settings) -> str:
    """Say in a sentence which models and tests failed, and why."""
    failed = []
    for result in getattr(outcome.result, "results", None) or ():
        if str(result.status) in ("error", "fail", "runtime error"):
            message = " ".join(str(result.message or "").split())
            failed.append(f"{result.node.resource_type} {result.node.name}: {message}")
    if not failed:
        failed = [" ".join(str(outcome.exception or "no reason was given").split())]
    return (
        f"dbt {arguments[0]} failed. {' | '.join(failed)} "
        f"(The whole log is in {settings.paths.dbt_target / 'logs'}.)"
    )
