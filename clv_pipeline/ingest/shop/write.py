"""Write a simulated shop: chunks of customers, so that memory does not grow with the shop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from clv_pipeline.ingest.shop.columns import (
    Clock,
    account_ids,
    coded_text,
    money,
    numbered_ids,
)
from clv_pipeline.ingest.shop.contacts import campaign_rows, exposure_rows, merge_rows
from clv_pipeline.ingest.shop.files import (
    SUFFIXES,
    FileFormat,
    FileSet,
    FilesPer,
    clear_folder,
    write_bad_rows,
    write_config,
)
from clv_pipeline.ingest.shop.market import (
    CHANNELS,
    COST_OF_SOURCE,
    COUNTRIES,
    CURRENCIES,
    SOURCES,
    Market,
    random_stream,
)
from clv_pipeline.ingest.shop.orders import GUEST, TEST_ACCOUNT, Sales, draw_sales
from clv_pipeline.ingest.shop.parameters import (
    DEFAULT_CUSTOMERS,
    DEFAULT_DAYS,
    TIME_ZONE,
    ShopParameters,
)
from clv_pipeline.ingest.shop.people import (
    People,
    draw_people,
    event_rows,
    text_rows,
    user_rows,
)
from clv_pipeline.ingest.shop.process import (
    IntArray,
    Season,
    birth_weights,
    draw_latents,
    solve_rate_scale,
)
from clv_pipeline.ingest.shop.truth import cutoff_days, truth_of_customers, value_rows

CHUNK_CUSTOMERS = 10_000
ORDER_NUMBERS = 10_000_000
"""Order numbers per chunk."""
_EARLIEST_DAY = -400
# Whether an input has a folder of its own.
_INPUTS = {
    "transactions": True,
    "users": False,
    "events": True,
    "texts": False,
    "campaign_exposures": False,
    "acquisition_costs": False,
    "account_merges": False,
    "exchange_rates": False,
}


@dataclass(frozen=True)
class Shop:
    """A shop that was written.

    Attributes
    ----------
    folder
        Its folder; clv.toml lies in it.
    start, last_day
        First and last day of the data.
    rate_scale
        alpha (days) that ``orders_per_customer`` led to.
    count_rows
        Rows per input, unreadable ones included.
    planted
        How often each accident was planted; also in truth/planted.json. ``quarantine:<input>`` is
        the number of rows that a right landing sets aside.
    """

    folder: Path
    start: date
    last_day: date
    rate_scale: float
    count_rows: dict[str, int] = field(default_factory=dict)
    planted: dict[str, int] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """The clv.toml."""
        return self.folder / "clv.toml"

    @property
    def truth(self) -> Path:
        """The folder with customers.parquet, values.parquet, skus.parquet and planted.json."""
        return self.folder / "truth"


def write_shop(
    folder: str | Path,
    *,
    customers: int = DEFAULT_CUSTOMERS,
    days: int = DEFAULT_DAYS,
    seed: int = 20240229,
    start: date = date(2022, 1, 1),
    orders_per_customer: float | None = None,
    files_per: FilesPer = "month",
    file_format: FileFormat = "csv",
    parameters: ShopParameters | None = None,
    cutoffs: Sequence[date] | None = None,
    horizons: Sequence[int] = (30, 90, 180, 365),
    duplicate_file: bool = False,
) -> Shop:
    """Write a simulated shop with every input, its clv.toml, and the truth about its customers.

    The same arguments give the same bytes. docs/simulated_shop.md states the laws.

    Parameters
    ----------
    folder
        Where to write; the files of an earlier simulated shop there are replaced.
    customers
        Buyers. Accounts that never order, guests and test orders come on top.
    days
        Length of the data in days.
    seed
        Of all random draws.
    start
        First day.
    orders_per_customer
        Expected orders per buyer; that of ``parameters`` when None.
    files_per
        Period of one file of transactions and of events: all, year, month or day.
    file_format
        ``csv`` (gzipped) or ``parquet``.
    parameters
        Laws and shares; the defaults when None.
    cutoffs
        For which truth/values.parquet holds true values; 365, 180, 90 and 0 days before the last
        day when None.
    horizons
        For these windows, in days.
    duplicate_file
        Whether the first file of transactions is delivered once more under another name.

    Raises
    ------
    ValueError
        If an argument makes no shop, or the folder holds other files of the same names.
    """
    parameters = parameters or ShopParameters()
    if orders_per_customer is not None:
        parameters = replace(parameters, orders_per_customer=orders_per_customer)
    _check(customers, days, horizons, files_per)
    folder = Path(folder)
    wanted = cutoff_days(start, days, cutoffs)
    season = Season.build(start, days + max(horizons) + 1, parameters.seasonality)
    rate_scale = solve_rate_scale(parameters, season, days)
    births = birth_weights(season, days, parameters.opening_share)
    market = Market.draw(seed, days)
    clock = Clock.build(start, _EARLIEST_DAY, days + 1, TIME_ZONE)
    folder.mkdir(parents=True, exist_ok=True)
    clear_folder(folder, _INPUTS)
    inputs = {
        name: FileSet(
            folder / name if has_folder else folder,
            name,
            file_format,
            files_per if has_folder else "all",
            start,
        )
        for name, has_folder in _INPUTS.items()
    }
    truth = {
        name: FileSet(folder / "truth", name, "parquet", "all", start)
        for name in ("customers", "values", "campaigns", "skus")
    }
    planted: dict[str, int] = {}
    signups = np.zeros((days, len(SOURCES)))
    chunks = range(-(-customers // CHUNK_CUSTOMERS))
    for chunk in chunks:
        count = min(CHUNK_CUSTOMERS, customers - chunk * CHUNK_CUSTOMERS)
        rng = random_stream(seed, "latents", chunk)
        latents = draw_latents(rng, count, parameters, rate_scale, births)
        people = draw_people(seed, chunk, CHUNK_CUSTOMERS, latents, parameters, days)
        test_orders = parameters.test_orders_per_month * days // 30 if chunk == 0 else 0
        sales = draw_sales(
            seed, chunk, latents, people.countries, parameters, market, season, days, test_orders
        )
        for name, number in sales.planted.items():
            planted[name] = planted.get(name, 0) + number
        test_lines = int(np.sum(sales.lines["customer"] == TEST_ACCOUNT))
        _count(planted, "quarantine:transactions", test_lines)
        inputs["transactions"].write(
            _transaction_rows(chunk, people, sales, market, clock), sales.lines["known_day"]
        )
        inputs["users"].write(user_rows(people, clock))
        inputs["events"].write(*event_rows(seed, chunk, people, sales, clock, days))
        inputs["texts"].write(text_rows(seed, chunk, people, sales, clock, parameters, days))
        inputs["campaign_exposures"].write(exposure_rows(people, sales, clock, parameters, days))
        merges, split = merge_rows(seed, chunk, people, clock, parameters, days)
        inputs["account_merges"].write(merges)
        inside = people.signup_day >= 0
        np.add.at(signups, (people.signup_day[inside], people.source[inside]), 1)
        ids = account_ids(people.number[:count])
        second = np.where(people.merge_day[:count] >= 0, people.number[:count] + 1, -1)
        columns = truth_of_customers(ids, sales.latents, parameters, start, days)
        columns["second_user_id"] = account_ids(second)
        columns["merged_date"] = clock.dates(people.merge_day[:count])
        columns["was_merged_by_mistake"] = pa.array(split)
        truth["customers"].write(pa.table(columns))
        delivered = (sales.lines["customer"], sales.lines["day"], sales.value)
        truth["values"].write(
            value_rows(
                ids, sales.latents, sales.flows, delivered, parameters, season, start, days,
                wanted, sorted(set(horizons)),
            )
        )  # fmt: skip
    inputs["acquisition_costs"].write(_cost_rows(seed, signups, clock))
    inputs["exchange_rates"].write(market.rate_rows(start))
    blank = _users_without_id(inputs["users"], people, clock, parameters.bad_rows)
    _count(planted, "quarantine:users", blank)
    truth["skus"].write(market.sku_rows())
    truth["campaigns"].write(campaign_rows(clock, parameters, days))
    for file_set in (*inputs.values(), *truth.values()):
        file_set.close()
    suffix = SUFFIXES[file_format]
    schema = _transaction_rows(0, people, sales, market, clock).schema
    bad = write_bad_rows(
        folder / "transactions" / f"unreadable_rows{suffix}",
        file_format,
        schema,
        start,
        parameters.bad_rows,
    )
    _count(planted, "quarantine:transactions", bad)
    if duplicate_file:
        first = min(inputs["transactions"].paths)
        shutil.copyfile(first, first.with_name(f"delivered_again{suffix}"))
        planted["files_delivered_twice"] = 1
    count_rows = {name: file_set.count_rows for name, file_set in inputs.items()}
    count_rows["transactions"] += bad
    text = json.dumps(dict(sorted(planted.items())), indent=2) + "\n"
    (folder / "truth" / "planted.json").write_text(text, encoding="utf-8")
    last_day = clock.date(days - 1)
    write_config(folder, file_format, _INPUTS, start, last_day)
    return Shop(folder, start, last_day, rate_scale, count_rows, planted)


def _check(customers: int, days: int, horizons: Sequence[int], files_per: FilesPer) -> None:
    if customers < 1 or days < 31:
        raise ValueError(
            f"customers = {customers} and days = {days} make no shop: at least 1 and 31."
        )
    if not horizons or min(horizons) < 1:
        raise ValueError(
            f"horizons = {list(horizons)} can't be: name at least one, of 1 day or more."
        )
    if files_per == "day" and customers > CHUNK_CUSTOMERS:
        raise ValueError(
            f"files_per='day' with {customers} customers would keep thousands of files open: "
            f"take 'month', or at most {CHUNK_CUSTOMERS} customers."
        )


def _count(planted: dict[str, int], name: str, number: int) -> None:
    planted[name] = planted.get(name, 0) + number


def _transaction_rows(
    chunk: int, people: People, sales: Sales, market: Market, clock: Clock
) -> pa.Table:
    lines = sales.lines
    customer = lines["customer"]
    account = people.account(np.maximum(customer, 0), lines["day"])
    account = np.where(customer == TEST_ACCOUNT, 0, np.where(customer == GUEST, -1, account))
    sold = ("sku", "quantity", "cents", "currency", "day")
    return pa.table(
        {
            "transaction_id": numbered_ids("T", chunk * ORDER_NUMBERS + lines["order"], 12),
            "user_id": account_ids(account),
            "ts": clock.instants(lines["day"], lines["second"]),
            "amount": money(lines["cents"]),
            "currency": coded_text(CURRENCIES, lines["currency"]),
            "channel": coded_text(CHANNELS, lines["channel"]),
            **market.article_columns(lines["sku"]),
            "quantity": pa.array(lines["quantity"]),
            "discount": market.discount(*(lines[name] for name in sold)),
            "country": coded_text(COUNTRIES, lines["country"]),
            "is_refund": pa.array(lines["is_refund"]),
            "variable_cost": money(lines["cost"]),
            "ingested_at": clock.instants(lines["known_day"], lines["known_second"]),
        }
    )


def _cost_rows(
    seed: int, signups: np.ndarray[tuple[int, int], np.dtype[np.float64]], clock: Clock
) -> pa.Table:
    rng = random_stream(seed, "costs")
    noise = rng.uniform(0.7, 1.3, signups.shape)
    cents = np.rint(100 * signups * noise * np.array(COST_OF_SOURCE)).astype(np.int64)
    day, source = np.nonzero(cents)
    return pa.table(
        {
            "day": clock.dates(day),
            "acquisition_source": coded_text(SOURCES, source),
            "cost": money(cents[day, source]),
        }
    )


def _users_without_id(file_set: FileSet, people: People, clock: Clock, count: int) -> int:
    rows = user_rows(people, clock).slice(0, count)
    missing: IntArray = np.full(rows.num_rows, -1)
    file_set.write(rows.set_column(0, "user_id", account_ids(missing)))
    return int(rows.num_rows)
