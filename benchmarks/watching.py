"""What a measured process holds in memory and on disk, and the most of it while a block runs."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

_POLL_SECONDS = 0.1


class Watch:
    """Watches the most that something comes to while a block runs, looking ten times a second.

    Parameters
    ----------
    look
        Returns how many bytes it is now.

    Attributes
    ----------
    peak_bytes
        The most seen so far.
    """

    def __init__(self, look: Callable[[], int]) -> None:
        self.peak_bytes = 0
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self._look())


def watch_processes() -> Watch:
    """Watch the resident memory that this process and its children have at the same time."""
    return Watch(processes_bytes)


def watch_folder(folder: Path) -> Watch:
    """Watch the bytes that a folder holds."""
    return Watch(partial(folder_bytes, folder))


def peak_memory() -> int:
    """Return the most resident memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would count what the parent had when it started this process.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def processes_bytes() -> int:
    """Return the resident memory of this process and its children; 0 where there is no ``/proc``.

    What they share is counted with each, so the figure errs upwards.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    held = 0
    for task in (None, *Path("/proc/self/task").glob("*/children")):
        try:
            for process in ("self",) if task is None else task.read_text().split():
                held += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * page
        except OSError:
            continue
    return held


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
