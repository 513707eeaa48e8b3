"""From a source to rows: streamed by DuckDB, or record by record where a CSV file is malformed.

Every reader yields the source's columns and, before them, ``_clv_row`` (1-based, header not
counted), ``_clv_malformed`` (why a record could not be split into columns, else null) and
``_clv_text`` (that record as delivered).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, cast

import duckdb
import pyarrow as pa

from clv_pipeline.ingest.report import LandingError
from clv_pipeline.ingest.sources import DamagedFileError, Source
from clv_pipeline.settings import InputSettings
from clv_pipeline.warehouse import quote_identifier, quote_literal, read_row

MARKERS = ("_clv_row", "_clv_malformed", "_clv_text")
DELIMITERS = (",", ";", "\t", "|")
# A longer field is a quote that was never closed.
LONGEST_FIELD = 1_000_000
_BATCH_ROWS = 10_000
# Rows that are judged and landed at a time; of a larger source, one part after the other. Eight of
# DuckDB's row groups: a part fills them, and they go to disk at once.
PART_ROWS = 8 * 122_880
_SHOWN_TEXT = 2_000
_RECORDS = "_clv_records"


@dataclass(frozen=True)
class Rows:
    """Rows that can be selected from.

    Attributes
    ----------
    columns
        The source's columns and their DuckDB types.
    count
        Rows there must be, where that is known independently of the reader.
    parts
        SQL to select from, part after part: the marker columns and the source's. A part is gone
        when the next one is taken.
    is_numbered
        Whether rows carry their numbers, so that they may be read in whatever order.
    """

    columns: dict[str, str]
    count: int | None
    parts: Iterable[str]
    is_numbered: bool = True

    def close(self) -> None:
        """Let go of a part that was not read to its end, while the connection is open."""
        if isinstance(self.parts, Generator):
            self.parts.close()


@dataclass(frozen=True)
class CsvShape:
    """The delimiter of a CSV file and the names of its columns."""

    delimiter: str
    columns: tuple[str, ...]


def read_table(
    connection: duckdb.DuckDBPyConnection, relation: str, count: int | None = None
) -> Rows:
    """Read a Parquet scan or a table as it stands."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    columns = {str(row[0]): str(row[1]) for row in described}
    listed = ", ".join(quote_identifier(name) for name in columns)
    return Rows(columns, count, [_number_rows(relation, listed)], is_numbered=False)


def read_parquet(connection: duckdb.DuckDBPyConnection, source: Source) -> Rows:
    """Read a Parquet file.

    Raises
    ------
    DamagedFileError
        If its index can't be read.
    """
    scan = f"read_parquet({quote_literal(_escape_glob(source.file))})"
    try:
        (count,) = read_row(
            connection,
            "SELECT num_rows FROM parquet_file_metadata(?)",
            [_escape_glob(source.file)],
        )
        columns = read_table(connection, scan).columns
    except duckdb.Error as error:
        raise DamagedFileError(f"{source.path} can't be read: {_first_line(error)}") from error
    listed = ", ".join(quote_identifier(name) for name in columns)
    # Where a row lies, the file says: parts are read without what comes before them.
    number = "file_row_number"
    if number in map(str.lower, columns):
        return Rows(columns, count, [_number_rows(scan, listed)], is_numbered=False)
    parts = (
        _mark_rows(
            f"{number} + 1",
            listed,
            f"{scan} WHERE {number} BETWEEN {first} AND {first + PART_ROWS - 1}",
        )
        for first in range(0, max(count, 1), PART_ROWS)
    )
    return Rows(columns, count, parts)


