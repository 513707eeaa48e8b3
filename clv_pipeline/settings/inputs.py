"""The section of each input: where it lies, and how it maps onto its contract."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from clv_pipeline.settings.base import Section

InputName = Literal[
    "transactions",
    "users",
    "events",
    "texts",
    "campaign_exposures",
    "acquisition_costs",
    "account_merges",
    "exchange_rates",
]


class SqlColumn(Section):
    """A column computed from the source's columns."""

    sql: str = Field(min_length=1, description="A SQL expression over the source's columns.")


class Exclusion(Section):
    """Rows that are set aside, with the reason that the quarantine shows."""

    sql: str = Field(
        min_length=1,
        description="A SQL condition over the contract's columns, typed, and over the source's "
        "other columns, as delivered.",
    )
    reason: str = Field(min_length=1, description="Why; shown in ops.quarantine.")


class InputSettings(Section):
    """Where an input lies and how it maps onto its contract."""

    files: tuple[str, ...] = Field(
        default=(),
        description="Globs of CSV, gzipped CSV or Parquet files, relative to the folder of "
        "clv.toml. Either these, or duckdb and table.",
    )
    duckdb: Path | None = Field(
        default=None, description="A DuckDB file, relative to the folder of clv.toml."
    )
    table: str | None = Field(default=None, description="The table to read in that DuckDB file.")
    columns: dict[str, str | SqlColumn] = Field(
        default={}, description="Contract column = source column; equal names need no line."
    )
    decimal_separator: Literal[".", ","] = Field(
        default=".", description="What stands before the decimals."
    )
    thousands_separator: Literal["", ".", ",", " ", "'"] = Field(
        default="", description="What stands between thousands; not the decimal separator."
    )
    currency_symbols: tuple[str, ...] = Field(
        default=(), description="Taken off amounts; any other symbol makes them unreadable."
    )
    date_format: str | None = Field(
        default=None, description="strptime form of dates and times, besides ISO: %d.%m.%Y %H:%M."
    )
    encoding: str = Field(
        default="utf-8", description="Of the CSV files: utf-8, latin-1, cp1252, utf-16, ..."
    )
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="Of CSV files; unset: found out."
    )
    grain: Literal["order", "line"] = Field(
        default="line",
        description="What a row of transactions is. order: exact duplicates in a file count once.",
    )
    negative_amounts: Literal["refund", "quarantine"] = Field(
        default="refund",
        description="What a negative amount is where is_refund says nothing. quarantine: rows that "
        "is_refund does not mark are set aside.",
    )
    zero_amounts: Literal["keep", "quarantine"] = Field(
        default="keep", description="What becomes of rows whose amount is 0."
    )
    exclude: tuple[Exclusion, ...] = Field(
        default=(), description="Rows to set aside in the quarantine, each with a reason."
    )
    first_plausible_day: str = Field(
        default="1990-01-01",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="Rows before it are quarantined: YYYY-MM-DD.",
    )
    when_changed: Literal["add", "replace", "stop"] | None = Field(
        default=None,
        description="What a file with new content under a known name is: more rows, a new version "
        "of the whole, or an error. Unset: new content of a table replaces the earlier one; a file "
        "adds rows where they have keys, and stops the run where they would count twice.",
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            codecs.lookup(name)
        except LookupError:
            raise ValueError("utf-8, latin-1, cp1252, utf-16 and the like are allowed") from None
        return name

    @model_validator(mode="after")
    def _one_source(self) -> InputSettings:
        if bool(self.files) == bool(self.duckdb):
            raise ValueError("name either 'files' (a list of globs) or 'duckdb' and 'table'")
        if self.duckdb and not self.table:
            raise ValueError("'duckdb' needs 'table', the table to read in that file")
        if self.thousands_separator == self.decimal_separator:
            raise ValueError("thousands_separator and decimal_separator must differ")
        return self
