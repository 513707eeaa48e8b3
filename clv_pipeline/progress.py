"""What a run prints while it works: one line per stage, with what it did and how long it took."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.status import Status

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
