"""From what a source delivers to the contract's types, in SQL; what can't be read gets a reason.

Every parser returns one SQL expression that is null where the value is blank or can't be read.
``problem`` then tells the two apart, so that nothing unreadable turns into a silent null.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from clv_pipeline.ingest.contract import Field
from clv_pipeline.settings import InputSettings
from clv_pipeline.warehouse import quote_literal

# Clocks and time zones of sources are sloppy; a row may lie so far beyond the moment it arrived.
FUTURE_TOLERANCE = timedelta(days=1)
LAST_PLAUSIBLE_DAY = date(2200, 12, 31)

# Surrounding characters that are no data: white space, the non-breaking space, a byte-order mark.
_BLANK = " \t\r\n\f\v\u00a0\u202f\ufeff"
_FLOATS = ("DOUBLE", "FLOAT")
_INTEGERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
)
_ISO = (
    r"\d{4}-\d{2}-\d{2}([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?"
    r"( ?(Z|z|UTC|[+-]\d{2}(:?\d{2})?))?)?"
)
_ISO_OFFSET = r":[0-9.,]+ ?(Z|z|UTC|[+-]\d{2}(:?\d{2})?)$"
TRUE = ("true", "t", "yes", "y", "1", "1.0", "ja", "oui", "si", "sí", "sì", "sim")
FALSE = ("false", "f", "no", "n", "0", "0.0", "nein", "non", "não", "nao")


@dataclass(frozen=True)
class Parser:
    """How the columns of one input are read.

    Attributes
    ----------
    settings
        Separators, symbols and formats of the input.
    time_zone
        IANA name; instants without an offset are in it, and days begin at its midnight.
    received_at
        When the files arrived, with an offset. Instants more than a day later are quarantined;
        when None, only those after the year 2200 are.
    """

    settings: InputSettings
    time_zone: str
    received_at: datetime | None = None

    def value(self, field: Field, column: str, source_type: str) -> str:
        """Return SQL for the typed value: null where it is blank or can't be read.

        Parameters
        ----------
        field
            The contract's column.
        column
            SQL that yields what the source delivers.
        source_type
            Its type in DuckDB.
        """
        kind = field.kind
        if kind in ("key", "text"):
            parsed = f"nullif({self._as_text(column, source_type)}, '')"
            if field.name == "currency":
                parsed = f"upper({parsed})"
        elif kind == "json":
            text = self._as_text(column, source_type)
            parsed = f"CASE WHEN json_valid({text}) THEN {text} END"
        elif kind == "flag":
            parsed = self._flag(column, source_type)
        elif kind == "money":
            parsed = self._money(column, source_type)
        elif kind == "number":
            parsed = self._number(column, source_type)
        elif kind == "day":
            parsed = f"CAST({self._local(column, source_type)} AS DATE)"
        else:
            parsed = self._instant(column, source_type)
        if field.default is not None:
            default = quote_literal(field.default)
            blank = self.is_blank(column, source_type)
            parsed = f"CASE WHEN {blank} THEN {default} ELSE {parsed} END"
        return parsed

    def is_blank(self, column: str, source_type: str) -> str:
        """Return SQL that tells whether the source delivers nothing."""
        if source_type == "VARCHAR":
            return f"(coalesce(trim({column}, {_quote_blank()}), '') = '')"
        return f"({column} IS NULL)"

    def problem(self, field: Field, column: str, source_type: str, value: str) -> str:
        """Return SQL for the reason why a row can't be kept on account of this column, or null.

        Parameters
        ----------
        value
            SQL that yields what :meth:`value` computed.
        """
        name = field.name
        blank = self.is_blank(column, source_type)
        missing = "NULL" if field.nullable else quote_literal(f"{name} is missing")
        unreadable = quote_literal(f"{name} {self._expectation(field)}")
        branches = [
            # A float that is not a number, as a key or a text, is how some tools write "missing".
            f"WHEN {value} IS NULL AND {blank} THEN {missing}",
            f"WHEN {value} IS NULL THEN "
            + (missing if field.kind in ("key", "text") else unreadable),
        ]
        if field.kind in ("instant", "day"):
            earliest, latest = self.bounds(field)
            first = self.settings.first_plausible_day
            branches += [
                f"WHEN {value} < {earliest} THEN {quote_literal(f'{name} lies before {first}')}",
                f"WHEN {value} > {latest} THEN {quote_literal(f'{name} lies in the future')}",
            ]
        return f"CASE {' '.join(branches)} END"

    def _expectation(self, field: Field) -> str:
        if field.kind in ("money", "number"):
            thousands = self.settings.thousands_separator
            return (
                f"is no finite number with '{self.settings.decimal_separator}' before the decimals"
                + (f" and '{thousands}' between thousands" if thousands else "")
            )
        if field.kind in ("instant", "day"):
            wanted = self.settings.date_format
            return "is no date or time in ISO form" + (
                f" or in the form {wanted}" if wanted else ""
            )
        if field.kind == "flag":
            return "is neither true nor false"
        return "is no JSON"

    def _as_text(self, column: str, source_type: str) -> str:
        text = f"CAST({column} AS VARCHAR)"
        if source_type in _FLOATS:
            # Identifiers that passed through a frame with gaps arrive as 13085.0.
            text = (
                f"CASE WHEN isnan({column}) THEN NULL "
                f"WHEN abs({column}) < 1e15 AND {column} = trunc({column}) "
                f"THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) ELSE {text} END"
            )
        elif source_type.startswith(("STRUCT", "MAP")) or source_type.endswith("]"):
            text = f"CAST(to_json({column}) AS VARCHAR)"
        return f"trim({text}, {_quote_blank()})"

    def _flag(self, column: str, source_type: str) -> str:
        if source_type == "BOOLEAN":
            return column
        text = f"lower({self._as_text(column, source_type)})"
        truths = ", ".join(map(quote_literal, TRUE))
        lies = ", ".join(map(quote_literal, FALSE))
        return f"CASE WHEN {text} IN ({truths}) THEN true WHEN {text} IN ({lies}) THEN false END"

    def _money(self, column: str, source_type: str) -> str:
        if _is_numeric(source_type):
            return f"TRY_CAST({column} AS DECIMAL(18,4))"
        return f"TRY_CAST({self._plain_number(column)} AS DECIMAL(18,4))"

    def _number(self, column: str, source_type: str) -> str:
        number = column if _is_numeric(source_type) else self._plain_number(column)
        number = f"TRY_CAST({number} AS DOUBLE)"
        return f"CASE WHEN isfinite({number}) THEN {number} END"

    def _plain_number(self, column: str) -> str:
        """Return SQL that turns a number as the source writes it into one as SQL does, or null."""
        settings = self.settings
        text = f"trim(CAST({column} AS VARCHAR), {_quote_blank()})"
        if settings.currency_symbols:
            symbols = "|".join(_quote_pattern(symbol) for symbol in settings.currency_symbols)
            space = r"[\s\x{00A0}\x{202F}]*"
            before = quote_literal(rf"^([+-]?){space}(?:{symbols}){space}([+-]?)")
            after = quote_literal(rf"{space}(?:{symbols})$")
            text = f"regexp_replace(regexp_replace({text}, {before}, '\\1\\2'), {after}, '')"
        thousands, decimal = settings.thousands_separator, settings.decimal_separator
        point = _quote_pattern(decimal)
        whole = r"\d+"
        plain = text
        if thousands:
            mark = r"[ \x{00A0}\x{202F}]" if thousands == " " else _quote_pattern(thousands)
            whole = rf"(?:\d+|\d{{1,3}}(?:{mark}\d{{3}})+)"
            plain = f"regexp_replace({plain}, {quote_literal(mark)}, '', 'g')"
        if decimal != ".":
            plain = f"replace({plain}, {quote_literal(decimal)}, '.')"
        pattern = quote_literal(rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?")
        return f"CASE WHEN regexp_full_match({text}, {pattern}) THEN {plain} END"

    def _instant(self, column: str, source_type: str) -> str:
        """Return SQL for the instant in UTC, without an offset."""
        zone = quote_literal(self.time_zone)
        if source_type == "TIMESTAMP WITH TIME ZONE":
            return f"timezone('UTC', {column})"
        if source_type == "DATE" or source_type.startswith("TIMESTAMP"):
            return f"timezone('UTC', timezone({zone}, CAST({column} AS TIMESTAMP)))"
        text = self._as_text(column, source_type)
        branches = []
        wanted = self.settings.date_format
        if wanted is not None:
            read = f"try_strptime({text}, {quote_literal(wanted)})"
            utc = (
                f"timezone('UTC', {read})"
                if "%z" in wanted
                else f"timezone('UTC', timezone({zone}, {read}))"
            )
            branches.append(f"WHEN {read} IS NOT NULL THEN {utc}")
        if wanted is None or not wanted.startswith("%Y"):
            iso, offset = quote_literal(_ISO), quote_literal(_ISO_OFFSET)
            plain = f"replace({text}, ',', '.')"
            branches += [
                f"WHEN NOT regexp_full_match({text}, {iso}) THEN NULL",
                f"WHEN regexp_matches({text}, {offset}) "
                f"THEN timezone('UTC', TRY_CAST({plain} AS TIMESTAMPTZ))",
                f"WHEN true THEN timezone('UTC', timezone({zone}, TRY_CAST({plain} AS TIMESTAMP)))",
            ]
        return f"CASE {' '.join(branches)} END"

    def _local(self, column: str, source_type: str) -> str:
        """Return SQL for the instant in the business time zone, without an offset."""
        instant = self._instant(column, source_type)
        return f"timezone({quote_literal(self.time_zone)}, timezone('UTC', {instant}))"

    def bounds(self, field: Field) -> tuple[str, str]:
        """Return SQL for the first and the last instant, or day, that isn't quarantined."""
        first = date.fromisoformat(self.settings.first_plausible_day)
        zone = ZoneInfo(self.time_zone)
        latest = datetime.combine(LAST_PLAUSIBLE_DAY, datetime.max.time(), tzinfo=zone)
        if self.received_at is not None:
            latest = min(latest, self.received_at + FUTURE_TOLERANCE)
        if field.kind == "day":
            last = latest.astimezone(zone).date()
            return f"DATE '{first.isoformat()}'", f"DATE '{last.isoformat()}'"
        earliest = datetime.combine(first, datetime.min.time(), tzinfo=zone)
        return _timestamp(earliest), _timestamp(latest)


def _timestamp(instant: datetime) -> str:
    return f"TIMESTAMP '{instant.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}'"


def _is_numeric(source_type: str) -> bool:
    return source_type in _FLOATS or source_type in _INTEGERS or source_type.startswith("DECIMAL")


def _quote_blank() -> str:
    return quote_literal(_BLANK)


def _quote_pattern(text: str) -> str:
    # RE2 takes everything between \Q and \E as it stands.
    return "\\Q" + text.replace("\\E", "\\E\\\\E\\Q") + "\\E"
