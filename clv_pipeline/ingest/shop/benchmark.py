"""Transactions alone, fast: heavy-tailed histories for benchmarks, written as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clv_pipeline.ingest.shop.columns import Clock, account_ids, coded_text, money, numbered_ids
from clv_pipeline.ingest.shop.market import (
    CHANNEL_SHARES,
    CHANNELS,
    COUNTRIES,
    COUNTRY_SHARES,
    CURRENCIES,
    CURRENCY_OF_COUNTRY,
    Market,
    pick,
    random_stream,
)
from clv_pipeline.ingest.shop.orders import draw_seconds
from clv_pipeline.ingest.shop.parameters import DEFAULT_DAYS, TIME_ZONE, ShopParameters
from clv_pipeline.ingest.shop.process import (
    IntArray,
    Season,
    birth_weights,
    draw_latents,
    draw_order_values,
    draw_purchases,
    solve_rate_scale,
)

_CHUNK_CUSTOMERS = 25_000
# The last chunk stops where the rows are enough, before its last days; so it is one of many.
_LEAST_CHUNKS = 20
# Rows that wait until they are a group of a month's file.
_ROWS_PER_GROUP = 50_000


def write_orders_parquet(
    path: str | Path,
    orders: int,
    seed: int = 20240229,
    *,
    orders_per_customer: float = 20.0,
    days: int = DEFAULT_DAYS,
    start: date = date(2022, 1, 1),
    parameters: ShopParameters | None = None,
) -> tuple[Path, ...]:
    """Write exactly so many one-line orders with every column of the transactions' contract.

    Customers follow the same laws as in `write_shop`; 5 % of the orders are followed by a full or
    partial refund, which counts as one of the rows. Memory holds one chunk of customers, and what
    waits to become a group of rows of a month's file.

    Parameters
    ----------
    path
        A file that ends in ``.parquet``, or a folder for a file per month in which rows arrived.
    orders
        Rows to write.
    seed
        The same seed gives the same bytes.
    orders_per_customer
        Expected orders per customer.
    days, start
        Length and first day of the data.
    parameters
        Laws; ``orders_per_customer`` overrides theirs.

    Returns
    -------
    tuple of Path
        The files, in order.

    Raises
    ------
    ValueError
        If ``orders`` is not positive.
    """
    if orders < 1:
        raise ValueError(f"orders = {orders} can't be: write at least 1.")
    path = Path(path)
    laws = {**(parameters or ShopParameters()).__dict__, "orders_per_customer": orders_per_customer}
    size = min(_CHUNK_CUSTOMERS, ceil(orders / orders_per_customer / _LEAST_CHUNKS))
    chunks = _chunks(ShopParameters(**laws), seed, days, start, size)
    with _Files(path) as files:
        left = orders
        while left:
            table = next(chunks)
            table = table.slice(0, min(left, table.num_rows))
            left -= table.num_rows
            files.add(table)
    return tuple(files.written)


class _Files:
    """Writes rows into one file, or into one per month of delivery, each a little at a time.

    Parameters
    ----------
    path
        A file that ends in ``.parquet``, or a folder.

    Attributes
    ----------
    written
        The files, in the order of their names.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_file = path.suffix == ".parquet"
        (path.parent if self._is_file else path).mkdir(parents=True, exist_ok=True)
        self._waiting: dict[Path, list[pa.Table]] = {}
        self._writers: dict[Path, pq.ParquetWriter] = {}

    @property
    def written(self) -> list[Path]:
        return sorted(self._writers)

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for file, tables in self._waiting.items():
            self._write(file, tables)
        for writer in self._writers.values():
            writer.close()

    def add(self, table: pa.Table) -> None:
        if self._is_file:
            self._write(self._path, [table])
            return
        arrived = table["ingested_at"]
        months = pc.add(pc.multiply(pc.year(arrived), 100), pc.month(arrived))
        for month in sorted(pc.unique(months).to_pylist()):
            part = table.filter(pc.equal(months, month))
            waiting = self._waiting.setdefault(self._path / f"orders_{month}.parquet", [])
            waiting.append(part)
        for file, tables in self._waiting.items():
            if sum(part.num_rows for part in tables) >= _ROWS_PER_GROUP:
                self._write(file, tables)
                tables.clear()

    def _write(self, file: Path, tables: list[pa.Table]) -> None:
        if not tables:
            return
        table = pa.concat_tables(tables)
        if file not in self._writers:
            self._writers[file] = pq.ParquetWriter(
                file, table.schema, compression="zstd", store_decimal_as_integer=True
            )
        self._writers[file].write_table(table)


