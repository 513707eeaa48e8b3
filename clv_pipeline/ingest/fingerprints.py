"""Orders are looked up in all that has landed by numbers of eight bytes, and not by their ids.

A night's orders are few, and history is long: to read every id of it costs several times what its
fingerprints cost. A fingerprint only says where to look; ids decide. Shorter ones would be shared
by rows all over history, and to look there in vain costs more than they save.
"""

from __future__ import annotations

import duckdb

from clv_pipeline.warehouse import quote_literal

COLUMN = "_order_fingerprint"
TYPE = "BIGINT"
DESCRIPTION = "Where orders are looked up: a hash of transaction_id; several orders can share one."

_MACROS = f"""
CREATE OR REPLACE MACRO raw.fingerprint_order(id) AS
  CASE WHEN id IS NOT NULL THEN CAST(hash(id) >> 1 AS {TYPE}) END;
CREATE OR REPLACE MACRO raw.rows_of_orders(orders) AS TABLE
  SELECT rowid AS landed_row FROM raw.transactions
  WHERE {COLUMN} IN (SELECT raw.fingerprint_order(transaction_id) FROM query_table(orders))
  UNION ALL
  SELECT rowid FROM raw.transactions
  WHERE {COLUMN} IS NULL AND transaction_id IN (SELECT transaction_id FROM query_table(orders))
"""
# Texts of every length up to this one stand for all that are hashed.
_LONGEST = 64


def prepare_fingerprints(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the SQL macros of fingerprints, and fingerprints where there are none that hold.

    ``raw.fingerprint_order(id)`` is one id's; ``raw.rows_of_orders('table')`` yields, as
    ``landed_row``, the rowid of every row of ``raw.transactions`` that may be of an order in a
    table's ``transaction_id``. DuckDB may hash otherwise in another release, so what some texts
    hash to is kept as the column's comment.

    Parameters
    ----------
    connection
        To a warehouse that has ``raw.transactions``.
    """
    connection.execute(_MACROS)
    ((today,),) = connection.execute(
        "SELECT CAST(bit_xor(hash(repeat('x', CAST(length AS INTEGER)))) AS VARCHAR) "
        f"FROM range({_LONGEST}) AS texts(length)"
    ).fetchall()
    ((known,),) = connection.execute(
        "SELECT comment FROM duckdb_columns() WHERE database_name = current_database() "
        "AND schema_name = 'raw' AND table_name = 'transactions' AND column_name = ?",
        [COLUMN],
    ).fetchall()
    if known == today:
        return
    connection.execute(
        f"UPDATE raw.transactions SET {COLUMN} = raw.fingerprint_order(transaction_id)"
    )
    connection.execute(f"COMMENT ON COLUMN raw.transactions.{COLUMN} IS {quote_literal(today)}")