def read_csv_shape(source: Source, settings: InputSettings) -> CsvShape | None:
    """Read the names of a CSV file's columns and guess the delimiter that is not configured.

    Names that occur twice get a number; columns without a name are called by their position.

    Returns
    -------
    CsvShape or None
        None when the file is empty.
    """
    with _open_text(source, settings) as stream:
        lines = [line for _, line in zip(range(20), stream, strict=False)]
    if not "".join(lines).strip():
        return None
    if settings.delimiter is not None:
        delimiter = settings.delimiter
    else:
        delimiter = max(DELIMITERS, key=lambda candidate: _fit(lines, candidate))
    header = next(record for record in csv.reader(lines, delimiter=delimiter) if record)
    names: list[str] = []
    for position, raw in enumerate(header, start=1):
        name = base = raw.strip() or f"column_{position}"
        number = 1
        taken = {existing.lower() for existing in names}
        while name.lower() in taken:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return CsvShape(delimiter, tuple(names))


def read_csv_fast(connection: duckdb.DuckDBPyConnection, source: Source, shape: CsvShape) -> Rows:
    """Read a CSV file in UTF-8 by DuckDB's own reader, which raises at any malformed record."""
    columns = ", ".join(f"{quote_literal(name)}: 'VARCHAR'" for name in shape.columns)
    scan = (
        f"read_csv({quote_literal(_escape_glob(source.file))}, columns = {{{columns}}}, "
        f"auto_detect = false, header = true, delim = {quote_literal(shape.delimiter)}, "
        "quote = '\"', escape = '\"', strict_mode = true, "
        f"compression = {quote_literal('gzip' if source.is_compressed else 'none')})"
    )
    listed = ", ".join(quote_identifier(name) for name in shape.columns)
    types = dict.fromkeys(shape.columns, "VARCHAR")
    return Rows(types, source.count_records, _stream(connection, _number_rows(scan, listed)))