def _chunks(
    parameters: ShopParameters, seed: int, days: int, start: date, size: int
) -> Iterator[pa.Table]:
    season = Season.build(start, days + 1, parameters.seasonality)
    rate_scale = solve_rate_scale(parameters, season, days)
    births = birth_weights(season, days, parameters.opening_share)
    market = Market.draw(seed, days)
    clock = Clock.build(start, 0, days + 1, TIME_ZONE)
    first_order, chunk = 0, 0
    while True:
        rng = random_stream(seed, "benchmark", chunk)
        latents = draw_latents(rng, size, parameters, rate_scale, births)
        customer, time, _ = draw_purchases(rng, latents, parameters, season, days)
        cents = draw_order_values(rng, latents.mean_value[customer], parameters)
        home = pick(rng, COUNTRY_SHARES, size)
        table = _order_rows(
            rng,
            first_order,
            10 * (1 + chunk * size + customer),
            time.astype(np.int64),
            cents,
            home[customer],
            market,
            clock,
        )
        yield table
        first_order += customer.size
        chunk += 1


def _order_rows(
    rng: np.random.Generator,
    first_order: int,
    account: IntArray,
    day: IntArray,
    euro_cents: IntArray,
    country: IntArray,
    market: Market,
    clock: Clock,
) -> pa.Table:
    by_day = np.argsort(day, kind="stable")
    account, day, euro_cents, country = (a[by_day] for a in (account, day, euro_cents, country))
    count, days = day.size, market.rates.shape[1]
    order = first_order + np.arange(count)
    # A refund takes the place of an order row a few days later: same id, part of the amount back.
    is_refund = np.zeros(count, dtype=bool)
    source = np.flatnonzero(rng.random(count) < 0.05)
    lag = rng.geometric(1 / 12, source.size)
    fine = day[source] + lag < days
    source, lag = source[fine], lag[fine]
    share = np.where(rng.random(source.size) < 0.5, 1.0, rng.uniform(0.1, 0.9, source.size))
    paid_back = np.maximum(np.rint(euro_cents[source] * share), 1).astype(np.int64)
    rows = np.concatenate([np.arange(count), source])
    is_refund = np.concatenate([is_refund, np.ones(source.size, dtype=bool)])
    day = np.concatenate([day, day[source] + lag])
    cents = np.concatenate([euro_cents, -paid_back])
    by_day = np.argsort(day, kind="stable")
    rows, day, cents, is_refund = rows[by_day], day[by_day], cents[by_day], is_refund[by_day]
    currency = CURRENCY_OF_COUNTRY[country[rows]]
    cents = np.rint(cents / market.rates[currency, day]).astype(np.int64)
    second = draw_seconds(rng, rows.size)
    late = np.array([0, 3, 30, 200])[pick(rng, (0.98, 0.012, 0.006, 0.002), rows.size)]
    late = np.where(day + late < days, late, 0)
    sku = np.minimum(
        np.searchsorted(market.list_prices, np.abs(cents)) + rng.integers(0, 4, rows.size),
        market.list_prices.size - 1,
    )
    pieces = np.ones(rows.size, dtype=np.int64)
    cost = np.where(is_refund, 0, np.rint(cents * market.cost_shares[sku])).astype(np.int64)
    return pa.table(
        {
            "transaction_id": numbered_ids("T", order[rows], 12),
            "user_id": account_ids(account[rows]),
            "ts": clock.instants(day, second),
            "amount": money(cents),
            "currency": coded_text(CURRENCIES, currency),
            "channel": coded_text(CHANNELS, pick(rng, CHANNEL_SHARES, rows.size)),
            **market.article_columns(sku),
            "quantity": pa.array(pieces),
            "discount": market.discount(sku, pieces, cents, currency, day),
            "country": coded_text(COUNTRIES, country[rows]),
            "is_refund": pa.array(is_refund),
            "variable_cost": money(cost),
            "ingested_at": clock.instants(day + late, np.minimum(second + 300, 86_399)),
        }
    )
