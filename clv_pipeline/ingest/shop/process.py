"""How customers of the simulated shop come, buy, spend and leave; vectorised over customers.

Time is counted in business days from the first day of the data: day 3 covers [3, 4). A season is a
clock that runs faster on busy days: a Poisson process on that clock has the law of a Poisson
process thinned by the season (the time-change theorem), and needs no discarded draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from clv_pipeline.ingest.shop.parameters import ShopParameters

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Monday to Sunday.
_WEEK = np.array([1.10, 1.02, 0.98, 1.00, 1.05, 0.85, 1.00])


def season_of_days(start: date, days: int, strength: float) -> FloatArray:
    """Return the relative demand of each day; its mean over a whole number of years is 1.

    Parameters
    ----------
    start
        The first day.
    days
        How many.
    strength
        0 for a flat year, 1 for the standard shape: a wave with its low in summer, a peak from
        mid-November to Christmas (about 1.9 times), quiet weeks after it, and a weekly pattern.
    """
    of_year = np.arange(366)
    year = (
        1
        + 0.12 * np.cos(2 * np.pi * (of_year - 350) / 365.25)
        + 0.85 * np.exp(-0.5 * ((of_year - 342) / 11) ** 2)
        - 0.25 * np.exp(-0.5 * ((of_year - 8) / 10) ** 2)
    ) ** strength
    week = _WEEK**strength
    dates = np.datetime64(start, "D") + np.arange(days)
    day_of_year = (dates - dates.astype("datetime64[Y]")).astype(np.int64)
    weekday = (dates.astype(np.int64) + 3) % 7
    factors: FloatArray = (year / year[:365].mean())[day_of_year] * (week / week.mean())[weekday]
    return factors


@dataclass(frozen=True)
class Season:
    """The season as a clock.

    Attributes
    ----------
    factor
        Relative demand of each day.
    clock
        Running sum of ``factor``, from 0; one longer than ``factor``.
    """

    factor: FloatArray
    clock: FloatArray

    @classmethod
    def build(cls, start: date, days: int, strength: float) -> Season:
        """Make the clock for so many days."""
        factor = season_of_days(start, days, strength)
        return cls(factor, np.concatenate([[0.0], np.cumsum(factor)]))

    def at(self, time: FloatArray) -> FloatArray:
        """Read the clock at times in days."""
        result: FloatArray = np.interp(time, np.arange(self.clock.size), self.clock)
        return result

    def time(self, reading: FloatArray) -> FloatArray:
        """Return the times at which the clock shows ``reading``."""
        result: FloatArray = np.interp(reading, self.clock, np.arange(self.clock.size))
        return result


@dataclass(frozen=True)
class Latents:
    """What nobody sees of each customer.

    Attributes
    ----------
    birth
        Time of the first order, in days.
    rate
        Orders per day of the average season.
    dropout
        Dropout rate per day (``pareto``), probability per repeat order (``geometric``), or 0.
    death
        Time at which the customer left; infinite for those who never do, and for ``geometric``
        ones who had not left by the end of the data.
    mean_value
        Mean value of an order.
    is_giant
        Whether the mean was multiplied by the heavy tail.
    response
        Chance of one more order when treated by a campaign.
    """

    birth: FloatArray
    rate: FloatArray
    dropout: FloatArray
    death: FloatArray
    mean_value: FloatArray
    is_giant: BoolArray
    response: FloatArray

    def __len__(self) -> int:
        return self.birth.size


def birth_weights(season: Season, days: int, opening_share: float) -> FloatArray:
    """Return the probability of each day to see a customer's first order."""
    weights = season.factor[:days] / season.factor[:days].sum() * (1 - opening_share)
    opening = min(30, days)
    weights[:opening] += opening_share / opening
    result: FloatArray = weights / weights.sum()
    return result


