"""How far landing has come, told every few seconds: rows, rows a second, and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clv_pipeline.ingest.posting import Delivery
from clv_pipeline.ingest.readers import PART_ROWS
from clv_pipeline.ingest.sources import Source
from clv_pipeline.progress import PATIENCE, describe_seconds


class Pace:
    """Counts the rows of one input as they land; how much is left, the files' sizes say.

    Parameters
    ----------
    name
        Of the input.
    tell
        Told a sentence.
    clock
        Seconds.
    """

    def __init__(
        self, name: str, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._tell, self._clock = name, tell, clock
        self._began = self._told = clock()
        self._rows = self._bytes_done = self._bytes = 0
        self._is_new = False

    def expect(self, files: Iterable[Path]) -> None:
        """Say which files there are."""
        self._bytes = sum(file.stat().st_size for file in files)

    def count(self, parts: Iterable[str], delivery: Delivery, count: int | None) -> Iterator[str]:
        """Pass on the parts of a file, and count their rows when they have landed."""
        size, number = delivery.source.size, 0
        self._is_new = True
        for number, part in enumerate(parts, 1):
            yield part
            if count and number * PART_ROWS < count:
                share = number * PART_ROWS / count
                self._say(self._rows + number * PART_ROWS, self._bytes_done + share * size)
        self._rows += (number - 1) * PART_ROWS if count is None else count

    def end_file(self, source: Source) -> None:
        """Note that a file is dealt with; one that had landed before takes no time."""
        if self._is_new:
            self._bytes_done += source.size
            self._say(self._rows, self._bytes_done)
        else:
            self._bytes -= source.size
        self._is_new = False

    def _say(self, rows: int, done: float) -> None:
        now = self._clock()
        if now - self._told < PATIENCE or not rows or not done:
            return
        self._told = now
        seconds = now - self._began
        left = seconds * max(self._bytes - done, 0) / done
        total = max(round(rows * self._bytes / done), rows)
        self._tell(
            f"{self._name}: {rows:,} of about {total:,} rows, {rows / seconds:,.0f} a second, "
            f"{describe_seconds(left)} left"
        )
