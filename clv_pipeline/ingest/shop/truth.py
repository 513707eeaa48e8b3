"""What each simulated customer is truly worth, given what nobody sees; beside what came to pass.

At the end of day D the process stands at time t0 = D + 1. Per future day d the expected orders of
a customer who is still there are

- ``poisson``, ``pareto``: lambda s_d exp(-mu (d - t0)) (1 - exp(-mu)) / mu, s_d the season;
- ``poisson``, ``geometric``: (exp(-lambda p A_d) - exp(-lambda p A_{d+1})) / p, A the season's
  clock since t0 (BG/NBD given its latent parameters, Fader, Hardie and Lee 2005, on that clock);
- ``regular``: lambda (A_{d+1} - A_d) + (2 pi - 1) (exp(-4 lambda A_d) - exp(-4 lambda A_{d+1})) / 4
  times the share of the day that a customer is expected to live, pi the chance to be in the second
  stage of the gap after v units of the clock without an order, 2 lambda v / (1 + 2 lambda v).

Each order is worth the customer's mean value; of it the expected refunds up to the end of the
window are subtracted, and those still to come for orders before the cutoff. Extra orders by
campaigns come on top: their calendar, the shares drawn and treated and the responses are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from clv_pipeline.ingest.shop.parameters import ShopParameters
from clv_pipeline.ingest.shop.process import (
    BoolArray,
    FloatArray,
    IntArray,
    Latents,
    Season,
    campaign_days,
    day_of,
    refund_lag_cdf,
)

RESPONSE_DAYS = 7


@dataclass(frozen=True)
class Flows:
    """What truly happened in a chunk: positions of customers, days, and cents.

    Attributes
    ----------
    order_customer, order_time, order_cents
        Orders of the purchase process; time in days.
    extra_customer, extra_day, extra_cents
        Orders that campaigns brought.
    refund_customer, refund_day, refund_cents
        Refunds; cents are positive.
    treated
        (customer, campaign): treated by it.
    """

    order_customer: IntArray
    order_time: FloatArray
    order_cents: IntArray
    extra_customer: IntArray
    extra_day: IntArray
    extra_cents: IntArray
    refund_customer: IntArray
    refund_day: IntArray
    refund_cents: IntArray
    treated: BoolArray


def expected_daily_orders(
    latents: Latents,
    parameters: ShopParameters,
    season: Season,
    t0: int,
    days: int,
    last_order: FloatArray,
) -> FloatArray:
    """Return E[orders] of customers still there at ``t0`` on each of the next days.

    Parameters
    ----------
    t0
        First day after the cutoff.
    days
        How many days.
    last_order
        Time of each customer's last order before t0; used by ``regular`` alone.

    Returns
    -------
    array of float, (customers, days)
    """
    rate = latents.rate[:, None]
    ahead = np.arange(days)
    clock = (season.clock[t0 : t0 + days + 1] - season.clock[t0])[None, :]
    if parameters.dropout == "geometric":
        chance = latents.dropout[:, None]
        left = np.exp(-rate * chance * clock)
        return np.asarray((left[:, :-1] - left[:, 1:]) / np.maximum(chance, 1e-12))
    orders = rate * np.diff(clock)
    if parameters.purchase == "regular":
        waited = (season.clock[t0] - season.at(last_order))[:, None] * 2 * rate
        late_stage = waited / (1 + waited)
        decay = np.exp(-4 * rate * clock)
        orders = orders + (2 * late_stage - 1) * (decay[:, :-1] - decay[:, 1:]) / 4
    if parameters.dropout == "pareto":
        mu = np.maximum(latents.dropout, 1e-12)[:, None]
        orders = orders * np.exp(-mu * ahead) * (-np.expm1(-mu) / mu)
    return np.asarray(orders)


def alive_probability(
    latents: Latents,
    parameters: ShopParameters,
    season: Season,
    t0: int,
    last_order: FloatArray,
    has_repeated: BoolArray,
) -> FloatArray:
    """Return P(still there at t0 | own orders before t0, latent rates); NaN for ``regular``.

    For ``pareto`` and a flat season this is 1 / (1 + mu / (lambda + mu) (exp((lambda + mu)
    (T - t_x)) - 1)) of Schmittlein, Morrison and Colombo (1987), given lambda and mu.
    """
    if parameters.dropout == "none":
        return np.ones(len(latents))
    if parameters.purchase == "regular":
        return np.full(len(latents), np.nan)
    rate, dropout = latents.rate, latents.dropout
    with np.errstate(over="ignore", invalid="ignore"):
        if parameters.dropout == "geometric":
            waited = season.clock[t0] - season.at(last_order)
            odds = dropout / np.maximum(1 - dropout, 1e-12) * np.exp(rate * waited)
            return np.where(has_repeated, 1 / (1 + odds), 1.0)
        odds = np.zeros(len(latents))
        for day in range(int(np.floor(last_order.min(initial=t0))), t0):
            elapsed = np.clip(day + 1 - last_order, 0, 1)
            hazard = dropout + rate * season.factor[day]
            growth = np.exp(np.minimum(hazard * elapsed, 700))
            odds = np.minimum(odds * growth + dropout / hazard * (growth - 1), 1e300)
    return np.asarray(1 / (1 + odds))


def value_rows(
    ids: pa.Array,
    latents: Latents,
    flows: Flows,
    delivered: tuple[IntArray, IntArray, FloatArray],
    parameters: ShopParameters,
    season: Season,
    start: date,
    days: int,
    cutoffs: Sequence[int],
    horizons: Sequence[int],
) -> pa.Table:
    """Return truth/values.parquet's rows of a chunk: buyers by cutoff and horizon.

    Parameters
    ----------
    ids
        Customer ids.
    delivered
        Customer position, day and value of every line that reached the shop by the end.
    days
        Length of the data; realised figures are null where a window ends later.
    cutoffs
        Day numbers D.
    """
    parts: dict[str, list[FloatArray]] = {name: [] for name in _FIGURES}
    rows: list[IntArray] = []
    marks: list[tuple[int, int, int]] = []
    for cutoff in cutoffs:
        t0 = cutoff + 1
        known = latents.birth < t0
        last = np.zeros(len(latents))
        before = flows.order_time < t0
        np.maximum.at(last, flows.order_customer[before], flows.order_time[before])
        repeats = np.bincount(flows.order_customer[before], minlength=len(latents)) > 1
        last = np.where(known, last, t0)
        is_alive = known & (latents.death > t0)
        p_alive = alive_probability(latents, parameters, season, t0, last, repeats)
        ahead = expected_daily_orders(latents, parameters, season, t0, max(horizons), last)
        for horizon in horizons:
            orders, net = _expect_if_alive(latents, parameters, season, ahead, t0, horizon)
            orders_due, value_due = _expect_pending(latents, flows, parameters, t0, horizon)
            figures = {
                "is_alive": is_alive.astype(float),
                "p_alive": p_alive,
                "expected_orders": is_alive * orders + orders_due,
                "expected_value": is_alive * net + value_due,
                "expected_value_given_history": p_alive * net + value_due,
                **_realise(flows, delivered, len(latents), t0, horizon, days),
            }
            rows.append(np.flatnonzero(known))
            marks.append((cutoff, horizon, int(known.sum())))
            for name, figure in figures.items():
                parts[name].append(figure[known])
    counts = [mark[2] for mark in marks]
    values = {name: np.concatenate(part) if part else np.empty(0) for name, part in parts.items()}
    position = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    days64 = np.datetime64(start, "D") + np.array([mark[0] for mark in marks], dtype=np.int64)
    columns = {
        "customer_id": ids.take(pa.array(position)),
        "cutoff_date": pa.array(np.repeat(days64, counts), pa.date32()),
        "horizon_days": pa.array(np.repeat([mark[1] for mark in marks], counts), pa.int32()),
        "is_alive": pa.array(values.pop("is_alive") > 0),
    }
    columns |= {
        name: pa.array(figure, pa.float64(), from_pandas=True) for name, figure in values.items()
    }
    return pa.table(columns)


_FIGURES = (
    "is_alive",
    "p_alive",
    "expected_orders",
    "expected_value",
    "expected_value_given_history",
    "realised_orders",
    "realised_value",
    "delivered_value",
)


def _expect_if_alive(
    latents: Latents,
    parameters: ShopParameters,
    season: Season,
    ahead: FloatArray,
    t0: int,
    horizon: int,
) -> tuple[FloatArray, FloatArray]:
    """Return E[orders] and E[net value] in the window, given that the customer is there at t0."""
    left = np.arange(horizon - 1, -1, -1)
    kept = 1 - parameters.refund_share * refund_lag_cdf(left, parameters)
    orders = ahead[:, :horizon].sum(axis=1)
    net = ahead[:, :horizon] @ kept
    drawn = parameters.campaign_share * parameters.treated_share / RESPONSE_DAYS
    for day in campaign_days(parameters, t0 + horizon):
        if day < t0:
            continue
        if parameters.dropout == "geometric":
            gone = latents.rate * latents.dropout * (season.clock[day] - season.clock[t0])
        else:
            gone = latents.dropout * (day - t0)
        offsets = np.arange(day - t0, min(day - t0 + RESPONSE_DAYS, horizon))
        extra = drawn * latents.response * np.exp(-gone)
        orders = orders + extra * offsets.size
        net = net + extra * kept[offsets].sum()
    return orders, net * latents.mean_value


def _expect_pending(
    latents: Latents, flows: Flows, parameters: ShopParameters, t0: int, horizon: int
) -> tuple[FloatArray, FloatArray]:
    """Return what the past still brings: answers to campaigns just before t0, less refunds due."""
    count = len(latents)
    customer = np.concatenate([flows.order_customer, flows.extra_customer])
    day = np.concatenate([np.floor(flows.order_time).astype(np.int64), flows.extra_day])
    cents = np.concatenate([flows.order_cents, flows.extra_cents])
    past = day < t0
    customer, age, cents = customer[past], t0 - 1 - day[past], cents[past]
    due = refund_lag_cdf(age + horizon, parameters) - refund_lag_cdf(age, parameters)
    refunds = np.bincount(customer, parameters.refund_share * due * cents / 100, count)
    orders, net = np.zeros(count), np.negative(refunds)
    left = np.arange(horizon - 1, -1, -1)
    kept = 1 - parameters.refund_share * refund_lag_cdf(left, parameters)
    for campaign, sent in enumerate(campaign_days(parameters, t0)):
        offsets = np.arange(max(sent, t0), sent + RESPONSE_DAYS) - t0
        offsets = offsets[offsets < horizon]
        if sent + RESPONSE_DAYS <= t0 or campaign >= flows.treated.shape[1] or not offsets.size:
            continue
        there = flows.treated[:, campaign] & (latents.death > sent)
        chance = there * latents.response / RESPONSE_DAYS
        orders = orders + chance * offsets.size
        net = net + chance * kept[offsets].sum() * latents.mean_value
    return orders, net


def _realise(
    flows: Flows,
    delivered: tuple[IntArray, IntArray, FloatArray],
    count: int,
    t0: int,
    horizon: int,
    days: int,
) -> dict[str, FloatArray]:
    """Return what came to pass in the window; NaN where the data end before it does."""
    if t0 + horizon > days:
        missing = np.full(count, np.nan)
        return dict.fromkeys(("realised_orders", "realised_value", "delivered_value"), missing)

    def total(customer: IntArray, day: IntArray, value: FloatArray | None) -> FloatArray:
        inside = (day >= t0) & (day < t0 + horizon) & (customer >= 0)
        weights = None if value is None else value[inside]
        return np.bincount(customer[inside], weights, count).astype(float)

    order_day = np.floor(flows.order_time).astype(np.int64)
    orders = total(flows.order_customer, order_day, None) + total(
        flows.extra_customer, flows.extra_day, None
    )
    value = (
        total(flows.order_customer, order_day, flows.order_cents / 100)
        + total(flows.extra_customer, flows.extra_day, flows.extra_cents / 100)
        - total(flows.refund_customer, flows.refund_day, flows.refund_cents / 100)
    )
    return {
        "realised_orders": orders,
        "realised_value": value,
        "delivered_value": total(*delivered),
    }


def truth_of_customers(
    ids: pa.Array, latents: Latents, parameters: ShopParameters, start: date, days: int
) -> dict[str, pa.Array]:
    """Return the latent columns of truth/customers.parquet."""
    death = np.where(np.isfinite(latents.death), latents.death, -1)
    gone = np.datetime64(start, "D") + np.floor(np.clip(death, 0, 100_000)).astype(np.int64)
    is_rate = parameters.dropout != "geometric"
    other = pa.nulls(len(latents), pa.float64())
    first = np.datetime64(start, "D") + np.floor(latents.birth).astype(np.int64)
    return {
        "customer_id": ids,
        "first_order_date": pa.array(first, pa.date32()),
        "purchase_rate": pa.array(latents.rate),
        "dropout_rate": pa.array(latents.dropout) if is_rate else other,
        "dropout_probability": other if is_rate else pa.array(latents.dropout),
        "dropout_date": pa.array(gone, pa.date32(), mask=death < 0),
        "is_alive_at_end": pa.array(latents.death > days),
        "mean_order_value": pa.array(latents.mean_value),
        "is_giant": pa.array(latents.is_giant),
        "response_probability": pa.array(latents.response),
    }


def cutoff_days(start: date, days: int, cutoffs: Sequence[date] | None) -> tuple[int, ...]:
    """Return day numbers of the cutoffs; by default 365, 180, 90 and 0 days before the end.

    Raises
    ------
    ValueError
        If a cutoff lies outside the data.
    """
    if cutoffs is None:
        return tuple(days - 1 - back for back in (365, 180, 90, 0) if days - 1 - back >= 30)
    numbers = tuple((cutoff - start).days for cutoff in cutoffs)
    for cutoff, number in zip(cutoffs, numbers, strict=True):
        if not 0 <= number < days:
            raise ValueError(
                f"The cutoff {cutoff} lies outside the data, which run from {start} to "
                f"{day_of(start, days - 1)}: name a day between."
            )
    return numbers
