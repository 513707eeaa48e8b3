"""The same features by other libraries, from the same files: what ours is held against.

RFM and windows as ``customer_history`` and ``feat_windows`` define them, but for what became known
late: these read every row as if it had always been known, which is less work.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from clv_pipeline.warehouse import open_database, quote_literal

WINDOWS = (7, 30, 90, 180, 365)


def scan_amounts(history: Path) -> dict[str, Any]:
    """Sum one column of the files."""
    with open_database() as connection:
        files = quote_literal(str(history / "*.parquet"))
        (row,) = connection.execute(f"SELECT sum(amount) FROM read_parquet({files})").fetchall()
    return {"sum": str(row[0])}


def features_by_duckdb(history: Path, cutoff: date) -> dict[str, Any]:
    """RFM and windows in one statement, with nothing prepared and nothing kept."""
    end = f"DATE {quote_literal(cutoff.isoformat())}"
    aggregates = []
    for width in WINDOWS:
        inside, younger = f"day > {end} - {width}", f"day > {end} - {width // 2}"
        aggregates += [
            f"sum(orders) FILTER ({inside}) AS orders_{width}",
            f"sum(value) FILTER ({inside}) AS value_{width}",
            f"sum(refunds) FILTER ({inside}) AS refunds_{width}",
            f"sum(orders) FILTER ({younger}) AS late_{width}",
            f"count(*) FILTER ({inside} AND orders > 0) AS order_days_{width}",
            f"min(day) FILTER ({inside} AND orders > 0) AS first_{width}",
        ]
    skus = ", ".join(f"count(*) FILTER (last > {end} - {w}) AS skus_{w}" for w in WINDOWS)
    with open_database() as connection:
        connection.execute(
            f"""
            CREATE TABLE features AS
            WITH rows AS (
                SELECT user_id, sku, amount, is_refund,
                    CAST(timezone('Europe/Berlin', ts) AS DATE) AS day
                FROM read_parquet({quote_literal(str(history / "*.parquet"))})
            ),
            days AS (
                SELECT user_id, day, count(*) FILTER (NOT is_refund) AS orders,
                    sum(amount) AS value, -sum(amount) FILTER (is_refund) AS refunds
                FROM rows GROUP BY ALL
            ),
            gaps AS (
                SELECT user_id, stddev(gap) AS std_gap FROM (
                    SELECT user_id, day - lag(day) OVER (PARTITION BY user_id ORDER BY day) AS gap
                    FROM days WHERE orders > 0
                ) GROUP BY ALL
            ),
            sums AS (
                SELECT user_id, min(day) FILTER (orders > 0) AS first,
                    max(day) FILTER (orders > 0) AS last,
                    count(*) FILTER (orders > 0) AS order_days, sum(orders) AS orders,
                    sum(value) AS value, sum(refunds) AS refunds,
                    max(value) FILTER (orders > 0) AS max_value,
                    arg_min(value, day) FILTER (orders > 0) AS first_value,
                    {", ".join(aggregates)}
                FROM days GROUP BY ALL
            ),
            articles AS (
                SELECT user_id, {skus} FROM (
                    SELECT user_id, sku, max(day) AS last FROM rows
                    WHERE NOT is_refund AND day > {end} - {max(WINDOWS)} GROUP BY ALL
                ) GROUP BY ALL
            )
            FROM sums LEFT JOIN gaps USING (user_id) LEFT JOIN articles USING (user_id)
            """
        )
        (row,) = connection.execute("SELECT count(*) FROM features").fetchall()
    return {"customers": int(row[0])}


def features_by_polars(history: Path, cutoff: date) -> dict[str, Any]:
    """RFM and windows, lazily, streaming where polars can."""
    import polars as pl

    day = pl.col("ts").dt.convert_time_zone("Europe/Berlin").dt.date()
    rows = (
        pl.scan_parquet(str(history / "*.parquet"))
        .select("user_id", "sku", "amount", "is_refund", day.alias("day"))
        .with_columns(
            pl.col("amount").cast(pl.Float64),
            (~pl.col("is_refund")).cast(pl.Int32).alias("is_order"),
        )
    )
    days = rows.group_by("user_id", "day").agg(
        pl.col("is_order").sum().alias("orders"),
        pl.col("amount").sum().alias("value"),
        (-pl.col("amount").filter(pl.col("is_refund"))).sum().alias("refunds"),
        pl.col("sku").unique().alias("skus"),
    )
    bought = pl.col("orders") > 0
    aggregates = [
        pl.col("day").filter(bought).min().alias("first"),
        pl.col("day").filter(bought).max().alias("last"),
        bought.sum().alias("count_order_days"),
        pl.col("orders").sum().alias("count_orders"),
        pl.col("value").sum().alias("sum_value"),
        pl.col("refunds").sum().alias("sum_refunds"),
        pl.col("value").filter(bought).max().alias("max_value"),
        pl.col("value").filter(bought).sort_by(pl.col("day").filter(bought)).first().alias("v1"),
        pl.col("day").filter(bought).sort().diff().dt.total_days().std().alias("std_gap"),
    ]
    for width in WINDOWS:
        inside = pl.col("day") > cutoff - timedelta(days=width)
        younger = pl.col("day") > cutoff - timedelta(days=width // 2)
        aggregates += [
            pl.col("orders").filter(inside).sum().alias(f"orders_{width}"),
            pl.col("value").filter(inside).sum().alias(f"value_{width}"),
            pl.col("refunds").filter(inside).sum().alias(f"refunds_{width}"),
            pl.col("orders").filter(younger).sum().alias(f"late_{width}"),
            (inside & bought).sum().alias(f"order_days_{width}"),
            pl.col("day").filter(inside & bought).min().alias(f"first_{width}"),
            pl.col("day").filter(inside & bought).max().alias(f"last_{width}"),
            pl.col("skus").filter(inside).explode().n_unique().alias(f"skus_{width}"),
        ]
    frame = days.group_by("user_id").agg(aggregates).collect(engine="streaming")
    return {"customers": frame.height}


def features_by_pandas(history: Path, cutoff: date) -> dict[str, Any]:
    """RFM and windows, a group-by per window."""
    import pandas as pd

    columns = ["user_id", "ts", "sku", "amount", "is_refund"]
    frame = pd.read_parquet(history, columns=columns)
    frame["day"] = frame["ts"].dt.tz_convert("Europe/Berlin").dt.normalize().dt.tz_localize(None)
    frame["amount"] = frame["amount"].astype(float)
    frame["refund"] = -frame["amount"].where(frame["is_refund"], 0)
    frame["order"] = (~frame["is_refund"]).astype(int)
    days = frame.groupby(["user_id", "day"], as_index=False)[["amount", "refund", "order"]].sum()
    bought = days[days["order"] > 0].sort_values(["user_id", "day"])
    bought["gap"] = bought.groupby("user_id")["day"].diff().dt.days
    by_user = bought.groupby("user_id")
    parts = [
        by_user.agg(first=("day", "min"), last=("day", "max"), count=("day", "size"),
                    most=("amount", "max"), v1=("amount", "first"), std=("gap", "std")),
        days.groupby("user_id")[["amount", "refund", "order"]].sum(),
    ]  # fmt: skip
    end = pd.Timestamp(cutoff)
    for width in WINDOWS:
        recent = days[days["day"] > end - pd.Timedelta(days=width)]
        younger = days[days["day"] > end - pd.Timedelta(days=width // 2)]
        inside = bought[bought["day"] > end - pd.Timedelta(days=width)]
        lines = frame[frame["day"] > end - pd.Timedelta(days=width)]
        parts += [
            recent.groupby("user_id")[["amount", "refund", "order"]].sum().add_suffix(f"_{width}"),
            younger.groupby("user_id")["order"].sum().rename(f"late_{width}"),
            inside.groupby("user_id")["day"].agg(["min", "max", "size"]).add_suffix(f"_{width}"),
            lines.groupby("user_id")["sku"].nunique().rename(f"skus_{width}"),
        ]
    return {"customers": len(pd.concat(parts, axis=1))}


def rfm_by_lifetimes(history: Path, cutoff: date) -> dict[str, Any]:
    """Summarise by lifetimes' own function, which reads no refunds apart."""
    import pandas as pd
    from lifetimes.utils import summary_data_from_transaction_data

    summary = summary_data_from_transaction_data(
        _orders(history), "user_id", "ts", "amount", observation_period_end=pd.Timestamp(cutoff)
    )
    return {"customers": len(summary)}


def rfm_by_pymc_marketing(history: Path, cutoff: date) -> dict[str, Any]:
    """Summarise by pymc-marketing's own function, likewise."""
    from pymc_marketing.clv.utils import rfm_summary

    summary = rfm_summary(
        _orders(history), "user_id", "ts", "amount", observation_period_end=cutoff.isoformat()
    )
    return {"customers": len(summary)}


def _orders(history: Path) -> Any:
    import pandas as pd

    frame = pd.read_parquet(history, columns=["user_id", "ts", "amount", "is_refund"])
    frame = frame[~frame["is_refund"]]
    frame["ts"] = frame["ts"].dt.tz_convert("Europe/Berlin").dt.tz_localize(None)
    frame["amount"] = frame["amount"].astype(float)
    return frame
