"""Orders that were delivered more than once, with other content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import duckdb

from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.ingest.ledger import raw_columns
from clv_pipeline.warehouse import quote_identifier

# So many rows at a time are looked through, which keeps what is grouped in memory.
_ROWS_AT_A_TIME = 20_000_000
_TARGET = "raw.transactions"
_NIGHT = "orders_of_a_night"
_REFUNDS = "coalesce(is_refund, amount < 0)"
_ORDER = f"hash(transaction_id, {_REFUNDS}, CASE WHEN {_REFUNDS} THEN ts END)"


def count_restated_orders(
    connection: duckdb.DuckDBPyConnection, file_ids: Sequence[int], grain: str
) -> dict[int, int]:
    """Count, by file, the orders and refunds that another delivery says something else of.

    A version is what staging takes for one: the rows of one delivery, or of one ingested_at. Few
    orders come more than once, so these are found by what is short before contents are compared.

    Parameters
    ----------
    connection
        To the warehouse.
    file_ids
        The files that are asked about.
    grain
        What a row is, ``order`` or ``line``.

    Returns
    -------
    dict of int to int
        Orders by file; files without any are left out.
    """
    counts = dict(
        connection.execute(f"SELECT _file_id, count(*) FROM {_TARGET} GROUP BY 1").fetchall()
    )
    count_rows, count_new = sum(counts.values()), sum(counts.get(one, 0) for one in file_ids)
    # A night's few orders are looked up in history once; a history's are grouped in parts.
    if count_new * 10 < count_rows:
        connection.execute(
            f"CREATE OR REPLACE TEMPORARY TABLE {_NIGHT} AS SELECT DISTINCT transaction_id "
            f"FROM {_TARGET} WHERE list_contains(?::BIGINT[], _file_id)",
            [list(file_ids)],
        )
        # Orders are looked up in one column, and only then is anything else read.
        connection.execute(
            f"CREATE OR REPLACE TEMPORARY TABLE {_NIGHT} AS SELECT * FROM {_TARGET} "
            f"WHERE rowid IN (SELECT landed_row FROM raw.rows_of_orders('{_NIGHT}'))"
        )
        try:
            return _count(connection, file_ids, _query(grain, _NIGHT))
        finally:
            connection.execute(f"DROP TABLE {_NIGHT}")
    count_parts = 1 + count_rows // _ROWS_AT_A_TIME
    counted: Counter[int] = Counter()
    for part in range(count_parts):
        some = f"hash(transaction_id) % {count_parts} = {part}"
        counted.update(_count(connection, file_ids, _query(grain, _TARGET, some)))
    return dict(counted)


def _count(
    connection: duckdb.DuckDBPyConnection, file_ids: Sequence[int], query: str
) -> dict[int, int]:
    return dict(connection.execute(query, [list(file_ids), list(file_ids)]).fetchall())


def _query(grain: str, relation: str, some: str = "true") -> str:
    names = [
        name
        for name in raw_columns(CONTRACTS["transactions"])
        if not name.startswith("_") and name != "ingested_at"
    ]
    listed = ", ".join(map(quote_identifier, names))
    # Where a row is an order, the same row twice in a file is still the same content.
    distinct = "DISTINCT" if grain == "order" else ""
    return f"""
        -- Most orders are one row: counting alone leaves few to be looked at.
        WITH compound AS (
            SELECT {_ORDER} AS order_hash
            FROM {relation}
            WHERE transaction_id IS NOT NULL AND {some}
            GROUP BY order_hash
            HAVING count(*) > 1
        ),
        several AS (
            SELECT min(transaction_id) AS transaction_id
            FROM (SELECT *, {_ORDER} AS order_hash FROM {relation}) AS landed
            SEMI JOIN compound USING (order_hash)
            WHERE transaction_id IS NOT NULL
            GROUP BY order_hash
            HAVING (
                min(_file_id) <> max(_file_id) OR min(ingested_at) <> max(ingested_at)
                OR count(ingested_at) BETWEEN 1 AND count(*) - 1
            ) AND bool_or(list_contains(?::BIGINT[], _file_id))
        ),
        versions AS (
            SELECT transaction_id, {_REFUNDS} AS refunds,
                CASE WHEN {_REFUNDS} THEN ts END AS refunded_at, ingested_at, _file_id,
                sum({distinct} hash({listed})) AS content
            FROM {relation}
            WHERE transaction_id IN (SELECT transaction_id FROM several)
            GROUP BY ALL
        ),
        restated AS (
            SELECT list(DISTINCT _file_id) AS file_ids
            FROM versions
            GROUP BY transaction_id, refunds, refunded_at
            HAVING count(DISTINCT content) > 1
        )
        SELECT file_id, count(*)
        FROM (SELECT unnest(file_ids) AS file_id FROM restated)
        WHERE list_contains(?::BIGINT[], file_id)
        GROUP BY file_id
    """
