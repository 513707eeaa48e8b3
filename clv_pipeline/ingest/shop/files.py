"""Files of the simulated shop: split by time, appended chunk by chunk, the same bytes each time."""

from __future__ import annotations

import functools
import gzip
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from clv_pipeline.ingest.shop.parameters import REPORTING_CURRENCY, TIME_ZONE
from clv_pipeline.ingest.shop.process import IntArray
from clv_pipeline.settings import CONFIG_NAME
from clv_pipeline.warehouse import write_atomically

FileFormat = Literal["csv", "parquet"]
FilesPer = Literal["all", "year", "month", "day"]
SUFFIXES: dict[FileFormat, str] = {"csv": ".csv.gz", "parquet": ".parquet"}
_MARK = """This folder was written by a simulation: the truth about customers who do not exist.
docs/simulated_shop.md says by which laws.
"""
# Days of history that the first cutoff asks for.
FIRST_CUTOFF_AFTER = 89
_UNITS = {"year": "Y", "month": "M", "day": "D"}


class _CsvFile:
    """A gzipped CSV file with instants in ISO 8601 and their offset."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        # No name and no time in the header, so that the same rows give the same bytes.
        self._sink = gzip.GzipFile("", "wb", compresslevel=4, fileobj=self._file, mtime=0)
        self._writer = pacsv.CSVWriter(
            self._sink,
            _as_text(schema.empty_table()).schema,
            write_options=pacsv.WriteOptions(quoting_style="needed"),
        )

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(_as_text(table))

    def close(self) -> None:
        self._writer.close()
        self._sink.close()
        self._file.close()


class _ParquetFile:
    """A Parquet file compressed with zstd."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(
            path, schema, compression="zstd", store_decimal_as_integer=True
        )

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


