"""What has been landed: the tables of raw.* and ops.*, and the ledger of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal

import duckdb

from clv_pipeline.ingest import fingerprints
from clv_pipeline.ingest.contract import CONTRACTS, DUCKDB_TYPES, Contract
from clv_pipeline.ingest.report import Totals
from clv_pipeline.ingest.sources import Source
from clv_pipeline.settings import InputSettings, Settings
from clv_pipeline.tables import add_missing_columns
from clv_pipeline.warehouse import quote_identifier, read_row

# File number of the rates that come with a package instead of a file.
PACKAGED_FILE_ID = 0

_LANDED_FILES = """
CREATE TABLE IF NOT EXISTS ops.landed_files (
  file_id BIGINT, input VARCHAR, path VARCHAR, sha256 VARCHAR, bytes BIGINT, landed_at TIMESTAMP,
  run_id VARCHAR, count_rows_in BIGINT, count_rows_kept BIGINT, count_rows_guest BIGINT,
  count_rows_quarantined BIGINT, sum_amount_in DECIMAL(38,4), sum_amount_kept DECIMAL(38,4),
  sum_amount_guest DECIMAL(38,4), sum_amount_quarantined DECIMAL(38,4), status VARCHAR,
  settings_hash VARCHAR, columns_json VARCHAR)
"""
_QUARANTINE = """
CREATE TABLE IF NOT EXISTS ops.quarantine (
  input VARCHAR, file_id BIGINT, path VARCHAR, row_number BIGINT, column_name VARCHAR,
  reason VARCHAR, record_json VARCHAR, landed_at TIMESTAMP, run_id VARCHAR)
"""
_WARNINGS = """
CREATE TABLE IF NOT EXISTS ops.landing_warnings (
  input VARCHAR, file_id BIGINT, path VARCHAR, kind VARCHAR, message VARCHAR, run_id VARCHAR)
"""


@dataclass(frozen=True)
class LandedFile:
    """One line of the ledger.

    Attributes
    ----------
    status
        ``landed``; ``quarantined``, when the file could not be read at all; ``replaced``, when a
        newer file of the same name took its place.
    settings_hash
        Hash of the settings that it was landed under.
    columns
        The contract's columns that it had.
    """

    file_id: int
    path: str
    sha256: str
    status: str
    settings_hash: str
    columns: tuple[str, ...]


def raw_columns(contract: Contract) -> dict[str, str]:
    """Return the columns of ``raw.<input>`` and their DuckDB types, in order."""
    columns = {field.name: DUCKDB_TYPES[field.kind] for field in contract.fields}
    if contract.keeps_further_columns:
        columns["attributes_json"] = "VARCHAR"
    columns |= {"_file_id": "BIGINT", "_row_number": "BIGINT"}
    if contract.name == "transactions":
        columns[fingerprints.COLUMN] = fingerprints.TYPE
    return columns


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every table that landing writes, where it is missing."""
    for contract in CONTRACTS.values():
        columns = ", ".join(
            f"{quote_identifier(name)} {kind}" for name, kind in raw_columns(contract).items()
        )
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS raw.{quote_identifier(contract.name)} ({columns})"
        )
    kinds = {contract.name: raw_columns(contract) for contract in CONTRACTS.values()}
    add_missing_columns(connection, "raw", kinds)
    fingerprints.prepare_fingerprints(connection)
    for statement in (_LANDED_FILES, _QUARANTINE, _WARNINGS):
        connection.execute(statement)


def settings_hash(settings: Settings, contract: Contract, chosen: InputSettings) -> str:
    """Hash what decides how an input's rows are read; when it changes, files are landed anew.

    The files' names don't belong to it, nor does anything about models.
    """
    relevant = chosen.model_dump(mode="json", exclude={"files", "duckdb", "table", "when_changed"})
    document = {
        "columns": relevant,
        "time_zone": settings.project.time_zone,
        "reporting_currency": settings.project.reporting_currency,
        "contract": [repr(field) for field in contract.fields],
        "has_own_rates": contract.name == "transactions" and "exchange_rates" in settings.inputs,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def landed_files(connection: duckdb.DuckDBPyConnection, name: str) -> list[LandedFile]:
    """Return the ledger of an input, oldest file first."""
    rows = connection.execute(
        "SELECT file_id, path, sha256, status, settings_hash, columns_json "
        "FROM ops.landed_files WHERE input = ? ORDER BY file_id",
        [name],
    ).fetchall()
    return [
        LandedFile(file_id, path, sha256, status, hashed, tuple(json.loads(columns)))
        for file_id, path, sha256, status, hashed, columns in rows
    ]


def next_file_id(connection: duckdb.DuckDBPyConnection) -> int:
    """Return a number that no landed file has."""
    (highest,) = read_row(connection, "SELECT max(file_id) FROM ops.landed_files")
    return int(highest or PACKAGED_FILE_ID) + 1


def forget_rows(connection: duckdb.DuckDBPyConnection, name: str, file_id: int) -> None:
    """Delete what a file brought, but not its line in the ledger."""
    connection.execute(f"DELETE FROM raw.{quote_identifier(name)} WHERE _file_id = ?", [file_id])
    connection.execute("DELETE FROM ops.quarantine WHERE file_id = ?", [file_id])
    connection.execute("DELETE FROM ops.landing_warnings WHERE file_id = ?", [file_id])


def mark_replaced(connection: duckdb.DuckDBPyConnection, file_id: int) -> None:
    """Note that a file's rows gave way to those of a newer one; its totals become zero."""
    zeros = ", ".join(
        f"{column} = 0"
        for column in (
            "count_rows_in",
            "count_rows_kept",
            "count_rows_guest",
            "count_rows_quarantined",
            "sum_amount_in",
            "sum_amount_kept",
            "sum_amount_guest",
            "sum_amount_quarantined",
        )
    )
    connection.execute(
        f"UPDATE ops.landed_files SET status = 'replaced', {zeros} WHERE file_id = ?", [file_id]
    )


def write_entry(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    file_id: int,
    *,
    landed_at: datetime,
    run_id: str,
    totals: Totals,
    status: str,
    settings_hash: str,
    columns: Iterable[str],
) -> None:
    """Write a file's line in the ledger, in place of the one with its number."""
    connection.execute("DELETE FROM ops.landed_files WHERE file_id = ?", [file_id])
    values = [getattr(totals, field.name) for field in fields(Totals)]
    connection.execute(
        "INSERT INTO ops.landed_files VALUES (" + ", ".join("?" * 18) + ")",
        [
            file_id,
            name,
            source.path,
            source.sha256,
            source.size,
            landed_at,
            run_id,
            *values,
            status,
            settings_hash,
            json.dumps(list(columns)),
        ],
    )


def landed_totals(connection: duckdb.DuckDBPyConnection, name: str) -> Totals:
    """Return the totals of everything that is landed of an input."""
    row = read_row(
        connection,
        "SELECT sum(count_rows_in), sum(count_rows_kept), sum(count_rows_guest), "
        "sum(count_rows_quarantined), sum(sum_amount_in), sum(sum_amount_kept), "
        "sum(sum_amount_guest), sum(sum_amount_quarantined) "
        "FROM ops.landed_files WHERE input = ?",
        [name],
    )
    if row[0] is None:
        return Totals()
    names = [field.name for field in fields(Totals)]
    figures = [*map(int, row[:4]), *map(Decimal, row[4:])]
    return Totals(**dict(zip(names, figures, strict=True)))  # type: ignore[arg-type]
