"""What a run prints while it works: one line per stage, with what it did and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.status import Status

# Seconds between two words on how far a long piece of work has come.
PATIENCE = 5.0
OK, FAILED = "[green]✓[/]", "[red]✗[/]"


class Progress:
    """Lines on a terminal, or plain lines where the output is no terminal.

    Parameters
    ----------
    console
        Where to print.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._started: dict[str, float] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_status()

    def begin(self, stage: str) -> None:
        """Say that a stage has begun."""
        self._started[stage] = time.monotonic()
        if self.console.is_terminal:
            self._stop_status()
            self._status = self.console.status(f"{stage} ...")
            self._status.start()

    def update(self, stage: str, text: str) -> None:
        """Say what a stage is at; only a terminal shows it."""
        if self._status is not None:
            self._status.update(escape(f"{stage}: {text}"))

    def end(self, stage: str, note: str = "", *, is_good: bool = True) -> None:
        """Print what a stage did and how long it took."""
        self._stop_status()
        seconds = time.monotonic() - self._started.pop(stage, time.monotonic())
        mark = OK if is_good else FAILED
        self.console.print(f" {mark} {stage:<28} {seconds:6.1f} s  ", end="")
        self.console.print(note, markup=False)

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self._stop_status()
        self.console.print(text, markup=False)

    def _stop_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


class Counter:
    """Counts rows of a long piece of work, and says now and then how much time is left.

    Nothing is said of work that is over within a few seconds.

    Parameters
    ----------
    total
        Rows in all.
    what
        What they are, such as ``customers``.
    tell
        Told a sentence.
    clock
        Seconds.
    """

    def __init__(
        self,
        total: int,
        what: str,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.what, self.done = total, what, 0
        self._tell, self._clock = tell, clock
        self._began = self._told = clock()

    def __call__(self, rows: int) -> None:
        """Count rows that are done."""
        self.done += rows
        now = self._clock()
        if now - self._told < PATIENCE or not self.done:
            return
        self._told = now
        left = (now - self._began) * max(self.total - self.done, 0) / self.done
        self._tell(f"{self.done:,} of {self.total:,} {self.what}, {describe_seconds(left)} left")


class FitCounter:
    """Counts the fits of a training, and says after each one how much time is left.

    Parameters
    ----------
    total
        Fits in all.
    tell
        Told a sentence and the share that is done.
    clock
        Seconds.
    """

    def __init__(
        self,
        total: int,
        tell: Callable[[str, float], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.done = total, 0
        self._tell, self._clock = tell, clock
        self._began = clock()

    def __call__(self, text: str) -> None:
        """Count a fit that is done."""
        self.done += 1
        left = (self._clock() - self._began) * max(self.total - self.done, 0) / self.done
        share = min(self.done / max(self.total, 1), 1.0)
        self._tell(f"{text}, fit {self.done} of {self.total}, {describe_seconds(left)} left", share)

    def skip(self, fits: int) -> None:
        """Take off fits that need not, or can't, be made."""
        self.total -= fits


def describe_seconds(seconds: float) -> str:
    """Say how long a time is, as people do."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole / 3600:.1f} h"
