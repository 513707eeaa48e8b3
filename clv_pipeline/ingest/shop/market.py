"""What all customers of the simulated shop share: countries, currencies, catalogue, accounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clv_pipeline.ingest.shop.columns import money
from clv_pipeline.ingest.shop.process import FloatArray, IntArray

COUNTRIES = ("DE", "FR", "GB", "AT", "NL", "CH", "PL", "US")
COUNTRY_SHARES = (0.38, 0.15, 0.12, 0.10, 0.10, 0.06, 0.05, 0.04)
CURRENCIES = ("EUR", "GBP", "CHF", "PLN", "USD")
CURRENCY_OF_COUNTRY = np.array([0, 0, 1, 0, 0, 2, 3, 4])
CHANNELS = ("web", "app", "store", "marketplace", "test")
CHANNEL_SHARES = (0.52, 0.28, 0.12, 0.08)
TEST_CHANNEL = CHANNELS.index("test")
SOURCES = ("organic_search", "paid_search", "social", "referral", "email", "affiliate")
COST_OF_SOURCE = (0.0, 14.0, 9.0, 6.0, 2.0, 11.0)
_FIRST_RATES = (1.0, 1.16, 1.02, 0.22, 0.92)
_CATEGORIES = ("HOM", "KIT", "TEX", "GAR", "TOY", "ELE")
_COST_SHARES = (0.48, 0.52, 0.42, 0.55, 0.50, 0.68)


def random_stream(seed: int, name: str, chunk: int = 0) -> np.random.Generator:
    """Return a stream of its own for each purpose and chunk, so that options don't shift others."""
    return np.random.default_rng([seed, *name.encode(), chunk])


