"""Purchase histories, counted where they lie: all that a buy-till-you-die model is fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from clv_pipeline.engines.lake import FEATURES, mount
from clv_pipeline.engines.session import open_spark
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

PURCHASES = ("frequency", "recency", "T")
SPEND = ("count_order_days", "sum_value")
COUNT = "count_customers"
# Of a cutoff with more customers, so many are counted, drawn by their ids: no fit needs more.
MOST_COUNTED = 50_000
_DRAWS = 1_000_000


@dataclass(frozen=True, eq=False)
class HistoryCounts:
    """How many customers have each purchase history at a cutoff.

    Attributes
    ----------
    purchases
        ``frequency``, ``recency``, ``T`` in days, and ``count_customers``.
    spend
        ``count_order_days``, ``sum_value``, and ``count_customers``.
    """

    purchases: pd.DataFrame
    spend: pd.DataFrame


def count_histories(
    settings: Settings, cutoffs: Sequence[Cutoff], most: int = MOST_COUNTED
) -> Mapping[Cutoff, HistoryCounts]:
    """Let Spark count the customers of each purchase history, cutoff by cutoff.

    Customers with the same frequency, recency and T have the same likelihood, and so have those
    with as many order days of the same value. So these rows, with their counts as weights, are all
    that a fit needs, however many customers there are. Customers without an order are left out.

    Parameters
    ----------
    cutoffs
        With features.
    most
        Customers of a cutoff; of more, a share is drawn by their ids.
    """
    spark = open_spark(settings)
    mount(spark, settings, {})
    days = ", ".join(f"date '{cutoff}'" for cutoff in cutoffs)
    buyers = f"from {FEATURES} where cutoff_date in ({days}) and count_order_days > 0"
    sizes = spark.sql(f"select cutoff_date, count(*) {buyers} group by cutoff_date").collect()
    drawn = " or ".join(
        f"(cutoff_date = date '{day}' and "
        f"pmod(xxhash64(customer_id), {_DRAWS}) < {max(round(_DRAWS * most / size), 1)})"
        for day, size in sizes
        if size > most
    )
    whole = ", ".join(f"date '{day}'" for day, size in sizes if size <= most)
    chosen = " or ".join(part for part in (whole and f"cutoff_date in ({whole})", drawn) if part)
    found = {
        names: spark.sql(
            f"""
            select cutoff_date, {", ".join(f"`{name}`" for name in names)}, count(*) as {COUNT}
            {buyers} and ({chosen or "false"})
            group by all
            """
        )
        .toArrow()
        .to_pandas(date_as_object=True)
        for names in (PURCHASES, SPEND)
    }
    return {
        cutoff: HistoryCounts(*(_of_day(found[names], names, cutoff) for names in found))
        for cutoff in cutoffs
    }


def _of_day(rows: pd.DataFrame, names: Sequence[str], cutoff: Cutoff) -> pd.DataFrame:
    chosen = rows[rows["cutoff_date"] == cutoff.day]
    return chosen[[*names, COUNT]].sort_values(list(names), ignore_index=True)
