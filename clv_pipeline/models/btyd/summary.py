"""From customer days to the numbers that the buy-till-you-die models read."""

from __future__ import annotations

import pandas as pd


def summarise(
    days: pd.DataFrame,
    cutoff_date: pd.Timestamp | str,
    customer_id: str = "customer_id",
    day: str = "order_date",
    value: str = "value",
    count_orders: str | None = None,
    unit_days: float = 1.0,
) -> pd.DataFrame:
    """Sum up each customer's history as it was at the end of the cutoff day.

    Orders of one day count as one purchase, as in the papers on CDNOW. The first one is not
    counted in ``frequency`` nor in ``monetary_value``.

    Parameters
    ----------
    days
        Rows of customer, day and value; rows of one customer and day are added up. Rows after the
        cutoff are ignored.
    cutoff_date
        The last day that counts.
    customer_id, day, value
        Names of the columns. ``day`` holds dates without a time.
    count_orders
        Column with the number of orders on the day. Days with none (refunds only) are no purchase,
        but their value counts in ``sum_value``. Without it every row is an order.
    unit_days
        Days per unit of ``recency`` and ``T``: 1 for days, 7 for weeks.

    Returns
    -------
    One row per customer with an order by the cutoff, indexed by customer: ``frequency``,
    ``recency``, ``T``, ``monetary_value`` (missing where ``frequency`` is 0), ``count_order_days``
    and ``sum_value``.
    """
    cutoff = pd.Timestamp(cutoff_date)
    known = days.loc[days[day] <= cutoff]
    orders = pd.Series(1, index=known.index) if count_orders is None else known[count_orders]
    table = pd.DataFrame(
        {
            "customer": known[customer_id],
            "day": known[day],
            "value": known[value].astype("float64"),
            "orders": orders,
        }
    )
    per_day = table.groupby(["customer", "day"], as_index=False)[["value", "orders"]].sum()
    purchases = per_day.loc[per_day["orders"] > 0].sort_values(["customer", "day"])
    grouped = purchases.groupby("customer")
    first_day, last_day = grouped["day"].min(), grouped["day"].max()
    count_order_days = grouped["day"].size()
    repeats = purchases.loc[grouped.cumcount() > 0]
    summary = pd.DataFrame(
        {
            "frequency": count_order_days - 1,
            "recency": (last_day - first_day).dt.days / unit_days,
            "T": (cutoff - first_day).dt.days / unit_days,
            "monetary_value": repeats.groupby("customer")["value"].mean(),
            "count_order_days": count_order_days,
            "sum_value": per_day.groupby("customer")["value"].sum(),
        }
    )
    return summary.loc[first_day.index].rename_axis(index=customer_id)
