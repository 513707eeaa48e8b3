"""What a file seems to hold: its form, and what each of its columns could be."""

from __future__ import annotations

import codecs
import gzip
import re
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from clv_pipeline.ingest.contract import TRANSACTIONS
from clv_pipeline.ingest.parsing import Parser
from clv_pipeline.ingest.readers import (
    Rows,
    read_csv_carefully,
    read_csv_fast,
    read_csv_shape,
    read_parquet,
    read_table,
)
from clv_pipeline.ingest.report import LandingError
from clv_pipeline.ingest.sources import UTF16_MARKS, DamagedFileError, Source, look_at
from clv_pipeline.ingest.tables import attached_table
from clv_pipeline.settings import InputSettings
from clv_pipeline.warehouse import quote_identifier, quote_literal, read_row

# Rows looked at for what columns are; the days that a file covers are taken from all of it.
SAMPLE_ROWS = 200_000
_ENCODINGS = ("utf-8", "cp1252", "latin-1")
_DAYS: tuple[str, ...] = (
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y%m%d",
)
_DAYS += ("%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d/%m/%y", "%m/%d/%y")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S")
DATE_FORMATS = tuple(day + time for day in _DAYS for time in _TIMES)
_LETTERED = frozenset(
    "KR ZŁ KČ FT LEI R$ US$ RS CHF EUR USD GBP SEK NOK DKK PLN CZK".split()  # noqa: SIM905
)
# Rows on which a way of reading is tried before it is tried on the sample.
FEW_ROWS = 500
# A column is what most of its values can be read as.
MOST = 0.9


@dataclass(frozen=True)
class Column:
    """What the values of a column could be.

    Attributes
    ----------
    name, type
        As the source has them.
    count, count_blank, count_distinct
        Of the sample.
    share_instant
        Share of values that are instants in ISO form, or in ``date_format``.
    date_format
        The form of instants that are not in ISO form.
    is_ambiguous
        Whether day and month could be swapped without any value becoming unreadable.
    has_offset
        Whether instants say their offset from UTC.
    share_number
        Share of values that are numbers as ``number`` reads them.
    number
        Decimal and thousands separator and currency symbols, as settings name them.
    has_decimals, has_negatives
        Whether some numbers are so.
    share_code
        Share of values that are three capital letters.
    examples
        The most frequent values.
    """

    name: str
    type: str
    count: int
    count_blank: int
    count_distinct: int
    share_instant: float = 0.0
    date_format: str | None = None
    is_ambiguous: bool = False
    has_offset: bool = False
    share_number: float = 0.0
    number: tuple[str, str, tuple[str, ...]] = (".", "", ())
    has_decimals: bool = False
    has_negatives: bool = False
    share_code: float = 0.0
    examples: tuple[str, ...] = ()

    @property
    def is_instant(self) -> bool:
        """Whether most values are instants."""
        return self.share_instant >= MOST

    @property
    def is_number(self) -> bool:
        """Whether most values are numbers."""
        return self.share_number >= MOST

    @property
    def is_unique(self) -> bool:
        """Whether no value comes twice."""
        return self.count_distinct == self.count - self.count_blank and self.count_distinct > 1


@dataclass(frozen=True)
class Profile:
    """A file or a table, and its columns.

    Attributes
    ----------
    source
        The file, or the file and the table.
    settings
        How to read it: encoding and delimiter.
    count
        Rows of the sample.
    """

    source: Source
    settings: InputSettings
    columns: tuple[Column, ...]
    count: int

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)


@contextmanager
def sampled(
    connection: duckdb.DuckDBPyConnection, root: Path, file: Path, table: str | None = None
) -> Iterator[tuple[Source, InputSettings, Rows]]:
    """Open a file however it can be opened, trying one encoding after the other.

    Raises
    ------
    LandingError
        If it can't be read.
    """
    if table is not None:
        settings = InputSettings(duckdb=file, table=table)
        with attached_table(connection, root, settings) as (source, relation):
            yield source, settings, read_table(connection, relation)
        return
    encodings = ("utf-16",) if _starts_with(file, UTF16_MARKS) else _ENCODINGS
    for encoding in encodings:
        settings = InputSettings(files=(str(file),), encoding=encoding)
        try:
            source = look_at(root, file, settings)
            break
        except DamagedFileError:
            if encoding == encodings[-1]:
                raise
    if source.format == "parquet":
        yield source, settings, read_parquet(connection, source)
        return
    shape = read_csv_shape(source, settings)
    if shape is None:
        raise LandingError(f"{source.path} is empty.")
    if codecs.lookup(settings.encoding).name == "utf-8":
        try:
            for part in read_csv_fast(connection, source, shape).parts:
                read_row(connection, f"SELECT count(*) FROM {part}")
            yield source, settings, read_csv_fast(connection, source, shape)
            return
        except duckdb.Error:
            # Some of its records are malformed; the careful reader sets those apart.
            pass
    with read_csv_carefully(connection, source, shape, settings) as rows:
        yield source, settings, rows


def _starts_with(file: Path, marks: tuple[bytes, ...]) -> bool:
    with file.open("rb") as stream:
        start = stream.read(4)
    if start.startswith(b"\x1f\x8b"):
        with suppress(EOFError, OSError, zlib.error), gzip.open(file) as stream:
            start = stream.read(4)
    return start.startswith(marks)


def profile(
    connection: duckdb.DuckDBPyConnection, root: Path, file: Path, table: str | None = None
) -> Profile:
    """Look at a file; leave a sample of it in the temporary table ``_clv_sample``.

    Raises
    ------
    LandingError
        If it can't be read.
    """
    with sampled(connection, root, file, table) as (source, settings, rows):
        part = next(iter(rows.parts))
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE _clv_sample AS SELECT * EXCLUDE "
            "(_clv_row, _clv_malformed, _clv_text) "
            f"FROM {part} WHERE _clv_malformed IS NULL LIMIT {SAMPLE_ROWS}"
        )
        rows.close()
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE _clv_few AS FROM _clv_sample USING SAMPLE {FEW_ROWS} ROWS "
        "(reservoir, 1)"
    )
    columns = tuple(_column(connection, name, kind) for name, kind in rows.columns.items())
    (count,) = read_row(connection, "SELECT count(*) FROM _clv_sample")
    return Profile(source, settings, columns, count)


def covered_days(
    connection: duckdb.DuckDBPyConnection, root: Path, chosen: Profile, column: Column
) -> tuple[date, date] | None:
    """Return the first and the last plausible day of a column of instants, over the whole file."""
    field = TRANSACTIONS.field("ts")
    settings = chosen.settings.model_copy(update={"date_format": column.date_format})
    parser = Parser(settings, "UTC", received_at=datetime.now(UTC))
    value = parser.value(field, quote_identifier(column.name), column.type)
    earliest, latest = parser.bounds(field)
    table = chosen.source.table
    with sampled(connection, root, chosen.source.file, table) as (_, _, rows):
        days = [
            day
            for part in rows.parts
            for day in read_row(
                connection,
                f"SELECT min(found)::DATE, max(found)::DATE FROM (SELECT {value} AS found "
                f"FROM {part}) WHERE found BETWEEN {earliest} AND {latest}",
            )
            if day is not None
        ]
    return (min(days), max(days)) if days else None