def mean_repeat_orders(
    parameters: ShopParameters, rate_scale: float, season: Season, birth_day: int, end: int
) -> float:
    """Return E[repeat orders] from the noon of ``birth_day`` to the start of day ``end``.

    For a flat season and ``pareto`` it is E[X(t)] of Schmittlein, Morrison and Colombo (1987),
    (r beta / (alpha (s - 1))) (1 - (beta / (beta + t))^(s - 1)), summed by days.

    Parameters
    ----------
    rate_scale
        alpha, in days.
    """
    r = parameters.rate_shape
    time = np.arange(birth_day, end + 1, dtype=float)
    time[0] += 0.5
    if time.size < 2:
        return 0.0
    clock = season.at(time) - season.at(time[:1])
    if parameters.dropout == "geometric":
        nodes, weights = special.roots_sh_jacobi(
            40, parameters.dropout_a + parameters.dropout_b - 1, parameters.dropout_a
        )
        weights = weights / weights.sum()
        left = (rate_scale / (rate_scale + nodes * clock[-1])) ** r
        return float(np.sum(weights * (1 - left) / nodes))
    orders = r / rate_scale * np.diff(clock)
    if parameters.purchase == "regular":
        middle = (clock[1:] + clock[:-1]) / 2
        orders = orders * (1 - (rate_scale / (rate_scale + 4 * middle)) ** (r + 1))
    if parameters.dropout == "none":
        return float(orders.sum())
    age = (time[1:] + time[:-1]) / 2 - time[0]
    alive = (parameters.lifetime_scale / (parameters.lifetime_scale + age)) ** (
        parameters.lifetime_shape
    )
    return float(np.sum(orders * alive))


def solve_rate_scale(parameters: ShopParameters, season: Season, days: int) -> float:
    """Find alpha such that buyers have ``orders_per_customer`` orders by the end of the data.

    Raises
    ------
    ValueError
        If customers leave too soon for so many orders.
    """
    weights = birth_weights(season, days, parameters.opening_share)
    edges = np.linspace(0, days, min(days, 60) + 1)
    reached = np.interp(edges, np.arange(days + 1), np.concatenate([[0.0], np.cumsum(weights)]))
    births = np.floor((edges[1:] + edges[:-1]) / 2).astype(int)
    share = np.diff(reached)

    def excess(log_scale: float) -> float:
        scale = math.exp(log_scale)
        pairs = zip(births, share, strict=True)
        mean = sum(
            part * mean_repeat_orders(parameters, scale, season, int(day), days)
            for day, part in pairs
        )
        return float(1 + mean - parameters.orders_per_customer)

    low, high = -12.0, 18.0
    if excess(low) < 0 or excess(high) > 0:
        raise ValueError(
            f"orders_per_customer = {parameters.orders_per_customer} can't be reached in {days} "
            "days with these dropout parameters: ask for fewer orders or longer lives."
        )
    return math.exp(float(optimize.brentq(excess, low, high, xtol=1e-6)))


def draw_latents(
    rng: np.random.Generator,
    count: int,
    parameters: ShopParameters,
    rate_scale: float,
    birth_share: FloatArray,
) -> Latents:
    """Draw so many customers; ``death`` of ``geometric`` ones is known only with their orders."""
    day = np.searchsorted(np.cumsum(birth_share), rng.random(count), side="right")
    birth = np.minimum(day, birth_share.size - 1) + rng.random(count)
    rate = rng.gamma(parameters.rate_shape, 1 / rate_scale, count)
    death = np.full(count, np.inf)
    dropout = np.zeros(count)
    if parameters.dropout == "pareto":
        dropout = rng.gamma(parameters.lifetime_shape, 1 / parameters.lifetime_scale, count)
        death = birth + rng.standard_exponential(count) / np.maximum(dropout, 1e-12)
    elif parameters.dropout == "geometric":
        dropout = rng.beta(parameters.dropout_a, parameters.dropout_b, count)
    if parameters.spend == "gamma_gamma":
        nu = rng.gamma(parameters.mean_shape, 1 / parameters.mean_scale, count)
        mean = parameters.order_shape / np.maximum(nu, 1e-9)
    else:
        mean = parameters.lognormal_mean * np.exp(
            parameters.lognormal_between * rng.standard_normal(count)
        )
    is_giant = rng.random(count) < parameters.giant_share
    tail = parameters.giant_start * (1 - rng.random(count)) ** (-1 / parameters.giant_tail)
    mean = np.where(is_giant, mean * np.minimum(tail, parameters.giant_cap), mean)
    responds = rng.random(count) < parameters.persuadable_share
    response = np.where(responds, rng.beta(parameters.response_a, parameters.response_b, count), 0)
    return Latents(birth, rate, dropout, death, mean, is_giant, response)


