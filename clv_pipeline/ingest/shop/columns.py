"""Arrow columns from numpy without a loop over rows: ids, money, instants, coded text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clv_pipeline.ingest.shop.process import BoolArray, IntArray


@dataclass(frozen=True)
class Clock:
    """Business days and seconds of the shop's time zone as instants.

    Attributes
    ----------
    start
        Day 0.
    first_day
        Day number of the first entry of the offsets.
    night_offset, day_offset
        Seconds east of UTC at midnight and at noon of each day; a clock change falls between
        midnight and 3 o'clock.
    """

    start: date
    first_day: int
    night_offset: IntArray
    day_offset: IntArray

    @classmethod
    def build(cls, start: date, first_day: int, last_day: int, time_zone: str) -> Clock:
        """Look up the offsets of days ``first_day`` to ``last_day``."""
        zone = ZoneInfo(time_zone)

        def offsets(at: time) -> IntArray:
            found = []
            for k in range(first_day, last_day + 1):
                local = datetime.combine(start + timedelta(days=k), at, tzinfo=zone)
                found.append(int((local.utcoffset() or timedelta()).total_seconds()))
            return np.array(found, dtype=np.int64)

        return cls(start, first_day, offsets(time(0)), offsets(time(12)))

    def instants(self, day: IntArray, second: IntArray) -> pa.Array:
        """Return instants in UTC; local times that a clock change skips stay on their day."""
        index = day - self.first_day
        offset = np.where(second < 3 * 3600, self.night_offset[index], self.day_offset[index])
        midnight = (np.datetime64(self.start, "D").astype(np.int64) + day) * 86_400
        return pa.array((midnight + second - offset).astype(np.int64), pa.timestamp("s", "UTC"))

    def dates(self, day: IntArray) -> pa.Array:
        """Return calendar days; negative day numbers are missing."""
        dates = np.datetime64(self.start, "D") + day
        return pa.array(dates, pa.date32(), mask=day < 0)

    def date(self, day: int) -> date:
        """Return the calendar day of a day number."""
        return self.start + timedelta(days=day)


def numbered_ids(
    prefix: str, number: IntArray, digits: int, missing: BoolArray | None = None
) -> pa.Array:
    """Return ids such as ``U0000000120``: the prefix and the number with leading zeros."""
    width = len(prefix) + digits
    text = np.empty((number.size, width), dtype=np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), dtype=np.uint8)
    rest = number.astype(np.int64)
    for k in range(width - 1, len(prefix) - 1, -1):
        rest, digit = np.divmod(rest, 10)
        text[:, k] = digit + ord("0")
    offsets = np.arange(number.size + 1, dtype=np.int32) * np.int32(width)
    ids = pa.Array.from_buffers(
        pa.string(), number.size, [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )
    if missing is None:
        return ids
    return pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), ids)


def account_ids(number: IntArray) -> pa.Array:
    """Return user ids; negative numbers have none."""
    return numbered_ids("U", np.maximum(number, 0), 10, number < 0)


def money(cents: IntArray) -> pa.Array:
    """Return exact amounts of two decimals."""
    halves = np.empty((cents.size, 2), dtype=np.int64)
    halves[:, 0] = cents
    halves[:, 1] = cents >> 63
    return pa.Array.from_buffers(pa.decimal128(18, 2), cents.size, [None, pa.py_buffer(halves)])


def coded_text(words: Sequence[str], code: npt.NDArray[np.integer]) -> pa.Array:
    """Return text by its position in ``words``; -1 is missing."""
    return pa.array(words).take(pa.array(code, pa.int32(), mask=code < 0))


def optional_flags(flag: BoolArray, missing: BoolArray) -> pa.Array:
    """Return flags, some of them missing."""
    return pa.array(flag, mask=missing)
