"""A small clean shop, written straight into a warehouse with the tables that the gates read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import yaml

from clv_pipeline.dbt_yaml import SOURCES
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.tables import EVALUATION_TABLES, create_tables
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_database, open_warehouse
from data_quality.gates import Gate
from data_quality.results import GateReport

RunGate = Callable[[Gate], GateReport]
CUTOFF = Cutoff.parse("2024-05-31")
HORIZONS = (30, 60)
LABELLED = {date(2024, 4, 1): (30, 60), date(2024, 5, 1): (30,)}
FIRST_DAY = date(2023, 12, 1)
LAST_DAY = date(2024, 6, 30)
WINDOWS = (30, 90)
SECOND_FILE_FROM = date(2024, 5, 25)


def make_settings(root: Path) -> Settings:
    return build_settings(root, {"value": {"horizons": list(HORIZONS)}})


def make_orders(seed: int = 7, customers: int = 300) -> pd.DataFrame:
    """Orders of customers who come and go, and of guests; a few refunds."""
    rng = np.random.default_rng(seed)
    span = (LAST_DAY - FIRST_DAY).days
    rows: list[dict[str, Any]] = []
    for number in range(customers):
        day = FIRST_DAY + timedelta(days=int(rng.integers(0, 120)))
        mean_gap = rng.gamma(2, 20)
        while (day - FIRST_DAY).days <= span:
            user = None if rng.random() < 0.05 else f"customer {number}"
            amount = round(float(rng.lognormal(3, 0.6)), 2)
            rows.append({"user_id": user, "day": day, "amount": amount, "is_refund": False})
            if rng.random() < 0.03 and day + timedelta(days=3) <= LAST_DAY:
                refund = {"day": day + timedelta(days=3), "amount": -amount, "is_refund": True}
                rows.append({"user_id": user, **refund})
            day += timedelta(days=1 + int(rng.exponential(mean_gap)))
    orders = pd.DataFrame(rows).sort_values("day", kind="stable").reset_index(drop=True)
    orders["_file_id"] = np.where(orders["day"] < SECOND_FILE_FROM, 1, 2)
    orders["_row_number"] = orders.groupby("_file_id").cumcount() + 1
    orders["transaction_id"] = [f"order {n}" for n in range(len(orders))]
    return orders


def build_shop(settings: Settings) -> None:
    """Write every table of a run that went well, up to the marts."""
    orders = make_orders()
    with open_warehouse(settings) as connection:
        for schema, tables in SOURCES.items():
            create_tables(connection, schema, tables)
        _land(connection, orders)
        _stage(connection)
        known = orders[orders["user_id"].notna()]
        cutoffs = [*LABELLED, CUTOFF.day]
        parts = [_at_cutoff(known, cutoff) for cutoff in cutoffs]
        labels = [
            _labels(known, cutoff, horizon)
            for cutoff, horizons in LABELLED.items()
            for horizon in horizons
        ]
        for schema in ("as_of", "features", "clv"):
            connection.execute(f"CREATE SCHEMA {schema}")
        history = pd.concat(parts, ignore_index=True)
        _write(connection, "as_of.customer_history", history)
        _write(connection, "as_of.customer_labels", pd.concat(labels, ignore_index=True))
        connection.execute(
            "CREATE TABLE as_of.customer_spine AS SELECT customer_id, cutoff_date, "
            "first_order_date AS first_known_date, NULL::DATE AS signup_date, "
            "1::DOUBLE AS share_of_customers "
            "FROM as_of.customer_history"
        )
        connection.execute(
            "CREATE TABLE features.customer_features AS SELECT * EXCLUDE (first_order_date, "
            "last_order_date, last_activity_date), (cutoff_date - last_order_date)::DOUBLE "
            "AS days_since_last_order FROM as_of.customer_history"
        )
        _score(connection)
        _marts(connection)


def publish_shop(settings: Settings, path: Path) -> None:
    """Copy the marts into a candidate publication."""
    path.parent.mkdir()
    with open_warehouse(settings) as connection:
        connection.execute(f"ATTACH '{path}' AS candidate")
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'clv' "
            "AND table_catalog = current_catalog()"
        ).fetchall()
        for (table,) in tables:
            connection.execute(f"CREATE TABLE candidate.main.{table} AS FROM clv.{table}")
        connection.execute("DETACH candidate")


def spoil(settings: Settings, *statements: str, database: Path | None = None) -> None:
    """Plant a fault with SQL, in the warehouse or in another file."""
    if database is None:
        with open_warehouse(settings) as connection:
            for statement in statements:
                connection.execute(statement)
        return
    with open_database(database) as connection:
        for statement in statements:
            connection.execute(statement)


def _write(connection: duckdb.DuckDBPyConnection, table: str, frame: pd.DataFrame) -> None:
    dates = [name for name in frame.columns if name.endswith("_date")]
    casts = ", ".join(f"{name}::DATE AS {name}" for name in dates)
    replaced = f"* REPLACE ({casts})" if dates else "*"
    connection.register("_frame", frame)
    connection.execute(f"CREATE TABLE {table} AS SELECT {replaced} FROM _frame")
    connection.unregister("_frame")


def _land(connection: duckdb.DuckDBPyConnection, orders: pd.DataFrame) -> None:
    connection.register("_orders", orders)
    connection.execute(
        "INSERT INTO raw.transactions BY NAME SELECT transaction_id, user_id, "
        "day::TIMESTAMP + INTERVAL 12 HOUR AS ts, amount::DECIMAL(18,4) AS amount, "
        "'EUR' AS currency, is_refund, 1.0 AS quantity, 0 AS variable_cost, "
        "_file_id, _row_number FROM _orders"
    )
    connection.unregister("_orders")
    connection.execute(
        "INSERT INTO ops.landed_files BY NAME SELECT _file_id AS file_id, "
        "'transactions' AS input, 'orders ' || _file_id || '.csv' AS path, "
        "'run ' || _file_id AS run_id, count(*) + 1 AS count_rows_in, "
        "count(*) AS count_rows_kept, count(*) FILTER (WHERE user_id IS NULL) "
        "AS count_rows_guest, 1 AS count_rows_quarantined, sum(amount) + 5 AS sum_amount_in, "
        "sum(amount) AS sum_amount_kept, 0 AS sum_amount_guest, 5 AS sum_amount_quarantined, "
        "'landed' AS status FROM raw.transactions GROUP BY _file_id"
    )
    # The first file was accepted by an earlier run.
    connection.execute(
        "INSERT INTO ops.data_quality BY NAME SELECT 'run 1' AS run_id, "
        "DATE '2024-05-24' AS cutoff_date, TIMESTAMP '2024-05-25 00:30:00' AS checked_at, "
        "'raw' AS gate, 'raw.transactions' AS table_name, 'volume' AS check_name, "
        "'stop' AS severity, true AS is_passed, 'holds' AS message"
    )


def _stage(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE SCHEMA staging")
    connection.execute("CREATE SCHEMA intermediate")
    connection.execute(
        "CREATE TABLE staging.stg_transactions AS SELECT 'order:' || transaction_id AS order_key, "
        "transaction_id, user_id, user_id IS NULL AS is_guest, ts AS happened_at, "
        "ts::DATE AS activity_date, ts::DATE AS known_from_date, NULL::DATE AS known_to_date, "
        "true AS is_current, is_refund, true AS is_first_line, false AS is_duplicate, currency, "
        "amount, 1.0 AS rate, amount AS net_revenue, variable_cost, amount AS value, "
        "1 AS rate_version, _file_id, _row_number FROM raw.transactions"
    )
    connection.execute(
        "CREATE TABLE intermediate.int_customer_days AS SELECT user_id, activity_date, "
        "known_from_date AS known_date, sum(value) AS delta_value, "
        "sum((NOT is_refund)::BIGINT) AS delta_count_orders "
        "FROM staging.stg_transactions WHERE NOT is_guest GROUP BY 1, 2, 3"
    )


def _at_cutoff(orders: pd.DataFrame, cutoff: date) -> pd.DataFrame:
    rows = []
    for customer, own in orders[orders["day"] <= cutoff].groupby("user_id"):
        bought = own[~own["is_refund"]]
        days = own.groupby("day")["amount"].sum()
        order_days = sorted(set(bought["day"]))
        repeats = days[order_days[1:]]
        row = {
            "customer_id": customer,
            "cutoff_date": cutoff,
            "first_order_date": order_days[0],
            "last_order_date": order_days[-1],
            "last_activity_date": own["day"].max(),
            "count_orders": float(len(bought)),
            "count_order_days": float(len(order_days)),
            "frequency": float(len(order_days) - 1),
            "recency": float((order_days[-1] - order_days[0]).days),
            "T": float((cutoff - order_days[0]).days),
            "monetary_value": repeats.mean() if len(repeats) else np.nan,
            "sum_value": own["amount"].sum(),
            "sum_refunds": -own.loc[own["is_refund"], "amount"].sum(),
        }
        for width in WINDOWS:
            inside = own[own["day"] > cutoff - timedelta(days=width)]
            row[f"count_orders_{width}d"] = float((~inside["is_refund"]).sum())
            row[f"sum_value_{width}d"] = inside["amount"].sum()
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame["monetary_value"] = (
        frame["monetary_value"].astype(object).where(frame["monetary_value"].notna(), None)
    )
    return frame


def _labels(orders: pd.DataFrame, cutoff: date, horizon: int) -> pd.DataFrame:
    customers = sorted(set(orders.loc[orders["day"] <= cutoff, "user_id"]))
    end = cutoff + timedelta(days=horizon)
    inside = orders[(orders["day"] > cutoff) & (orders["day"] <= end)]
    groups = inside.groupby("user_id")
    frame = pd.DataFrame({"customer_id": customers}).set_index("customer_id")
    frame["cutoff_date"] = cutoff
    frame["horizon_days"] = horizon
    frame["label_start_date"] = cutoff + timedelta(days=1)
    frame["label_end_date"] = end
    frame["first_label_activity_date"] = groups["day"].min()
    frame["last_label_activity_date"] = groups["day"].max()
    frame["label_value"] = groups["amount"].sum().reindex(frame.index).fillna(0.0)
    bought = inside[~inside["is_refund"]].groupby("user_id").size()
    frame["label_orders"] = bought.reindex(frame.index).fillna(0).astype(int)
    frame["has_purchase"] = frame["label_orders"] > 0
    return frame.reset_index()


def _score(connection: duckdb.DuckDBPyConnection) -> None:
    for horizon in HORIZONS:
        share = horizon / 90
        connection.execute(
            "INSERT INTO scores.customer_predictions BY NAME SELECT customer_id, cutoff_date, "
            f"{horizon} AS horizon_days, abs(sum_value_90d) * {share} AS clv, "
            f"abs(sum_value_90d) * {share} * 0.2 AS clv_p10, "
            f"abs(sum_value_90d) * {share} * 0.8 AS clv_p50, "
            f"abs(sum_value_90d) * {share} * 2 AS clv_p90, "
            "0.0 AS clv_low_95, clv_p10 AS clv_low_80, clv_p90 AS clv_high_80, "
            "clv_p90 + 1 AS clv_high_95, "
            f"1 - exp(-{horizon} / (10.0 + days_since_last_order)) AS probability_purchase, "
            f"count_orders_90d * {share} AS expected_orders, 'model 1' AS model_version, "
            "'run 2' AS run_id FROM features.customer_features WHERE cutoff_date = '2024-05-31'"
        )
    connection.execute(
        "INSERT INTO scores.customer_standing BY NAME SELECT customer_id, cutoff_date, "
        "0.5 AS churn_probability, 50.0 AS loyalty_score, 50.0 AS clv_percentile, "
        "row_number() OVER (ORDER BY clv DESC, customer_id) AS clv_rank, 'low' AS value_tier, "
        "cutoff_date + 10 AS expected_next_order_date, 'maintain' AS segment, "
        "'loyal' AS rfm_segment, '333' AS rfm_score, 'high' AS confidence, "
        "'four order days or more' AS confidence_reason, model_version, run_id "
        "FROM scores.customer_predictions WHERE horizon_days = 60"
    )


def _marts(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "CREATE TABLE clv.customer_clv_history AS SELECT p.customer_id, p.cutoff_date, "
        "max(clv) FILTER (WHERE horizon_days = 30) AS clv_30d, "
        "max(clv) FILTER (WHERE horizon_days = 60) AS clv_60d, "
        "any_value(h.sum_value) AS historic_value, "
        "any_value(h.sum_value) + clv_60d AS total_value, "
        "p.cutoff_date AS updated_at, any_value(p.run_id) AS run_id, "
        "any_value(p.model_version) AS model_version, "
        "any_value(COLUMNS(s.* EXCLUDE (customer_id, cutoff_date, run_id, model_version))) "
        "FROM scores.customer_predictions AS p "
        "INNER JOIN as_of.customer_history AS h USING (customer_id, cutoff_date) "
        "INNER JOIN scores.customer_standing AS s USING (customer_id, cutoff_date) GROUP BY 1, 2"
    )
    connection.execute("CREATE TABLE clv.customer_clv AS FROM clv.customer_clv_history")
    connection.execute(
        "CREATE TABLE clv.segment_profile AS SELECT segment, count(*) AS count_customers "
        "FROM scores.customer_standing GROUP BY 1"
    )
    for name in ("clv_totals", "model_leaderboard", "backtest_metrics", *EVALUATION_TABLES):
        connection.execute(f"CREATE TABLE clv.{name} AS FROM scores.{name}")
    connection.execute("CREATE TABLE clv.matured_predictions (cutoff_date DATE, run_id VARCHAR)")
    connection.execute("CREATE TABLE clv.feature_registry (cutoff_date DATE, run_id VARCHAR)")
    for name in ("feature_health", "data_quality", "pipeline_runs"):
        connection.execute(f"CREATE TABLE clv.{name} AS FROM ops.{name}")


def write_registry(settings: Settings) -> None:
    """Describe the shop's features in an installed dbt project."""
    nullable = {"monetary_value": "no repeat order"}
    signed = {"sum_value", "sum_refunds", "monetary_value", *(f"sum_value_{w}d" for w in WINDOWS)}
    names = [
        *("frequency", "recency", "T", "monetary_value", "count_order_days", "count_orders"),
        *("sum_value", "sum_refunds", "days_since_last_order"),
        *(f"{measure}_{w}d" for w in WINDOWS for measure in ("count_orders", "sum_value")),
    ]
    columns = []
    for name in names:
        meta: dict[str, Any] = {"kind": "numeric", "input": True, "tags": [], "window_days": None}
        meta["min"] = None if name in signed else 0
        meta["max"] = None
        meta |= {"entity": "customer", "owner": "tests", "version": 1, "inputs": ["transactions"]}
        meta["null_meaning"] = nullable.get(name)
        columns.append(
            {
                "name": name,
                "data_type": "double",
                "description": f"The {name} of the customer.",
                "config": {"meta": {"feature": meta}},
            }
        )
    folder = settings.paths.dbt_project / "models" / "features"
    folder.mkdir(parents=True)
    joined = [{"name": name} for name in names]
    models = [
        {"name": "feat_rfm", "columns": columns},
        {"name": "customer_features", "columns": joined},
    ]
    document = {"version": 2, "models": models}
    (folder / "feat_rfm.yml").write_text(yaml.safe_dump(document), encoding="utf-8")