def draw_purchases(
    rng: np.random.Generator,
    latents: Latents,
    parameters: ShopParameters,
    season: Season,
    days: int,
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Draw every order from each customer's first one to the end of the data.

    Returns
    -------
    customer : array of int
        Position of the customer, ascending.
    time : array of float
        In days, ascending within a customer.
    death : array of float
        As in `Latents`, known now for ``geometric`` dropout too.
    """
    start = season.at(latents.birth)
    end = season.at(np.minimum(latents.death, days))
    span = np.maximum(end - start, 0)
    stages = 2 if parameters.purchase == "regular" else 1
    count = rng.poisson(stages * latents.rate * span)
    customer = np.repeat(np.arange(len(latents)), count)
    reading = start[customer] + rng.random(customer.size) * span[customer]
    # The scaled reading stays below 1, so that one sort orders customers and then times.
    order = np.argsort(customer + reading / (season.clock[-1] + 1), kind="stable")
    reading = reading[order]
    rank = np.arange(customer.size) - np.repeat(np.cumsum(count) - count, count)
    keep = np.ones(customer.size, dtype=bool)
    death = latents.death.copy()
    if stages == 2:
        keep = rank % 2 == 1
    if parameters.dropout == "geometric":
        last = rng.geometric(np.clip(latents.dropout, 1e-9, 1), len(latents)) - 1
        keep = rank <= last[customer]
        final = rank == last[customer]
        death[customer[final]] = season.time(reading[final])
    customer, time = customer[keep], season.time(reading[keep])
    all_customers = np.concatenate([np.arange(len(latents)), customer])
    all_times = np.concatenate([latents.birth, np.minimum(time, np.nextafter(days, 0))])
    order = np.argsort(all_customers + all_times / (days + 1), kind="stable")
    return all_customers[order], all_times[order], death


def draw_order_values(
    rng: np.random.Generator, mean_value: FloatArray, parameters: ShopParameters
) -> IntArray:
    """Draw the value of each order in cents, at least 1, around its customer's mean."""
    if parameters.spend == "gamma_gamma":
        relative = rng.gamma(parameters.order_shape, 1 / parameters.order_shape, mean_value.size)
    else:
        within = parameters.lognormal_within
        relative = np.exp(within * rng.standard_normal(mean_value.size) - within**2 / 2)
    cents: IntArray = np.maximum(np.rint(100 * mean_value * relative), 1).astype(np.int64)
    return cents


def campaign_days(parameters: ShopParameters, days: int) -> IntArray:
    """List the days of campaigns before day ``days``."""
    return np.arange(45, days, parameters.campaign_every_days, dtype=np.int64)


def refund_lag_cdf(lag: IntArray, parameters: ShopParameters) -> FloatArray:
    """Return P(lag between order and refund <= lag days); the lag is geometric from 1 day on."""
    chance = 1 / parameters.refund_lag_days
    result: FloatArray = np.where(lag >= 1, 1 - (1 - chance) ** np.maximum(lag, 0), 0.0)
    return result


def day_of(start: date, day: int) -> date:
    """Return the calendar day of a day number."""
    return start + timedelta(days=day)