class FileSet:
    """The files of one input, one for each period in which rows were delivered.

    Parameters
    ----------
    folder
        Where the files go; made if missing.
    name
        First part of their names; the period follows.
    file_format
        ``csv`` (gzipped) or ``parquet``.
    per
        Period of one file.
    start
        Day 0.
    """

    def __init__(
        self, folder: Path, name: str, file_format: FileFormat, per: FilesPer, start: date
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._format, self._per = folder, name, file_format, per
        self._start = np.datetime64(start, "D")
        self._open: dict[str, _CsvFile | _ParquetFile] = {}
        self.paths: list[Path] = []
        self.count_rows = 0

    def write(self, table: pa.Table, day: IntArray | None = None) -> None:
        """Append rows; ``day`` is ascending and decides the file."""
        self.count_rows += table.num_rows
        if self._per == "all" or day is None:
            self._file("", table.schema).write(table)
            return
        period = (self._start + day).astype(f"datetime64[{_UNITS[self._per]}]")
        names, first = np.unique(period, return_index=True)
        last = np.append(first[1:], day.size)
        for name, begin, end in zip(names, first, last, strict=True):
            self._file(f"_{name}", table.schema).write(table.slice(begin, end - begin))

    def close(self) -> None:
        """Finish every file."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _file(self, period: str, schema: pa.Schema) -> _CsvFile | _ParquetFile:
        if period not in self._open:
            path = self._folder / f"{self._name}{period}{SUFFIXES[self._format]}"
            kind = _CsvFile if self._format == "csv" else _ParquetFile
            self._open[period] = kind(path, schema)
            self.paths.append(path)
        return self._open[period]


def write_bad_rows(
    path: Path, file_format: FileFormat, schema: pa.Schema, start: date, each: int
) -> int:
    """Write transactions that can't be read or believed, so many of each kind; return the rows.

    Parquet holds typed values, so that only the unbelievable kinds exist there.
    """
    if each == 0:
        return 0
    good = {"user_id": "U0000000010", "ts": f"{start}T10:00:00+00:00", "amount": "10.00"}
    good |= {"currency": REPORTING_CURRENCY, "channel": "web", "quantity": "1"}
    kinds: list[dict[str, str | None]] = [
        {"amount": None},
        {"ts": None},
        {"ts": "1970-01-01T00:00:00+00:00"},
        {"ts": "2999-01-01T00:00:00+00:00"},
        {"currency": "XXX"},
    ]
    if file_format == "csv":
        kinds += [{"amount": "12,50"}, {"amount": "free"}, {"amount": "NaN"}, {"amount": "1e308"}]
        kinds += [{"ts": "yesterday"}, {"ts": "2022-02-30T10:00:00+00:00"}]
    rows: list[dict[str, Any]] = [
        {**good, **kind, "transaction_id": f"BAD{k:02d}{copy:04d}"}
        for k, kind in enumerate(kinds)
        for copy in range(each)
    ]
    columns = {
        name: pa.array([row.get(name) for row in rows], pa.string()) for name in schema.names
    }
    table = pa.table(columns)
    if file_format == "csv":
        file: _CsvFile | _ParquetFile = _CsvFile(path, table.schema)
    else:
        typed = [
            pc.cast(table[field.name], field.type)
            if not pa.types.is_timestamp(field.type)
            else pc.cast(pc.cast(table[field.name], pa.timestamp("s", "UTC")), field.type)
            for field in schema
        ]
        table = pa.Table.from_arrays(typed, schema=schema)
        file = _ParquetFile(path, schema)
    file.write(table)
    file.close()
    return len(rows)


def write_config(
    folder: Path, file_format: FileFormat, inputs: dict[str, bool], start: date, last_day: date
) -> None:
    """Write clv.toml for the files; ``inputs`` says of each whether it has a folder of its own."""
    suffix = SUFFIXES[file_format]
    lines = [
        "# A simulated shop: docs/simulated_shop.md says by which laws.",
        "[project]",
        'name = "shop"',
        f'time_zone = "{TIME_ZONE}"',
        f'reporting_currency = "{REPORTING_CURRENCY}"',
        "",
        "[cadence]",
        f"first_cutoff = {min(start + timedelta(days=FIRST_CUTOFF_AFTER), last_day)}",
        f"last_cutoff = {last_day} # the data end here",
        "",
    ]
    for name, has_folder in inputs.items():
        glob = f"{name}/*{suffix}" if has_folder else f"{name}{suffix}"
        lines += [f"[inputs.{name}]", f'files = ["{glob}"]']
        if name == "transactions":
            lines.append('exclude = [{ sql = "channel = \'test\'", reason = "a test order" }]')
        lines.append("")
    write_atomically(folder / CONFIG_NAME, "\n".join(lines).encode())


def clear_folder(folder: Path, inputs: dict[str, bool]) -> None:
    """Take away what an earlier simulated shop left in the folder, and mark it as one.

    Raises
    ------
    ValueError
        If files that would be replaced are not those of a simulated shop.
    """
    truth, mark = folder / "truth", folder / "truth" / "README"
    ours = [folder / CONFIG_NAME]
    ours += [folder / name for name, has_folder in inputs.items() if has_folder]
    ours += [folder / f"{name}{suffix}" for name in inputs for suffix in SUFFIXES.values()]
    ours.append(truth)
    there = [path.name for path in ours if path.exists()]
    if there and not mark.is_file():
        raise ValueError(
            f"{folder} holds {', '.join(there)}, which no simulated shop wrote: "
            "name an empty folder, so that nothing of yours is replaced."
        )
    # The settings go first and come last: whoever finds them finds a whole shop.
    for path in ours:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    write_atomically(mark, _MARK.encode())


def _as_text(table: pa.Table) -> pa.Table:
    for k, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(k, field.name, _iso_text(table.column(k)))
    return table


@functools.cache
def _times_of_day() -> np.ndarray[tuple[int, int], np.dtype[np.bytes_]]:
    """Return ``Thh:mm:ss`` of each second of a day, a row of characters each."""
    text = np.arange(86_400).astype("datetime64[s]").astype("S19")
    return text.view("S1").reshape(-1, 19)[:, 10:].copy()


def _iso_text(instants: pa.ChunkedArray) -> pa.Array:
    """Write whole seconds as ISO 8601; formatting each day and second once is ten times faster."""
    seconds = instants.cast(pa.int64()).to_numpy()
    if not seconds.size:
        return pa.array([], pa.string())
    day, second = np.divmod(seconds, 86_400)
    first = int(day.min())
    dates = np.arange(first, int(day.max()) + 1).astype("datetime64[D]").astype("S10")
    text = np.empty((seconds.size, 25), dtype="S1")
    text[:, :10] = dates.view("S1").reshape(-1, 10)[day - first]
    text[:, 10:19] = _times_of_day()[second]
    text[:, 19:] = np.frombuffer(b"+00:00", dtype="S1")
    offsets = np.arange(seconds.size + 1, dtype=np.int32) * np.int32(25)
    return pa.Array.from_buffers(
        pa.string(), seconds.size, [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )
