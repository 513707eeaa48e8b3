"""An oracle for features: a sample of customers computed anew in pandas, from the landed rows.

It shares no code with dbt and reads nothing but ``raw.*``, so that a model that looks past t0 (at
what happened later, or became known later) differs from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date

import duckdb
import numpy as np
import pandas as pd

from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import read_frame

SAMPLE_SIZE = 200
TOLERANCE = 0.005
_HISTORY = (
    "frequency",
    "recency",
    "T",
    "monetary_value",
    "count_order_days",
    "count_orders",
    "sum_value",
    "sum_refunds",
    "days_since_last_order",
)
_NULL_WITHOUT_ORDERS = ("recency", "T", "monetary_value", "days_since_last_order")
_WINDOWED = re.compile(r"(count_orders|sum_value|sum_refunds)_(\d+)d")
_DISTINCT_LINE = [
    *("_file_id", "transaction_id", "user_id", "ts", "amount", "currency", "channel", "sku"),
    *("category", "quantity", "discount", "country", "is_refund", "variable_cost", "ingested_at"),
]


def compare_sample(
    connection: duckdb.DuckDBPyConnection, settings: Settings, cutoff: date
) -> pd.DataFrame:
    """Compare the stored features of a sample with those computed anew.

    Parameters
    ----------
    connection
        The warehouse.
    cutoff
        The day t0.

    Returns
    -------
    pandas.DataFrame
        customer_id, feature, stored, computed: a row per sampled customer and feature that both
        have; and is_history_same, whether the customer's whole past agrees.
    """
    customers = _sample(connection, settings, cutoff)
    stored = read_frame(
        connection,
        "SELECT * FROM features.customer_features WHERE cutoff_date = ? "
        "AND customer_id IN (SELECT unnest(?::VARCHAR[]))",
        [cutoff, customers],
    ).drop_duplicates("customer_id")
    stored = stored.set_index("customer_id")
    windows = [name for name in stored.columns if _WINDOWED.fullmatch(name)]
    computed = compute(connection, settings, cutoff, customers, windows)
    names = [name for name in computed.columns if name in stored.columns]
    parts = [
        pd.DataFrame(
            {
                "customer_id": computed.index,
                "feature": name,
                "stored": stored[name].reindex(computed.index).astype(float).to_numpy(),
                "computed": computed[name].to_numpy(),
            }
        )
        for name in names
    ]
    compared = pd.concat(parts, ignore_index=True)
    gap = (compared["stored"] - compared["computed"]).abs() > TOLERANCE
    gap |= compared["stored"].isna() != compared["computed"].isna()
    past = compared["feature"].isin(("count_orders", "sum_value", "days_since_last_order"))
    differs = set(compared.loc[gap & past, "customer_id"])
    return compared.assign(is_history_same=~compared["customer_id"].isin(differs))


def compute(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    cutoff: date,
    customers: list[str],
    windows: Sequence[str] = (),
) -> pd.DataFrame:
    """Compute features of customers as known at a cutoff.

    Parameters
    ----------
    windows
        Names of features over a window, such as ``sum_value_90d``.

    Returns
    -------
    pandas.DataFrame
        Indexed by customer_id; a column per feature.
    """
    t0 = pd.Timestamp(cutoff)
    owners = _owners(connection, settings, t0)
    accounts = [old for old, new in owners.items() if new in set(customers)]
    accounts += [customer for customer in customers if owners.get(customer, customer) == customer]
    lines = _known_lines(connection, settings, t0, accounts)
    owner = lines["user_id"].map(lambda user: owners.get(user, user))
    lines = lines.assign(customer_id=owner)[owner.isin(customers)]
    days = lines.groupby(["customer_id", "day"])[["value", "refunds", "orders"]].sum().reset_index()
    found = _history(days, t0).reindex(pd.Index(customers, name="customer_id"))
    for name in windows:
        measure, width = _split(name)
        inside = days[days["day"] > t0 - pd.Timedelta(days=width)]
        found[name] = inside.groupby("customer_id")[measure].sum()
    never_null = [name for name in found.columns if name not in _NULL_WITHOUT_ORDERS]
    return found.fillna(dict.fromkeys(never_null, 0.0))


def _history(days: pd.DataFrame, t0: pd.Timestamp) -> pd.DataFrame:
    """Sum a customer's days up to t0; ages in days."""
    if days.empty:
        return pd.DataFrame(columns=list(_HISTORY), dtype=float)
    sums = days.groupby("customer_id")[["value", "refunds", "orders"]].sum()
    ordered = days[days["orders"] > 0]
    by_customer = ordered.groupby("customer_id")["day"]
    first, last = by_customer.min(), by_customer.max()
    is_repeat = ordered["day"] > ordered["customer_id"].map(first)
    repeats = ordered[is_repeat].groupby("customer_id")["value"]
    figures = (
        repeats.size().reindex(sums.index),
        (last - first).dt.days,
        (t0 - first).dt.days,
        repeats.mean(),
        by_customer.size(),
        sums["orders"],
        sums["value"],
        sums["refunds"],
        (t0 - last).dt.days,
    )
    return pd.DataFrame(dict(zip(_HISTORY, figures, strict=True))).astype(float)


def _split(name: str) -> tuple[str, int]:
    """Read a windowed feature's name: the measure of a day, and the window's days."""
    windowed = _WINDOWED.fullmatch(name)
    if windowed is None:
        raise ValueError(f"'{name}' is no feature over a window")
    measure = {"count_orders": "orders", "sum_value": "value", "sum_refunds": "refunds"}
    return measure[windowed.group(1)], int(windowed.group(2))


def _sample(connection: duckdb.DuckDBPyConnection, settings: Settings, cutoff: date) -> list[str]:
    """Draw customers by the MD5 of their id, half of them with rows that t0 must not see."""
    rows = connection.execute(
        """
        WITH asked AS (
            SELECT customer_id, md5(customer_id) AS place FROM as_of.customer_spine
            WHERE cutoff_date = $cutoff
        ),
        later AS (
            SELECT DISTINCT user_id FROM raw.transactions
            WHERE greatest(ts, coalesce(ingested_at, ts))
                >= ($cutoff::DATE + 1)::TIMESTAMP AT TIME ZONE $zone AT TIME ZONE 'UTC'
        )
        (
            SELECT customer_id FROM asked SEMI JOIN later ON user_id = customer_id
            ORDER BY place, customer_id LIMIT $half
        )
        UNION
        (SELECT customer_id FROM asked ORDER BY place, customer_id LIMIT $half)
        ORDER BY customer_id
        """,
        {"cutoff": cutoff, "zone": settings.project.time_zone, "half": SAMPLE_SIZE // 2},
    ).fetchall()
    return [str(row[0]) for row in rows]


def _business_day(instants: pd.Series[pd.Timestamp], settings: Settings) -> pd.Series[pd.Timestamp]:
    local = pd.to_datetime(instants).dt.tz_localize("UTC").dt.tz_convert(settings.project.time_zone)
    return local.dt.tz_localize(None).dt.normalize()


def _owners(
    connection: duckdb.DuckDBPyConnection, settings: Settings, t0: pd.Timestamp
) -> dict[str, str]:
    """Find who owns each account that was ever merged, by the merges up to t0."""
    merges = read_frame(
        connection,
        "SELECT old_user_id, new_user_id, ts FROM raw.account_merges "
        "ORDER BY ts, _file_id, _row_number",
    )
    if merges.empty:
        return {}
    merges = merges[_business_day(merges["ts"], settings) <= t0]
    pointers = dict(zip(merges["old_user_id"], merges["new_user_id"], strict=True))
    owners = {}
    for account in pointers:
        owner, steps = account, 0
        while pointers.get(owner, owner) != owner and steps <= len(pointers):
            owner, steps = pointers[owner], steps + 1
        owners[account] = owner
    return owners


def _known_lines(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    t0: pd.Timestamp,
    accounts: list[str],
) -> pd.DataFrame:
    """Read the lines of accounts as they were known at t0, with value, refunds and orders."""
    lines = read_frame(
        connection,
        """
        WITH own AS (
            SELECT * FROM raw.transactions WHERE user_id IN (SELECT unnest(?::VARCHAR[]))
        )
        SELECT *, epoch_us(ts) AS ts_number, coalesce(epoch_us(ingested_at), -1) AS delivered
        FROM raw.transactions
        WHERE user_id IN (SELECT unnest(?::VARCHAR[]))
            -- Other accounts' lines of the same orders: a newer version may have moved an order.
            OR transaction_id IN (SELECT transaction_id FROM own)
        """,
        [accounts, accounts],
    )
    if lines.empty:
        return lines.assign(day=lines["ts"], value=0.0, refunds=0.0, orders=0)
    chosen = settings.inputs.get("transactions")
    if chosen is not None and chosen.grain == "order":
        repeated = lines.sort_values("_row_number").duplicated(_DISTINCT_LINE)
        lines = lines[~(repeated.reindex(lines.index) & lines["transaction_id"].notna())]
    refund = lines["is_refund"].astype("boolean").fillna(lines["amount"] < 0).astype(bool)
    lines = lines.assign(
        refund=refund,
        day=_business_day(lines["ts"], settings),
        ingested_day=_business_day(lines["ingested_at"], settings),
        order=lines["transaction_id"].where(
            lines["transaction_id"].notna(),
            "\0" + lines["_file_id"].astype(str) + ":" + lines["_row_number"].astype(str),
        ),
        refund_at=lines["ts_number"].where(refund, 0),
    )
    lines = _newest_versions(lines, t0)
    lines = lines[lines["day"] <= t0]
    rate = _rates(connection, settings, t0, lines)
    value = net = lines["amount"].where(~lines["refund"], -lines["amount"].abs()) * rate
    if settings.value.definition == "contribution_margin":
        value = net - lines["variable_cost"].fillna(0) * rate
    key = [*_VERSION, "delivered", "_file_id", "user_id"]
    first = ~lines.sort_values(["ts", "_row_number"]).duplicated(key)
    return lines.assign(
        value=value,
        refunds=(-value).where(lines["refund"], 0.0),
        orders=(first.reindex(lines.index) & ~lines["refund"]).astype(int),
    )[rate.notna()]


_VERSION = ["order", "refund", "refund_at"]


def _newest_versions(lines: pd.DataFrame, t0: pd.Timestamp) -> pd.DataFrame:
    """Keep, of each order and each refund of it, the newest version that was known at t0."""
    version = [*_VERSION, "delivered", "_file_id"]
    days = lines.groupby(version, dropna=False)[["ingested_day", "day"]].transform("min")
    known = days["ingested_day"].fillna(days["day"]) <= t0
    visible = lines[known]
    newest = visible.sort_values(["delivered", "_file_id"]).groupby(_VERSION, dropna=False)
    last = newest[["delivered", "_file_id"]].transform("last").reindex(visible.index)
    is_newest = (visible["delivered"] == last["delivered"]) & (
        visible["_file_id"] == last["_file_id"]
    )
    return visible[is_newest.reindex(visible.index)]


def _rates(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    t0: pd.Timestamp,
    lines: pd.DataFrame,
) -> pd.Series[float]:
    """Find the rate of each line as known at t0; missing where none was."""
    home = settings.project.reporting_currency
    currency = lines["currency"].fillna(home).str.strip().str.upper()
    if (currency == home).all():
        return pd.Series(1.0, index=lines.index)
    rates = read_frame(
        connection,
        "SELECT day, currency, rate, known_at, _file_id, _row_number FROM raw.exchange_rates",
    )
    known = rates["day"].where(rates["known_at"].isna(), _business_day(rates["known_at"], settings))
    rates = rates.assign(known=known.where(known > rates["day"], rates["day"]))
    rates = rates[rates["known"] <= t0].sort_values(
        ["known", "known_at", "_file_id", "_row_number"]
    )
    codes = rates["currency"].str.strip().str.upper()
    latest: Mapping[tuple[str, pd.Timestamp], float] = dict(
        zip(zip(codes, rates["day"], strict=True), rates["rate"], strict=True)
    )
    return pd.Series(
        [
            1.0 if code == home else latest.get((code, day), np.nan)
            for code, day in zip(currency, lines["day"], strict=True)
        ],
        index=lines.index,
    )
