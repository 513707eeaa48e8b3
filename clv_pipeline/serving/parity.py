"""Offline equals online: a sample of customers, row for row, before a version becomes visible.

Three answers must agree with the warehouse: the features and the values that are looked up by id,
and the features that are computed from a customer's raw rows when they arrive with a request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from clv_pipeline.serving import fresh
from clv_pipeline.serving.online import OnlineStore
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import quote_identifier, read_frame

SAMPLE_SIZE = 100
FRESH_SAMPLE_SIZE = 25
COLUMNS = ("answer", "customer_id", "differences", "is_same")
# Sums of doubles within one customer's rows: their order may differ between two databases.
RELATIVE_TOLERANCE = 1e-9
_RAW = ("transactions", "users", "events", "campaign_exposures", "texts")


def compare(
    connection: duckdb.DuckDBPyConnection, store: OnlineStore, folder: Path, cutoff: Cutoff
) -> pd.DataFrame:
    """Compare a sample of customers offline and online.

    Parameters
    ----------
    connection
        The warehouse.
    store
        The version's online store.
    folder
        The version.
    cutoff
        That the run is for. Publishing an older one than the newest leaves the newest served.

    Returns
    -------
    DataFrame
        A row per customer and answer: ``answer`` (features, values, fresh features),
        ``customer_id``, ``differences`` (the columns that differ), ``is_same``.
    """
    served_cutoff = Cutoff.parse(store.version.cutoff_date)
    customers = draw_sample(connection, served_cutoff, SAMPLE_SIZE)
    offline = {
        "features": _read(connection, "features.customer_features", customers, served_cutoff),
        "values": _read(connection, "clv.customer_clv", customers, served_cutoff),
    }
    records = store.read(customers)
    rows = []
    for customer in customers:
        record = records.get(customer)
        for answer, held in offline.items():
            served = {} if record is None else getattr(record, answer)
            rows.append(_row(answer, customer, held.get(customer, {}), served))
    computed: dict[str, dict[str, Any]] = {}
    # A later cutoff was built from the rows of its day; more may have landed for it since.
    if cutoff == served_cutoff:
        queries = fresh.FreshFeatures(folder / fresh.FILE)
        try:
            asked = customers[:FRESH_SAMPLE_SIZE]
            computed = recompute(connection, queries, asked, cutoff)
        finally:
            queries.close()
    rows += [
        _row("fresh features", customer, offline["features"].get(customer, {}), row)
        for customer, row in computed.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def draw_sample(connection: duckdb.DuckDBPyConnection, cutoff: Cutoff, size: int) -> list[str]:
    """Draw customers of a cutoff by the MD5 of their id: the same ones at each try."""
    rows = connection.execute(
        "SELECT customer_id FROM clv.customer_clv WHERE cutoff_date = ? "
        "ORDER BY md5(customer_id || cutoff_date), customer_id LIMIT ?",
        [cutoff.day, size],
    ).fetchall()
    return [str(row[0]) for row in rows]


def recompute(
    connection: duckdb.DuckDBPyConnection,
    queries: fresh.FreshFeatures,
    customers: Sequence[str],
    cutoff: Cutoff,
) -> dict[str, dict[str, Any]]:
    """Compute features anew from the raw rows of some customers, as a request would.

    Returns
    -------
    dict
        Columns of ``features.customer_features`` by customer; empty for one who was not known.
    """
    accounts = _accounts(connection, customers, cutoff)
    rows = read_raw(connection, accounts)
    found = queries.compute(cutoff.day, customers, rows, accounts=accounts, are_counted=True)
    by_customer = {row["customer_id"]: row for row in _plain(found)}
    return {customer: by_customer.get(customer, {}) for customer in customers}


def read_raw(connection: duckdb.DuckDBPyConnection, accounts: Sequence[str]) -> dict[str, pa.Table]:
    """Read everything that landed of some accounts, by table.

    Lines of others that share an order belong to it: a later version may have moved the order.
    """
    asked = {"accounts": list(accounts)}
    own = "user_id IN (SELECT unnest($accounts::VARCHAR[]))"
    queries = {f"raw.{name}": f"SELECT * FROM raw.{name} WHERE {own}" for name in _RAW}
    queries["raw.transactions"] += (
        " OR transaction_id IN (SELECT transaction_id FROM raw.transactions "
        f"WHERE {own} AND transaction_id IS NOT NULL)"
    )
    queries["ops.text_scores"] = (
        "SELECT * FROM ops.text_scores SEMI JOIN "
        f"(SELECT _file_id, _row_number FROM raw.texts WHERE {own}) USING (_file_id, _row_number)"
    )
    found = {
        name: connection.sql(sql, params=asked).to_arrow_table() for name, sql in queries.items()
    }
    for name in ("raw.account_merges", "ops.text_basis"):
        found[name] = connection.sql(f"SELECT * FROM {name}").to_arrow_table()
    return found


def _accounts(
    connection: duckdb.DuckDBPyConnection, customers: Sequence[str], cutoff: Cutoff
) -> list[str]:
    rows = connection.execute(
        "SELECT user_id FROM intermediate.int_account_owners WHERE valid_from_date <= $day "
        "AND (valid_to_date IS NULL OR $day < valid_to_date) "
        "AND customer_id IN (SELECT unnest($customers::VARCHAR[]))",
        {"day": cutoff.day, "customers": list(customers)},
    ).fetchall()
    return sorted({*customers, *(str(row[0]) for row in rows)})


def _read(
    connection: duckdb.DuckDBPyConnection, table: str, customers: Sequence[str], cutoff: Cutoff
) -> dict[str, dict[str, Any]]:
    schema, name = table.split(".")
    frame = read_frame(
        connection,
        f"SELECT * FROM {quote_identifier(schema)}.{quote_identifier(name)} "
        "WHERE cutoff_date = ? AND customer_id IN (SELECT unnest(?::VARCHAR[]))",
        [cutoff.day, list(customers)],
    )
    return {str(row["customer_id"]): row for row in _plain(frame)}


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): plain_value(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def plain_value(value: Any) -> Any:
    """Return a value as JSON holds it: numbers, texts, booleans, ISO dates, None for a null."""
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        is_day = value.time() == datetime.min.time()
        return value.date().isoformat() if is_day else value.isoformat()
    return value.isoformat() if isinstance(value, date) else value


def _row(
    answer: str, customer: str, held: Mapping[str, Any], served: Mapping[str, Any]
) -> tuple[str, str, str, bool]:
    names = dict.fromkeys([*held, *served])
    differ = [name for name in names if not _is_same(answer, name, held, served)]
    return (answer, customer, ", ".join(differ), not differ)


def _is_same(answer: str, name: str, held: Mapping[str, Any], served: Mapping[str, Any]) -> bool:
    if name not in held or name not in served:
        return False
    left, right = held[name], served[name]
    if answer == "fresh features" and isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12)
    return bool(left == right)
