"""What all benchmarks share: run a function in a process of its own, several times, and tabulate.

Each run is a fresh process: its peak memory is its own, and no run profits from what an earlier
one left in memory. What is measured and what it is held against run in the same call of the same
command, so that a ratio means something on a machine that others use too.

    found = measure("DuckDB", build_features, folder, runs=3)
    found.median, found.peak_bytes, found.answer

A function that is measured lives in a module (not in a ``__main__``), takes and returns plain
values, and may name what it needs before the clock starts as ``prepare``.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.watching import peak_memory, watch_processes

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Measured:
    """What came of running one thing several times.

    Attributes
    ----------
    name
        As the table says it.
    seconds
        Wall time of each run, without starting Python and without ``prepare``.
    peak_bytes
        The most resident memory that any run's process had over its whole life, and its children
        at once.
    answer
        What the last run returned.
    """

    name: str
    seconds: tuple[float, ...]
    peak_bytes: int
    answer: Any = None

    @property
    def median(self) -> float:
        """Seconds of the median run."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Timed:
    """What a measured function returns that has looked at a clock itself.

    Attributes
    ----------
    seconds
        Takes the place of the wall time of the call.
    answer
        What it found.
    """

    seconds: float
    answer: Any = None


class MeasuringError(RuntimeError):
    """A measured function failed in its process; the message is its traceback."""


def measure(
    name: str,
    function: Callable[..., Any],
    *arguments: Any,
    runs: int = 3,
    prepare: Callable[[], Any] | None = None,
) -> Measured:
    """Run a function of a module in fresh processes, one after the other.

    Parameters
    ----------
    name
        For the table.
    function, arguments
        What to run. Both travel to the process, so the function has a name in a module.
    runs
        How often.
    prepare
        Runs in the same process before the clock starts: imports, copies of files.

    Raises
    ------
    MeasuringError
        If a run fails.
    """
    seconds, peaks, answer = [], [], None
    for _ in range(runs):
        took, peak, answer = _run_once(function, arguments, prepare)
        seconds.append(took)
        peaks.append(peak)
    found = Measured(name, tuple(seconds), max(peaks), answer)
    print(f"  {name}: {_seconds(found.median)} s, {_size(found.peak_bytes)}", file=sys.stderr)
    return found


def _run_once(
    function: Callable[..., Any], arguments: Sequence[Any], prepare: Callable[[], Any] | None
) -> tuple[float, int, Any]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, arguments, prepare))
    process.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        raise MeasuringError(
            f"{function.__name__} ended with exit code {process.exitcode} and without an answer; "
            "-9 is how Linux ends a process that takes too much memory."
        ) from None
    process.join()
    if isinstance(outcome, str):
        raise MeasuringError(outcome)
    took, peak, answer = outcome
    return float(took), int(peak), answer


def _child(
    sender: Any,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    prepare: Callable[[], Any] | None,
) -> None:
    try:
        if prepare is not None:
            prepare()
        with watch_processes() as processes:
            began = time.perf_counter()
            answer = function(*arguments)
            took = time.perf_counter() - began
        if isinstance(answer, Timed):
            took, answer = answer.seconds, answer.answer
        sender.send((took, max(peak_memory(), processes.peak_bytes), answer))
    except BaseException:
        sender.send(traceback.format_exc())
    finally:
        sender.close()


@dataclass
class Table:
    """One table of results: a line per thing measured.

    Attributes
    ----------
    title
        Heading of the table.
    against
        Name of the line that ratios refer to unless a line names another.
    """

    title: str
    against: str | None = None
    lines: list[tuple[Measured, str | None, str]] = field(default_factory=list)

    def add(self, found: Measured, against: str | None = None, note: str = "") -> Measured:
        """Add a line.

        Parameters
        ----------
        found
            What was measured.
        against
            Name of the line that this one's ratio refers to; the table's when None.
        note
            What else is to be said of it, such as rows.
        """
        self.lines.append((found, against or self.against, note))
        return found

    def __getitem__(self, name: str) -> Measured:
        return next(found for found, _, _ in self.lines if found.name == name)

    def render(self) -> str:
        """Return the table in Markdown."""
        medians = {found.name: found.median for found, _, _ in self.lines}
        rows = [
            f"### {self.title}",
            "",
            "| | median s | runs | peak memory | times | of | |",
            "|---|---:|---:|---:|---:|---|---|",
        ]
        for found, against, note in self.lines:
            ratio = ""
            if against in medians and against != found.name:
                ratio = _ratio(found.median / medians[against])
            cells = [
                found.name,
                _seconds(found.median),
                str(len(found.seconds)),
                _size(found.peak_bytes),
                ratio,
                against if ratio and against else "",
                note,
            ]
            rows.append("| " + " | ".join(cells) + " |")
        return "\n".join([*rows, ""])


class Rendered(Protocol):
    """What a page of results is made of."""

    def render(self) -> str:
        """Return it in Markdown."""
        ...


def write_results(
    name: str,
    title: str,
    command: str,
    tables: Iterable[Rendered],
    text: str,
    folder: Path = RESULTS,
) -> Path:
    """Print tables and write them to ``benchmarks/results/<name>.md``.

    Parameters
    ----------
    name
        Of the file, without ending.
    title
        Its heading.
    command
        What prints it again.
    tables
        The tables, in order.
    text
        What was measured, in a sentence or two, before the tables.
    folder
        Where the file goes, instead of ``benchmarks/results``.
    """
    parts = [f"# {title}", "", text, "", describe_machine(), ""]
    parts += [table.render() for table in tables]
    parts += [f"`{command}`", ""]
    page = "\n".join(parts)
    print(page)
    path = folder / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def describe_machine() -> str:
    """Return a sentence on the machine and on how busy others keep it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, Python "
        f"{platform.python_version()}; load average at the end {os.getloadavg()[0]:.1f}. Ratios "
        "are of one run of one command; seconds are of a shared machine."
    )


def is_installed(module: str) -> bool:
    """Whether a peer can be measured here."""
    return importlib.util.find_spec(module) is not None


def arguments_of(
    document: str | None, questions: Sequence[str], orders: int = 1_000_000
) -> argparse.ArgumentParser:
    """Return the options that benchmarks of scale share.

    Parameters
    ----------
    document
        The module's docstring.
    questions
        What ``--only`` chooses from.
    orders
        How many orders to simulate unless another number is given.
    """
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=_count, default=orders, help="orders to simulate")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument(
        "--only",
        type=lambda text: _chosen(text, questions),
        default=tuple(questions),
        help=f"some of {', '.join(questions)}, separated by commas",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("clv_benchmarks"),
        help="where orders and warehouses lie; kept, so that the next call finds them",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table goes")
    return parser


def _count(text: str) -> int:
    return int(text.replace("_", "").replace(",", ""))


def _chosen(text: str, questions: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in chosen if name not in questions]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)} can't be measured; choose from {', '.join(questions)}."
        )
    return chosen


def _seconds(seconds: float) -> str:
    return f"{seconds:.{3 if seconds < 1 else 2 if seconds < 100 else 0}f}"


def _size(count_bytes: int) -> str:
    size = count_bytes / 2**20
    return f"{size:,.0f} MiB" if size < 10_000 else f"{size / 1024:,.1f} GiB"


def _ratio(ratio: float) -> str:
    return f"{ratio:.{3 if ratio < 1 else 2 if ratio < 10 else 0}f}"
