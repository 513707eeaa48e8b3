"""Features of rows that never landed, by dbt's own SQL: no feature has a second definition.

At a publication the SQL of every model from staging to ``customer_features`` is compiled once and
published, with what features need to know of the rest of the shop. A request puts its rows into the
raw tables of a database in memory and runs that SQL as of its own day.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from clv_pipeline.dbt_project import dbt_variables
from clv_pipeline.dbt_yaml import SOURCES
from clv_pipeline.settings import Settings
from clv_pipeline.signals import prepare_holidays
from clv_pipeline.tables import create_tables
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import compile_models
from clv_pipeline.warehouse import (
    PUBLISHED_STORAGE_VERSION,
    open_database,
    quote_identifier,
    quote_literal,
    read_frame,
    read_row,
)

FILE = "fresh.duckdb"
FEATURES = "features.customer_features"
# Stands for the day of a request in the compiled SQL; no day of a shop.
PLACEHOLDER = Cutoff.parse("1234-05-06")
# The account of what all others did; the line break keeps it apart from any real one.
_OTHERS = "the rest of the shop\n"
_ITEMS = "intermediate.int_customer_day_items"
_INPUTS_SEEN = {
    "events": ("staging.stg_events", {"event_name": "page_view"}),
    "campaign_exposures": ("staging.stg_campaign_exposures", {"campaign_id": "any"}),
    "texts": ("staging.stg_texts", {"text": "any"}),
}
# As many customers say what is usual in the shop.
REFERENCE_CUSTOMERS = 300
# A rate holds until the next one; one that is older than this says too little.
_RATE_DAYS = 10
_KINDS = """
SELECT kind, is_category, sum(lines) AS lines, sum(quantity) AS quantity, sum(revenue) AS revenue
FROM (
    SELECT
        coalesce(owners.customer_id, items.user_id) AS customer_id,
        coalesce(items.category, items.sku) AS kind,
        items.category IS NOT NULL AS is_category,
        sum(items.delta_count_lines) AS lines,
        sum(items.delta_quantity) AS quantity,
        sum(items.delta_revenue) AS revenue
    FROM {items} AS items
    LEFT JOIN {owners} AS owners
        ON items.user_id = owners.user_id
        AND owners.valid_from_date <= $day
        AND (owners.valid_to_date IS NULL OR $day < owners.valid_to_date)
    WHERE items.activity_date <= $day AND items.known_date <= $day
        AND items.activity_date > $day::DATE - 365
    GROUP BY ALL
)
WHERE kind IS NOT NULL AND lines > 0
GROUP BY ALL
"""


class FreshFeaturesError(ValueError):
    """Rows whose features can't be computed.

    Parameters
    ----------
    message
        The sentence.
    field
        Where in the request it is, such as ``("orders", 3, "currency")``.
    """

    def __init__(self, message: str, field: Sequence[str | int] = ()) -> None:
        super().__init__(message)
        self.field = tuple(field)


def publish_queries(connection: duckdb.DuckDBPyConnection, path: Path, cutoff: Cutoff) -> None:
    """Write dbt's SQL, and what it needs to know of the shop, to a file of a publication.

    Parameters
    ----------
    connection
        The warehouse, which holds the SQL from `compile_queries` in ``ops.feature_queries``.
    path
        The file to make, readable by its owner alone: features may be personal.
    cutoff
        As of when the shop is described.
    """
    day = {"day": cutoff.day}
    flags = {
        name: f"SELECT count(*) > 0 FROM {table} WHERE activity_date <= $day AND known_date <= $day"
        for name, (table, _) in _INPUTS_SEEN.items()
    }
    columns = ", ".join(f"({query}) AS {name}" for name, query in flags.items())
    kinds = _KINDS.format(items=_ITEMS, owners="intermediate.int_account_owners")
    tables: dict[str, tuple[str, Mapping[str, Any]]] = {
        "queries": ("SELECT * EXCLUDE (definition) FROM ops.feature_queries", {}),
        "described": ("SELECT $day::DATE AS cutoff_date", day),
        "seen": (f"SELECT {columns}", day),
        "kinds": (kinds, day),
        "reference": (
            f"SELECT * FROM {FEATURES} WHERE cutoff_date = $day "
            f"ORDER BY md5(customer_id), customer_id LIMIT {REFERENCE_CUSTOMERS}",
            day,
        ),
        "exchange_rates": ("SELECT * FROM raw.exchange_rates", {}),
        "holidays": ("SELECT * FROM ops.holidays", {}),
    }
    connection.execute(
        f"ATTACH {quote_literal(str(path))} AS fresh "
        f"(STORAGE_VERSION {quote_literal(PUBLISHED_STORAGE_VERSION)})"
    )
    try:
        for name, (query, parameters) in tables.items():
            connection.execute(f"CREATE TABLE fresh.main.{name} AS {query}", dict(parameters))
    finally:
        connection.execute("DETACH fresh")
    path.chmod(0o600)


def compile_queries(settings: Settings) -> pd.DataFrame:
    """Compile the SQL from the landed rows to the features.

    Returns
    -------
    DataFrame
        ``ops.feature_queries``: position, schema_name, model_name, sql, reporting_currency.
    """
    variables = dbt_variables(settings, [PLACEHOLDER], PLACEHOLDER, "serving")
    models = compile_models(settings, "+customer_features", variables)
    rows = [(k, m.schema, m.name, m.sql) for k, m in enumerate(models)]
    frame = pd.DataFrame(rows, columns=["position", "schema_name", "model_name", "sql"])
    return frame.assign(reporting_currency=settings.project.reporting_currency)


class FreshFeatures:
    """Computes the features of raw rows.

    One request at a time; others wait.

    Parameters
    ----------
    path
        What `publish_queries` wrote.

    Attributes
    ----------
    cutoff
        As of when the shop is described.
    reference
        Features of some of its customers as of then, whom others are compared with.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(open_database())
        run = self._connection.execute
        run("SET threads = 1")  # a few rows are read by one thread soonest
        run("ATTACH ':memory:' AS warehouse")
        run(f"ATTACH {quote_literal(str(path))} AS fresh (READ_ONLY)")
        run("CREATE SCHEMA shop")
        for name in ("described", "seen", "kinds", "exchange_rates", "holidays", "reference"):
            run(f"CREATE TABLE shop.{name} AS FROM fresh.main.{name}")
        queries = run("SELECT * EXCLUDE (position) FROM fresh.main.queries ORDER BY position")
        found = [tuple(map(str, row)) for row in queries.fetchall()]
        run("DETACH fresh")
        run("USE warehouse")
        for schema in sorted({"raw", "ops", "scores"} | {row[0] for row in found}):
            run(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}")
        for schema, tables in SOURCES.items():
            create_tables(self._connection, schema, tables)
        self._queries = [(f"{schema}.{name}", sql) for schema, name, sql, _ in found]
        self._reporting_currency = found[0][3]
        (self.cutoff,) = read_row(self._connection, "FROM memory.shop.described")
        self.reference = read_frame(self._connection, "FROM memory.shop.reference")

    def close(self) -> None:
        """Free the database; what is under way ends first."""
        with self._lock:
            self._stack.close()

    def compute(
        self,
        as_of: date,
        customers: Iterable[str],
        rows: Mapping[str, pa.Table],
        *,
        accounts: Sequence[str] = (),
        are_counted: bool,
    ) -> pd.DataFrame:
        """Return the features of some customers as of the end of a day.

        Parameters
        ----------
        as_of
            The day.
        customers
            Whom to describe.
        rows
            By table, such as ``raw.transactions``: rows with some or all of its columns.
        accounts
            The accounts of these customers, where accounts were merged; the customers without.
        are_counted
            Whether the shop as it was published counts these customers already.

        Returns
        -------
        DataFrame
            Columns of ``features.customer_features``, a row for each customer who was known.

        Raises
        ------
        FreshFeaturesError
            If there is no exchange rate for a row.
        """
        asked = sorted(set(customers))
        with self._lock:
            try:
                self._fill(rows, as_of)
                for table, sql in self._queries:
                    query = sql.replace(str(PLACEHOLDER), as_of.isoformat())
                    self._connection.execute(f"CREATE OR REPLACE TABLE {table} AS {query}")
                    if table == "staging.stg_transactions":
                        self._refuse_unknown_rates()
                    elif table == _ITEMS:
                        self._add_other_items(as_of, accounts or asked, are_counted)
                return read_frame(
                    self._connection,
                    f"SELECT * FROM {FEATURES} WHERE customer_id IN "
                    "(SELECT unnest(?::VARCHAR[])) ORDER BY customer_id",
                    [asked],
                )
            finally:
                self._empty()

    def _fill(self, rows: Mapping[str, pa.Table], as_of: date) -> None:
        run = self._connection.execute
        for table, given in rows.items():
            self._connection.register("_given", given)
            run(f"INSERT INTO {table} BY NAME SELECT * FROM _given")
            self._connection.unregister("_given")
        # That others visit, are written to or write makes a zero of this customer mean something.
        for name, (_, columns) in _INPUTS_SEEN.items():
            names = ", ".join(columns)
            values = ", ".join(quote_literal(value) for value in columns.values())
            run(
                f"INSERT INTO raw.{name} (user_id, ts, _file_id, _row_number, {names}) "
                f"SELECT ?, ?::DATE - 2, 0, 0, {values} FROM memory.shop.seen WHERE {name}",
                [_OTHERS, as_of],
            )
        run(
            "INSERT INTO ops.holidays BY NAME SELECT * FROM memory.shop.holidays WHERE country IN "
            "(SELECT trim(country) FROM raw.transactions UNION SELECT trim(country) FROM raw.users)"
        )
        prepare_holidays(self._connection)
        self._fill_rates()

    def _fill_rates(self) -> None:
        run = self._connection.execute
        foreign = run(
            "SELECT DISTINCT upper(trim(currency)), ts::DATE FROM raw.transactions "
            "WHERE upper(trim(currency)) <> ?",
            [self._reporting_currency],
        ).fetchall()
        if not foreign:
            return
        run(
            "INSERT INTO raw.exchange_rates BY NAME SELECT * FROM memory.shop.exchange_rates "
            "WHERE upper(trim(currency)) IN "
            "(SELECT upper(trim(currency)) FROM raw.transactions)"
        )
        # The newest rate that is known answers for the days after it, a little beyond the last one
        # on either side: a business day may differ from that of UTC.
        run(
            f"""
            INSERT INTO raw.exchange_rates BY NAME
            SELECT days.day, rates.* EXCLUDE (day) FROM (
                SELECT DISTINCT upper(trim(currency)) AS code, ts::DATE + shift AS day
                FROM raw.transactions, (VALUES (-1), (0), (1)) AS shifts(shift)
            ) AS days
            ASOF JOIN (
                SELECT * FROM raw.exchange_rates QUALIFY row_number() OVER (
                    PARTITION BY upper(trim(currency)), day
                    ORDER BY known_at DESC NULLS LAST, _file_id DESC, _row_number DESC
                ) = 1
            ) AS rates
                ON days.code = upper(trim(rates.currency)) AND days.day > rates.day
            WHERE days.day - rates.day <= {_RATE_DAYS}
                AND NOT EXISTS (
                    SELECT 1 FROM raw.exchange_rates AS held
                    WHERE held.day = days.day AND upper(trim(held.currency)) = days.code
                )
            """
        )

    def _refuse_unknown_rates(self) -> None:
        missing = self._connection.execute(
            "SELECT _row_number, currency, activity_date FROM staging.stg_transactions "
            "WHERE rate IS NULL AND user_id IS NOT NULL ORDER BY 1 LIMIT 1"
        ).fetchall()
        if missing:
            position, currency, day = missing[0]
            raise FreshFeaturesError(
                f"there is no exchange rate from '{currency}' to {self._reporting_currency} for "
                f"{day}",
                ("orders", position - 1, "currency"),
            )

    def _add_other_items(self, as_of: date, accounts: Sequence[str], are_counted: bool) -> None:
        """Let prices be those of the whole shop: what others bought, without what is counted."""
        self._connection.execute(
            f"DELETE FROM {_ITEMS} WHERE user_id NOT IN (SELECT unnest(?::VARCHAR[]))",
            [list(accounts)],
        )
        own = _KINDS.format(items=_ITEMS, owners="intermediate.int_account_owners")
        sign = -1 if are_counted else 0
        self._connection.execute(
            f"""
            INSERT INTO {_ITEMS} BY NAME
            SELECT
                $others AS user_id, $as_of::DATE AS activity_date, $as_of::DATE AS known_date,
                if(others.is_category, NULL, others.kind) AS sku,
                if(others.is_category, others.kind, NULL) AS category,
                others.lines + {sign} * coalesce(own.lines, 0) AS delta_count_lines,
                0 AS delta_count_returned_lines,
                others.quantity + {sign} * coalesce(own.quantity, 0) AS delta_quantity,
                others.revenue + {sign} * coalesce(own.revenue, 0) AS delta_revenue
            FROM memory.shop.kinds AS others
            LEFT JOIN ({own}) AS own
                ON others.kind = own.kind AND others.is_category = own.is_category
            WHERE others.kind IN (SELECT coalesce(category, sku) FROM {_ITEMS})
            """,
            {"others": _OTHERS, "as_of": as_of, "day": self.cutoff},
        )

    def _empty(self) -> None:
        for schema, tables in SOURCES.items():
            if schema == "scores":
                continue
            for table in tables:
                self._connection.execute(f"DELETE FROM {schema}.{quote_identifier(table)}")
