"""Where the customers of a whole shop stand, however many: few columns of all, the rest in batches.

Ranks, quintiles, what is usual and how the experts' total compares with the published one depend on
all customers: they are found from a few numbers each. Everything else is one customer's own, and is
worked out for a batch at a time, in the order of the ids, so that the answer never depends on how
the rows lie in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pandas as pd

from clv_pipeline.decisions.reasons import FACTS, find_usual, give_reasons
from clv_pipeline.decisions.standing import compare_customers, describe_customers
from clv_pipeline.models.attribution import Parts
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.explaining import (
    BATCH_ROWS,
    CONCEPTS,
    Explainer,
    Explanation,
    fit_to,
    scale_to,
)
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.swapping import ReferenceCustomer
from clv_pipeline.parallel import map_batches
from clv_pipeline.scoring import FEATURES, PREDICTIONS, estimate_alive, select_features
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import quote_identifier, read_frame, read_row, stream_frames

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

Count = Callable[[int], object]


@dataclass(frozen=True, eq=False)
class Shop:
    """A few numbers of each customer of a cutoff, in the order of their ids.

    Attributes
    ----------
    past
        The columns that sum up purchase histories, and ``place``, a hash of the id.
    clv
        Published value over the longest horizon.
    purchase
        P(order), a column per horizon.
    model_version, run_id
        What predicted, and in which run.
    """

    past: pd.DataFrame
    clv: pd.Series[float]
    purchase: pd.DataFrame
    model_version: str
    run_id: str

    def __len__(self) -> int:
        return len(self.past)


def read_shop(connection: duckdb.DuckDBPyConnection, settings: Settings, cutoff: Cutoff) -> Shop:
    """Read a few numbers of each customer of a cutoff.

    Raises
    ------
    ValueError
        If features and predictions are not of the same customers.
    """
    horizons = sorted(settings.value.horizons)
    names = sorted(CLVModel(()).columns)
    day = [cutoff.day]
    chances = ", ".join(
        f"any_value(probability_purchase) FILTER (horizon_days = {h}) AS chance_{h}"
        for h in horizons
    )
    columns = ", ".join(f"features.{quote_identifier(name)}" for name in names)
    found = read_frame(
        connection,
        f"""
        WITH predicted AS (
            SELECT
                customer_id,
                any_value(clv) FILTER (horizon_days = {max(horizons)}) AS clv,
                {chances}
            FROM {PREDICTIONS} WHERE cutoff_date = ? GROUP BY customer_id
        )
        SELECT {columns}, hash(customer_id) AS place, predicted.* EXCLUDE (customer_id)
        FROM {FEATURES} AS features INNER JOIN predicted USING (customer_id)
        WHERE features.cutoff_date = ? ORDER BY customer_id
        """,
        [*day, *day],
    )
    version, run_id, predicted = read_row(
        connection,
        "SELECT any_value(model_version), any_value(run_id), count(DISTINCT customer_id) "
        f"FROM {PREDICTIONS} WHERE cutoff_date = ?",
        day,
    )
    (known,) = read_row(connection, f"SELECT count(*) FROM {FEATURES} WHERE cutoff_date = ?", day)
    if not len(found) == predicted == known:
        missing = predicted + known - 2 * len(found)
        raise ValueError(f"{missing} customers have features or predictions but not both")
    purchase = found[[f"chance_{h}" for h in horizons]].set_axis(horizons, axis=1)
    return Shop(found[[*names, "place"]], found["clv"], purchase, str(version), str(run_id))


def stand_in_batches(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    cutoff: Cutoff,
    model: CLVModel,
    shop: Shop,
    features: Iterable[Feature],
    backtested_horizons: tuple[int, ...] | None = None,
    count: Count | None = None,
    workers: int = 1,
) -> Iterator[pd.DataFrame]:
    """Say where each customer stands and why, some tens of thousands at a time.

    Parameters
    ----------
    connection
        The warehouse; may be written to meanwhile.
    settings
        Horizons and the churn horizon.
    cutoff
        Whose customers.
    model
        What predicted.
    shop
        From `read_shop`.
    features
        The registry, which says the view of a feature.
    backtested_horizons
        Horizons whose accuracy was measured; None when all were.
    count
        Told how many customers each batch had; every customer is looked at twice.
    workers
        Processes that share the batches.

    Yields
    ------
    DataFrame
        Rows of ``scores.customer_standing`` in the order of the ids.
    """
    longest = max(settings.value.horizons)
    told = count or (lambda rows: None)
    past, day = shop.past, pd.Timestamp(cutoff.day)
    # Nobody's name is needed for what is usual, and the columns are not kept.
    usual_customer = ReferenceCustomer.of(
        history_matrix(past.assign(customer_id="", cutoff_date=day))
    )
    make = partial(_make_explainer, model, usual_customer, tuple(features), longest)
    base, effects = 0.0, np.empty((len(shop), len(CONCEPTS)))
    explained = published = 0.0
    start = 0
    rows = (rows for _, rows in _batches(connection, cutoff, shop, model.columns, is_narrow=True))
    for parts in map_batches(make, rows, workers):
        here = slice(start, start + len(parts.effects))
        base, effects[here] = parts.base, parts.effects
        explained += float(parts.total.sum())
        published += float(shop.clv.iloc[here].sum())
        start = here.stop
        told(here.stop - here.start)
    scale = scale_to(explained, published)
    together = compare_customers(past, shop.clv, shop.purchase[settings.value.churn_days])
    teller = _Teller(
        settings,
        model,
        day,
        find_usual(past),
        scale,
        backtested_horizons,
        {"model_version": shop.model_version, "run_id": shop.run_id},
    )
    tasks = (
        _Task(
            rows,
            past.iloc[here],
            together.iloc[here],
            shop.purchase.iloc[here],
            shop.clv.iloc[here],
            Parts(base, effects[here]),
        )
        for here, rows in _batches(connection, cutoff, shop, FACTS)
    )
    for standing in map_batches(partial(_same, teller), tasks, workers):
        yield standing
        told(len(standing))


def _make_explainer(
    model: CLVModel, usual: ReferenceCustomer, features: tuple[Feature, ...], horizon: int
) -> Callable[[pd.DataFrame], Parts]:
    return partial(Explainer(model, usual, features).horizon, horizon=horizon)


@dataclass(frozen=True, eq=False)
class _Task:
    """What is known of some customers."""

    rows: pd.DataFrame
    past: pd.DataFrame
    together: pd.DataFrame
    purchase: pd.DataFrame
    clv: pd.Series[float]
    parts: Parts


@dataclass(frozen=True, eq=False)
class _Teller:
    """Says where some customers stand, and why."""

    settings: Settings
    model: CLVModel
    day: pd.Timestamp
    usual: Mapping[str, float]
    scale: float
    backtested_horizons: tuple[int, ...] | None
    stamps: Mapping[str, str]

    def __call__(self, task: _Task) -> pd.DataFrame:
        own, ids = task.past, task.rows["customer_id"]
        histories = own.assign(customer_id=ids.to_numpy(), cutoff_date=self.day)
        alive = estimate_alive(self.model, histories)
        standing = describe_customers(
            self.settings,
            own,
            task.together,
            task.purchase,
            self.day,
            None if alive is None else alive.set_axis(own.index),
            self.backtested_horizons,
        )
        longest = max(self.settings.value.horizons)
        found = _explain(task.parts, task.clv, self.scale, longest, ids)
        reasons = give_reasons(task.rows, found, self.usual).set_axis(own.index)
        standing = standing.assign(**self.stamps)
        standing.insert(0, "customer_id", ids.to_numpy())
        return standing.join(reasons)


def _same(teller: _Teller) -> _Teller:
    return teller


def _explain(
    parts: Parts, clv: pd.Series[float], scale: float, horizon: int, ids: pd.Series[str]
) -> Explanation:
    found = fit_to(parts, np.asarray(clv, dtype=np.float64), scale)
    index = pd.Index(ids.to_numpy(), name="customer_id")
    return Explanation(
        horizon, found.base, pd.DataFrame(found.effects, index=index, columns=list(CONCEPTS))
    )


def _batches(
    connection: duckdb.DuckDBPyConnection,
    cutoff: Cutoff,
    shop: Shop,
    names: Iterable[str],
    *,
    is_narrow: bool = False,
) -> Iterator[tuple[slice, pd.DataFrame]]:
    """Yield the customers' features with their places in the shop's columns."""
    place = "hash(customer_id) AS place"
    query = select_features(connection, names, place, is_narrow=is_narrow)
    start = 0
    for rows in stream_frames(connection, query, [cutoff.day], BATCH_ROWS):
        here = slice(start, start + len(rows))
        if not np.array_equal(rows.pop("place"), shop.past["place"].iloc[here]):
            raise ValueError("the features changed while customers were looked at: run again")
        yield here, rows
        start += len(rows)
