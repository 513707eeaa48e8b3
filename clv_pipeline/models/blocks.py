"""Rows of a panel from DuckDB's Arrow batches: all numbers in one block of float32.

pandas would hold each number as float64, and every cut of the panel again. A block is filled batch
by batch, is never converted, and its rows are copied in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from clv_pipeline.models.room import make_matrix
from clv_pipeline.warehouse import quote_identifier, read_row

BATCH_ROWS = 100_000
_NUMBERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE"}
)


def read_block(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    where: str,
    parameters: Sequence[Any],
    names: Sequence[str],
) -> pd.DataFrame:
    """Read some features of some customers, sorted by customer and cutoff.

    Parameters
    ----------
    connection
        The warehouse.
    table
        Holds ``customer_id``, ``cutoff_date`` and the features.
    where, parameters
        Which rows.
    names
        Which features.

    Returns
    -------
    DataFrame
        The keys, the features that are no numbers, and the numbers, as float32.
    """
    described = connection.execute(f"DESCRIBE {table}").fetchall()
    kinds = {row[0]: row[1] for row in described}
    numbers = [name for name in names if kinds[name] in _NUMBERS]
    others = ["customer_id", "cutoff_date", *(name for name in names if name not in numbers)]
    (count,) = read_row(connection, f"SELECT count(*) FROM {table} {where}", parameters)
    block = make_matrix(int(count), len(numbers))
    chosen = ", ".join(
        [f"{quote_identifier(n)}::FLOAT" for n in numbers] + [quote_identifier(n) for n in others]
    )
    query = f"SELECT {chosen} FROM {table} {where} ORDER BY customer_id, cutoff_date"
    found = connection.sql(query, params=list(parameters))
    start, rest = 0, []
    for batch in found.to_arrow_reader(BATCH_ROWS):
        here = block[start : start + batch.num_rows]
        for k in range(len(numbers)):
            # A null is a NaN, as models want it.
            here[:, k] = batch.column(k).to_numpy(zero_copy_only=False)
        rest.append(batch.select(range(len(numbers), batch.num_columns)))
        start += batch.num_rows
    held = pa.Table.from_batches(rest) if rest else None
    frame: pd.DataFrame
    frame = found.limit(0).df()[others] if held is None else held.to_pandas(date_as_object=False)
    frame.columns = pd.Index(others)
    numeric = pd.DataFrame(block, columns=numbers, copy=False)
    return pd.concat([frame, numeric], axis=1)


def is_sorted(frame: pd.DataFrame, keys: Sequence[str]) -> bool:
    """Whether rows come in the order of their keys already."""
    is_tied = np.ones(max(len(frame) - 1, 0), dtype=bool)
    for key in keys:
        before, after = frame[key].iloc[:-1], frame[key].iloc[1:]
        later = after.reset_index(drop=True)
        earlier = before.reset_index(drop=True)
        if (is_tied & (later < earlier).to_numpy(dtype=bool)).any():
            return False
        is_tied &= (later == earlier).to_numpy(dtype=bool)
    return True
