"""A table of another DuckDB file as a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from clv_pipeline.ingest.report import LandingError
from clv_pipeline.ingest.sources import Source, name_below
from clv_pipeline.settings import InputSettings
from clv_pipeline.warehouse import quote_identifier, quote_literal, read_row

_ALIAS = "_clv_delivery"


@contextmanager
def attached_table(
    connection: duckdb.DuckDBPyConnection, root: Path, settings: InputSettings
) -> Iterator[tuple[Source, str]]:
    """Attach the DuckDB file read-only, and yield the table as a source and as a relation.

    The table's content is hashed in SQL: the sum of its rows' hashes and their number, whatever
    their order.

    Raises
    ------
    LandingError
        If the file can't be opened or has no such table.
    """
    file = root / (settings.duckdb or "")
    path = f"{name_below(root, file)}#{settings.table}"
    parts = [quote_identifier(part) for part in (settings.table or "").split(".")]
    relation = ".".join([_ALIAS, *(parts if len(parts) > 1 else ["main", *parts])])
    try:
        connection.execute(f"ATTACH {quote_literal(str(file))} AS {_ALIAS} (READ_ONLY)")
    except duckdb.Error as error:
        raise LandingError(
            f"{path} can't be read: {str(error).strip().splitlines()[0]} Close the program that "
            "has it open for writing, or name another file."
        ) from error
    try:
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        except duckdb.CatalogException:
            found = connection.execute(
                "SELECT schema_name || '.' || table_name FROM duckdb_tables() "
                "WHERE database_name = ? ORDER BY 1",
                [_ALIAS],
            ).fetchall()
            raise LandingError(
                f"{name_below(root, file)} has no table '{settings.table}'. It has "
                f"{', '.join(row[0] for row in found) or 'none'}."
            ) from None
        listed = ", ".join(quote_identifier(row[0]) for row in described)
        content = read_row(
            connection,
            f"SELECT count(*), sum(hash({listed})::HUGEINT), bit_xor(hash({listed})) "
            f"FROM {relation}",
        )
        text = repr(([row[:2] for row in described], content))
        digest = hashlib.sha256(text.encode()).hexdigest()
        yield (
            Source(
                file,
                path,
                "table",
                digest,
                file.stat().st_size,
                count_records=content[0],
                table=settings.table,
            ),
            relation,
        )
    finally:
        connection.execute(f"DETACH {_ALIAS}")