def _stream(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[str]:
    """Yield the rows of a query part by part, each as a table in memory."""
    cursor = connection.cursor()
    try:
        reader = cursor.sql(f"FROM {query}").to_arrow_reader(_BATCH_ROWS)
        yield from _registered(connection, reader, reader.schema)
    except (pa.ArrowException, OSError) as error:  # what Arrow makes of an error of DuckDB's
        raise duckdb.InvalidInputException(str(error)) from error
    finally:
        cursor.close()


class _Part:
    """The part of a source that is being read, which DuckDB asks for its rows.

    It is registered once: what is registered lives until the transaction ends, in which all parts
    of a source are landed.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []
        self.count = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self.count += batch.num_rows

    def clear(self) -> None:
        self._batches, self.count = [], 0

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        table = pa.Table.from_batches(self._batches, self._schema)
        return table.__arrow_c_stream__(requested_schema)


def _registered(
    connection: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[str]:
    """Yield parts of some batches, under the name of a view; at least one, if it is empty."""
    part, is_first = _Part(schema), True
    connection.register(_RECORDS, part)
    try:
        for batch in chain(batches, [None]):
            if batch is not None:
                part.add(batch)
            if part.count >= PART_ROWS or (batch is None and (part.count or is_first)):
                yield _RECORDS
                part.clear()
                is_first = False
    finally:
        connection.unregister(_RECORDS)


@contextmanager
def read_csv_carefully(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    shape: CsvShape,
    settings: InputSettings,
) -> Iterator[Rows]:
    """Read a CSV file record by record, in any encoding, keeping malformed records apart.

    A record that has too many or too few columns, or whose quotes don't close, is one malformed
    row; reading goes on at the line after the one on which it began.
    """
    fields = [pa.field("_clv_row", pa.int64())]
    fields += [pa.field(name, pa.string()) for name in (*MARKERS[1:], *shape.columns)]
    schema = pa.schema(fields)
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        with _open_text(source, settings) as stream:
            batches = _batches(_records(stream, shape), schema)
            parts = _registered(connection, batches, schema)
            yield Rows(dict.fromkeys(shape.columns, "VARCHAR"), None, parts)
    finally:
        csv.field_size_limit(limit)


def explain_unread(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    rows: Rows,
    error: duckdb.Error,
) -> LandingError:
    """Tell a source that can't be read from an expression that can't be computed."""
    message = _first_line(error)
    if source.format != "csv":
        listed = ", ".join(map(quote_identifier, rows.columns))
        again = read_parquet(connection, source) if source.format == "parquet" else rows
        try:
            for part in again.parts:
                read_row(connection, f"SELECT max(hash({listed})) FROM {part}")
        except duckdb.Error:
            return DamagedFileError(
                f"{source.path} can't be read to its end: {message} Deliver it again."
            )
    return LandingError(
        f"{source.path}: an expression under [inputs.{name}] in clv.toml can't be computed for one "
        f"of the rows: {message} Write TRY_CAST instead of CAST to get null for such values."
    )


class _Lines:
    """Lines of a text, of which those of a malformed record can be taken back but for the first."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = iter(stream)
        self._returned: list[str] = []
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._returned.pop() if self._returned else next(self._stream)
        self.taken.append(line)
        return line

    def return_all_but_first(self) -> str:
        self._returned.extend(reversed(self.taken[1:]))
        first = self.taken[0]
        self.taken.clear()
        return first


def _records(stream: IO[str], shape: CsvShape) -> Iterator[tuple[str | None, ...]]:
    """Yield malformed, text and the columns of each record after the header."""
    width = len(shape.columns)
    nothing = (None,) * width
    lines = _Lines(stream)
    reader = csv.reader(lines, delimiter=shape.delimiter, strict=True)
    is_header = True
    while True:
        lines.taken.clear()
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:
            first = lines.return_all_but_first()
            if not is_header:
                text = first.rstrip("\r\n")[:_SHOWN_TEXT]
                yield ("the quotes of this record don't match", text, *nothing)
            is_header = False
            continue
        if not record:
            continue
        if is_header:
            is_header = False
            continue
        if len(record) == width:
            yield (None, None, *record)
            continue
        reason = f"this record has {len(record)} columns instead of {width}"
        # Where its quotes closed by chance lines later, the lines between are rows of their own.
        first = lines.return_all_but_first()
        yield (reason, first.rstrip("\r\n")[:_SHOWN_TEXT], *nothing)


def _batches(
    records: Iterator[tuple[str | None, ...]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    row = 0
    while True:
        block = [record for _, record in zip(range(_BATCH_ROWS), records, strict=False)]
        if not block:
            return
        numbers = pa.array(range(row + 1, row + 1 + len(block)), pa.int64())
        row += len(block)
        texts = [pa.array(column, pa.string()) for column in zip(*block, strict=True)]
        yield pa.RecordBatch.from_arrays([numbers, *texts], schema=schema)


@contextmanager
def _open_text(source: Source, settings: InputSettings) -> Iterator[IO[str]]:
    encoding = settings.encoding
    if codecs.lookup(encoding).name == "utf-8":
        encoding = "utf-8-sig"
    with source.file.open("rb") as file:
        plain: IO[bytes] = file
        if source.is_compressed:
            plain = cast(IO[bytes], gzip.GzipFile(fileobj=file))
        with io.TextIOWrapper(plain, encoding=encoding, newline="") as text:
            yield text


def _fit(lines: list[str], delimiter: str) -> tuple[int, int]:
    """Return how well a delimiter explains the first lines: rows as wide as the header, width."""
    try:
        records = [record for record in csv.reader(lines, delimiter=delimiter) if record]
    except csv.Error:
        return (0, 0)
    width = len(records[0])
    if width == 1:
        return (0, 0)
    return (sum(len(record) == width for record in records[1:]), width)


def _number_rows(relation: str, listed: str) -> str:
    return _mark_rows("row_number() OVER ()", listed, relation)


def _mark_rows(number: str, listed: str, relation: str) -> str:
    return (
        f"(SELECT {number} AS _clv_row, CAST(NULL AS VARCHAR) AS _clv_malformed, "
        f"CAST(NULL AS VARCHAR) AS _clv_text, {listed} FROM {relation})"
    )


def _escape_glob(file: Path) -> str:
    # DuckDB expands *, ? and [ in names; a bracket makes each of them stand for itself.
    name = str(file.resolve())
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