@functools.cache
def victims() -> list[tuple[str, int]]:
    """Customers to spoil, and of each the number of a row of the second file.

    They ordered twice or more before the first cutoff, once or more after the last but one, and
    never gave anything back.
    """
    orders = make_orders()
    found = []
    for customer, own in orders[orders["user_id"].notna()].groupby("user_id"):
        early = own.loc[own["day"] <= date(2024, 4, 1), "day"].nunique() >= 2
        second = own[own["_file_id"] == 2]
        if (
            early
            and len(second)
            and not own["is_refund"].any()
            and (own["day"].between(date(2024, 5, 2), date(2024, 5, 31)).any())
        ):
            found.append((str(customer), int(second["_row_number"].iloc[0])))
    return found


def write_raw(
    connection: duckdb.DuckDBPyConnection, inputs: dict[str, list[dict[str, Any]]]
) -> None:
    """Put rows into the raw tables, in place of what they hold."""
    create_tables(connection, "raw", SOURCES["raw"])
    for name in SOURCES["raw"]:
        connection.execute(f"DELETE FROM raw.{name}")
        rows = [
            {"_file_id": 1, "_row_number": number, **row}
            for number, row in enumerate(inputs.get(name, []), start=1)
        ]
        for row in rows:
            values = ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO raw.{name} ({', '.join(row)}) VALUES ({values})", list(row.values())
            )