def pick(rng: np.random.Generator, shares: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """Draw so many positions with the given shares."""
    limits = np.cumsum(np.asarray(shares, dtype=float))
    return np.searchsorted(limits / limits[-1], rng.random(count), side="right").astype(np.int64)


@dataclass(frozen=True)
class Market:
    """Exchange rates and catalogue.

    Attributes
    ----------
    rates
        (currency, day): what one unit is worth in the reporting currency; true in hindsight.
    first_rates
        The same as first published; differs where a rate was restated.
    restated_after
        (currency, day): days until the restatement, 0 where there was none.
    list_prices
        Cents per sku, ascending.
    cost_shares
        Cost per sku as a share of its list price.
    skus
        Codes; the first three letters are the category.
    """

    rates: FloatArray
    first_rates: FloatArray
    restated_after: IntArray
    list_prices: IntArray
    cost_shares: FloatArray
    skus: tuple[str, ...]

    @classmethod
    def draw(cls, seed: int, days: int, count_skus: int = 400) -> Market:
        """Draw a market for so many days."""
        rng = random_stream(seed, "market")
        steps = rng.normal(0, 0.004, (len(CURRENCIES), days))
        steps[0] = 0
        rates = np.round(np.array(_FIRST_RATES)[:, None] * np.exp(np.cumsum(steps, axis=1)), 6)
        restated = np.where(rng.random(rates.shape) < 0.01, 5, 0)
        # A whole week of one currency was published wrong and put right a month later.
        restated[-1, days // 2 : days // 2 + 7] = 30
        restated[0] = 0
        first = np.where(restated > 0, np.round(rates * 1.025, 6), rates)
        prices = np.sort(100 * np.ceil(np.exp(rng.normal(2.9, 0.85, count_skus)))).astype(int) - 5
        category = rng.integers(0, len(_CATEGORIES), count_skus)
        skus = tuple(f"{_CATEGORIES[c]}-{k:04d}" for k, c in enumerate(category))
        return cls(rates, first, restated, prices, np.array(_COST_SHARES)[category], skus)

    def rate_rows(self, start: date) -> pa.Table:
        """Return exchange_rates: each rate as first known, and each restatement."""
        currency, day = np.nonzero(np.ones_like(self.rates[1:]))
        currency = currency + 1
        again = self.restated_after[currency, day] > 0
        rows = {
            "currency": np.concatenate([currency, currency[again]]),
            "day": np.concatenate([day, day[again]]),
            "rate": np.concatenate(
                [self.first_rates[currency, day], self.rates[currency, day][again]]
            ),
            "known": np.concatenate([day, (day + self.restated_after[currency, day])[again]]),
        }
        inside = rows["known"] < self.rates.shape[1]
        order = np.lexsort((rows["currency"], rows["day"], rows["known"]))
        order = order[inside[order]]
        first = np.datetime64(start, "D")
        known_at = (first + rows["known"][order]).astype("datetime64[s]") + 15 * 3600
        return pa.table(
            {
                "day": pa.array(first + rows["day"][order], pa.date32()),
                "currency": pa.array(np.array(CURRENCIES)[rows["currency"][order]]),
                "rate": pa.array(rows["rate"][order]),
                "known_at": pa.array(known_at.astype(np.int64), pa.timestamp("s", "UTC")),
            }
        )

    def known_rates(self) -> FloatArray:
        """Return the rates as known at the end of the data: late restatements are not."""
        day = np.arange(self.rates.shape[1])
        hidden = (self.restated_after > 0) & (day + self.restated_after >= self.rates.shape[1])
        return np.where(hidden, self.first_rates, self.rates)

    def basket_lines(
        self, rng: np.random.Generator, cents: IntArray
    ) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Split orders into lines with a sku, a quantity and a cost.

        Parameters
        ----------
        cents
            Value of each order in the reporting currency.

        Returns
        -------
        order, cents, sku, quantity, cost : arrays of int
            Position of the order, then per line; the lines of an order sum to its value.
        """
        count = 1 + pick(rng, (0.60, 0.25, 0.10, 0.05), cents.size)
        count = np.where(cents < 100 * count, 1, count)
        order = np.repeat(np.arange(cents.size), count)
        first = np.cumsum(count) - count
        weight = rng.gamma(2.0, 1.0, order.size)
        total = np.add.reduceat(weight, first) if order.size else weight
        spread = np.maximum(cents - count, 0)[order] * (weight / total[order])
        line = np.floor(spread).astype(np.int64) + 1
        rest = cents - (np.add.reduceat(line, first) if order.size else line)
        line[first] += rest
        quantity = 1 + pick(rng, (0.80, 0.14, 0.06), order.size)
        quantity = np.maximum(quantity, -(-line // self.list_prices[-1]))
        sku = np.searchsorted(self.list_prices, line / quantity) + rng.integers(0, 4, order.size)
        sku = np.minimum(sku, self.list_prices.size - 1)
        cost = np.rint(self.list_prices[sku] * self.cost_shares[sku] * quantity).astype(np.int64)
        return order, line, sku, quantity, cost

    def article_columns(self, sku: IntArray) -> dict[str, pa.Array]:
        """Return the columns ``sku`` and ``category`` of some lines."""
        return {
            "sku": pa.array(self.skus).take(pa.array(sku)),
            "category": pa.array(self.categories).take(pa.array(sku)),
        }

    def discount(
        self, sku: IntArray, quantity: IntArray, cents: IntArray, currency: IntArray, day: IntArray
    ) -> pa.Array:
        """Return what was taken off the list price of each line, in its currency; 0 for refunds."""
        listed = np.rint(self.list_prices[sku] * quantity / self.rates[currency, day])
        taken_off = np.where(cents > 0, np.maximum(listed - cents, 0), 0)
        return money(taken_off.astype(np.int64))

    @property
    def categories(self) -> tuple[str, ...]:
        """The category of each sku: its first three letters."""
        return tuple(sku[:3] for sku in self.skus)

    def sku_rows(self) -> pa.Table:
        """Return truth/skus.parquet: code, category, list price and cost share."""
        return pa.table(
            {
                "sku": pa.array(self.skus),
                "category": pa.array(self.categories),
                "list_price": pa.array(self.list_prices / 100),
                "cost_share": pa.array(self.cost_shares),
            }
        )