def _column(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> Column:
    quoted = quote_identifier(name)
    blank = Parser(InputSettings(files=("x",)), "UTC").is_blank(quoted, kind)
    count, count_blank, distinct = read_row(
        connection,
        f"SELECT count(*), count(*) FILTER ({blank}), count(DISTINCT {quoted}) FROM _clv_sample",
    )
    top = connection.execute(
        f"SELECT CAST({quoted} AS VARCHAR) FROM _clv_sample WHERE NOT {blank} "
        "GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 5"
    ).fetchall()
    column = Column(name, kind, count, count_blank, distinct, examples=tuple(r[0] for r in top))
    if count == count_blank:
        return column
    column = _as_instants(connection, column)
    if not column.is_instant:
        column = _as_numbers(connection, column)
    code = f"regexp_full_match(trim(CAST({quoted} AS VARCHAR)), '[A-Z]{{3}}')"
    return replace(column, share_code=_share(connection, column, code))


def _share(connection: duckdb.DuckDBPyConnection, column: Column, condition: str) -> float:
    """Return the share of the values that are there for which a condition holds.

    Where hardly any of a few values meets it, it is the share of those.
    """
    blank = Parser(InputSettings(files=("x",)), "UTC").is_blank(
        quote_identifier(column.name), column.type
    )
    share = 0.0
    for table in ("_clv_few", "_clv_sample"):
        found, present = read_row(
            connection,
            f"SELECT count(*) FILTER ({condition}), count(*) FILTER (NOT {blank}) FROM {table}",
        )
        share = found / max(present, 1)
        if present > FEW_ROWS / 5 and share < MOST / 2:
            break
    return share


def _any(connection: duckdb.DuckDBPyConnection, condition: str) -> bool:
    (found,) = read_row(connection, f"SELECT bool_or({condition}) FROM _clv_sample")
    return bool(found)


def _as_instants(connection: duckdb.DuckDBPyConnection, column: Column) -> Column:
    field = TRANSACTIONS.field("ts")
    quoted = quote_identifier(column.name)
    if column.type == "DATE" or column.type.startswith("TIMESTAMP"):
        return replace(column, share_instant=1.0, has_offset="ZONE" in column.type)
    if column.type != "VARCHAR":
        return column
    parser = Parser(InputSettings(files=("x",)), "UTC")
    share = _share(connection, column, f"{parser.value(field, quoted, 'VARCHAR')} IS NOT NULL")
    if share >= MOST:
        offset = f"regexp_matches({quoted}, ':[0-9.,]+ ?(Z|z|UTC|[+-]\\d{{2}}(:?\\d{{2}})?)$')"
        has_offset = _any(connection, offset)
        return replace(column, share_instant=share, has_offset=has_offset)
    shares = {}
    if re.search(r"\d", "".join(column.examples)):
        tests = {
            form: f"try_strptime(trim({quoted}), {quote_literal(form)}) IS NOT NULL"
            for form in DATE_FORMATS
        }
        listed = ", ".join(f"count(*) FILTER ({test})" for test in tests.values())
        found = read_row(connection, f"SELECT {listed} FROM _clv_few")
        likely = [form for form, count in zip(tests, found, strict=True) if count > max(found) / 2]
        shares = {form: _share(connection, column, tests[form]) for form in likely}
    best = max(shares, key=lambda form: shares[form], default=None)
    if best is None or shares[best] < MOST:
        return replace(column, share_instant=share)
    swapped = best.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")
    is_ambiguous = swapped != best and shares.get(swapped, 0.0) == shares[best]
    return replace(column, share_instant=shares[best], date_format=best, is_ambiguous=is_ambiguous)


def _is_currency(symbol: str) -> bool:
    is_sign = all(unicodedata.category(letter) == "Sc" for letter in symbol)
    return is_sign or symbol.rstrip(".").upper() in _LETTERED


def _as_numbers(connection: duckdb.DuckDBPyConnection, column: Column) -> Column:
    field = TRANSACTIONS.field("amount")
    quoted = quote_identifier(column.name)
    symbols: tuple[str, ...] = ()
    if column.type == "VARCHAR":
        found = connection.execute(
            "SELECT symbol, count(*) FROM (SELECT regexp_extract(trim("
            f"{quoted}), '^[+-]?\\s*([^\\d\\s.,+-]{{1,4}})\\s*[+-]?[\\d.,]+', 1) AS symbol "
            f"FROM _clv_sample UNION ALL SELECT regexp_extract(trim({quoted}), "
            "'[\\d.,]\\s*([^\\d\\s.,+-]{1,4})$', 1) FROM _clv_sample) "
            "WHERE symbol <> '' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3"
        ).fetchall()
        symbols = tuple(s for s, n in found if n > 0.01 * column.count and _is_currency(s))
    best = column
    candidates = [(".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'")]
    for decimal, thousands in candidates:
        settings = InputSettings.model_validate(
            {
                "files": ["x"],
                "decimal_separator": decimal,
                "thousands_separator": thousands,
                "currency_symbols": symbols,
            }
        )
        value = Parser(settings, "UTC").value(field, quoted, column.type)
        share = _share(connection, column, f"{value} IS NOT NULL")
        if share > max(best.share_number, MOST / 2):
            best = replace(
                best,
                share_number=share,
                number=(decimal, thousands, symbols),
                has_decimals=_any(connection, f"{value} <> trunc({value})"),
                has_negatives=_any(connection, f"{value} < 0"),
            )
        if share == 1.0 or column.type != "VARCHAR":
            break
    return best
