"""Orders, refunds and their accidents: the lines of the simulated shop's transactions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from clv_pipeline.ingest.shop.market import (
    CHANNEL_SHARES,
    COUNTRY_SHARES,
    CURRENCY_OF_COUNTRY,
    TEST_CHANNEL,
    Market,
    pick,
    random_stream,
)
from clv_pipeline.ingest.shop.parameters import ShopParameters
from clv_pipeline.ingest.shop.process import (
    FloatArray,
    IntArray,
    Latents,
    Season,
    campaign_days,
    draw_order_values,
    draw_purchases,
)
from clv_pipeline.ingest.shop.truth import RESPONSE_DAYS, Flows

Columns = dict[str, npt.NDArray[Any]]

GUEST = -1
TEST_ACCOUNT = -2
ORPHAN = 9_000_000
"""Refunds without an order carry ids from here on within their chunk."""


@dataclass(frozen=True)
class Sales:
    """All that was sold to a chunk of customers.

    Attributes
    ----------
    latents
        With the deaths that the orders decided.
    flows
        What truly happened, without accidents.
    orders
        One entry per order, by time: customer, day, second, cents, country, channel, is_refunded.
    lines
        One entry per line that is delivered: order, customer, day, second, cents (in its
        currency, negative for refunds), currency, channel, sku, quantity, country, is_refund,
        cost, known_day, known_second.
    value
        Per line, what it is worth in the reporting currency at the rate of its day, 0 for lines
        that a later version replaces.
    selected
        (customer, campaign): 0 not drawn, 1 control, 2 treated.
    planted
        How often each accident was planted.
    """

    latents: Latents
    flows: Flows
    orders: Columns
    lines: Columns
    value: FloatArray
    selected: npt.NDArray[np.int8]
    planted: dict[str, int]


def draw_sales(
    seed: int,
    chunk: int,
    latents: Latents,
    countries: tuple[IntArray, FloatArray, IntArray],
    parameters: ShopParameters,
    market: Market,
    season: Season,
    days: int,
    count_test_orders: int,
) -> Sales:
    """Draw all orders and refunds of a chunk of buyers, and of its guests.

    Parameters
    ----------
    countries
        Country of each buyer, the day on which it moves (infinite: never), the country after that.
    count_test_orders
        Test orders to add.
    """
    rng = random_stream(seed, "purchases", chunk)
    customer, time, death = draw_purchases(rng, latents, parameters, season, days)
    latents = replace(latents, death=death)
    cents = draw_order_values(rng, latents.mean_value[customer], parameters)
    selected, extra = _draw_campaigns(
        random_stream(seed, "campaigns", chunk), latents, parameters, days
    )
    rng = random_stream(seed, "extras", chunk)
    extra_customer, extra_day = extra
    extra_cents = draw_order_values(rng, latents.mean_value[extra_customer], parameters)
    count_guests = rng.poisson(
        customer.size * parameters.guest_share / (1 - parameters.guest_share)
    )
    guest_mean = latents.mean_value[rng.integers(0, max(len(latents), 1), count_guests)]
    guest_time = season.time(rng.random(count_guests) * season.clock[days])
    count_zero = rng.binomial(customer.size, parameters.zero_share)
    zero = rng.integers(0, max(customer.size, 1), count_zero)
    pieces = (
        (customer, np.floor(time).astype(np.int64), cents),
        (extra_customer, extra_day, extra_cents),
        (
            np.full(count_guests, GUEST),
            np.minimum(guest_time.astype(np.int64), days - 1),
            draw_order_values(rng, guest_mean, parameters),
        ),
        (customer[zero], np.floor(time[zero]).astype(np.int64), np.zeros(count_zero, np.int64)),
        (
            np.full(count_test_orders, TEST_ACCOUNT),
            rng.integers(0, days, count_test_orders),
            np.full(count_test_orders, 999_900),
        ),
    )
    whose, day, value = (np.concatenate([piece[k] for piece in pieces]) for k in range(3))
    kind = np.repeat(np.arange(len(pieces)), [piece[0].size for piece in pieces])
    second = draw_seconds(rng, day.size)
    order = np.lexsort((second, day))
    whose, day, value, kind, second = (a[order] for a in (whose, day, value, kind, second))
    home, moves, abroad = countries
    own = np.maximum(whose, 0)
    country = np.where(whose >= 0, np.where(day >= moves[own], abroad[own], home[own]), 0)
    country = np.where(whose == GUEST, pick(rng, COUNTRY_SHARES, day.size), country)
    channel = pick(rng, CHANNEL_SHARES, day.size)
    orders: Columns = {
        "customer": whose,
        "day": day,
        "second": second,
        "cents": value,
        "country": country,
        "channel": np.where(kind == 4, TEST_CHANNEL, channel),
        "kind": kind,
    }
    lines = _order_lines(random_stream(seed, "baskets", chunk), orders, market)
    planted = {
        "zero_amount_orders": count_zero,
        "test_orders": count_test_orders,
        "guest_orders": int(count_guests),
    }
    refunds, true_refunds = _draw_refunds(
        random_stream(seed, "refunds", chunk), orders, lines, parameters, market, days, planted
    )
    lines, value_of_line = _deliver(
        random_stream(seed, "delivery", chunk), orders, lines, refunds, parameters, market, planted
    )
    flows = Flows(customer, time, cents, extra_customer, extra_day, extra_cents, *true_refunds,
                  treated=selected == 2)  # fmt: skip
    orders["is_refunded"] = np.isin(np.arange(day.size), refunds["order"])
    return Sales(latents, flows, orders, lines, value_of_line, selected, planted)


def draw_seconds(rng: np.random.Generator, count: int) -> IntArray:
    """Draw the second of the day: half of it around lunch, half in the evening."""
    evening = rng.random(count) < 0.5
    hour = np.where(evening, 20 + 1.8 * rng.standard_normal(count), 0)
    hour = np.where(evening, hour, 13 + 3.2 * rng.standard_normal(count))
    return (hour * 3600).astype(np.int64) % 86_400


def _draw_campaigns(
    rng: np.random.Generator, latents: Latents, parameters: ShopParameters, days: int
) -> tuple[npt.NDArray[np.int8], tuple[IntArray, IntArray]]:
    """Draw who is drawn, who is treated, and the orders that this brings within a week."""
    calendar = campaign_days(parameters, days)
    shape = (len(latents), calendar.size)
    drawn = rng.random(shape) < parameters.campaign_share
    treated = rng.random(shape) < parameters.treated_share
    drawn &= latents.birth[:, None] < calendar
    answers = drawn & treated & (latents.death[:, None] > calendar)
    answers &= rng.random(shape) < latents.response[:, None]
    customer, campaign = np.nonzero(answers)
    day = calendar[campaign] + rng.integers(0, RESPONSE_DAYS, customer.size)
    inside = day < days
    selected = np.where(drawn, np.where(treated, 2, 1), 0).astype(np.int8)
    return selected, (customer[inside], day[inside])


def _order_lines(rng: np.random.Generator, orders: Columns, market: Market) -> Columns:
    """Split orders into lines in the currency of their country."""
    order, euro, sku, quantity, cost = market.basket_lines(rng, orders["cents"])
    euro = np.where(orders["cents"][order] == 0, 0, euro)
    lines: Columns = {name: orders[name][order] for name in ("customer", "day", "second")}
    lines |= {name: orders[name][order] for name in ("country", "channel")}
    currency = CURRENCY_OF_COUNTRY[lines["country"]]
    rate = market.rates[currency, lines["day"]]
    cents = np.rint(euro / rate).astype(np.int64)
    return lines | {
        "order": order,
        "currency": currency,
        "cents": np.where(euro > 0, np.maximum(cents, 1), 0),
        "sku": sku,
        "quantity": quantity,
        "cost": np.rint(cost / rate).astype(np.int64),
        "is_refund": np.zeros(order.size, dtype=bool),
    }


def _draw_refunds(
    rng: np.random.Generator,
    orders: Columns,
    lines: Columns,
    parameters: ShopParameters,
    market: Market,
    days: int,
    planted: dict[str, int],
) -> tuple[Columns, tuple[IntArray, IntArray, IntArray]]:
    """Draw refund lines with their accidents, and the true refunds of customers in euro cents."""
    count = orders["day"].size
    draw = rng.random(count)
    full = draw < parameters.full_refund_share
    partial = ~full & (draw < parameters.full_refund_share + parameters.partial_refund_share)
    can = (orders["kind"] <= 2) & (orders["cents"] > 0)
    full, partial = full & can, partial & can
    share = np.where(full, 1.0, rng.uniform(0.1, 0.9, count))
    day = orders["day"] + rng.geometric(1 / parameters.refund_lag_days, count)
    known = (full | partial) & (day < days)
    whole = np.flatnonzero(known[lines["order"]] & full[lines["order"]])
    first = np.flatnonzero(np.diff(lines["order"], prepend=-1) > 0)
    part = first[known[lines["order"][first]] & partial[lines["order"][first]]]
    total = np.bincount(lines["order"], lines["cents"], count)
    rows = np.concatenate([whole, part])
    refunds: Columns = {name: column[rows].copy() for name, column in lines.items()}
    order = refunds["order"]
    is_part = np.arange(rows.size) >= whole.size
    paid_back = np.rint(np.where(is_part, share[order] * total[order], refunds["cents"]))
    refunds["quantity"] = np.where(is_part, 1, refunds["quantity"])
    refunds["day"] = day[order]
    refunds["second"] = draw_seconds(rng, count)[order]

    euro = np.rint(share * orders["cents"]).astype(np.int64)
    truly = known & (orders["customer"] >= 0)
    true_refunds = (orders["customer"][truly], day[truly], euro[truly])

    # Accidents touch what the files say, not what happened.
    odd = rng.random(count) < 3 * parameters.odd_refund_share
    which = rng.integers(0, 3, count)
    early = (odd & (which == 0) & (orders["day"] >= 2))[order]
    oversized = (odd & (which == 1))[order] & is_part
    twice = (odd & (which == 2))[order] & (refunds["day"] < days - 1)
    refunds["day"] = np.where(early, orders["day"][order] - 2, refunds["day"])
    paid_back = np.where(oversized, np.rint(1.3 * total[order]), paid_back)
    # Paid back at the rate of the refund's day, so that a full refund cancels the order's value.
    before = market.rates[refunds["currency"], orders["day"][order]]
    now = market.rates[refunds["currency"], refunds["day"]]
    refunds["cents"] = -np.maximum(np.rint(paid_back * before / now), 1).astype(np.int64)
    refunds["cost"] = np.zeros(rows.size, dtype=np.int64)
    refunds["is_refund"] = np.ones(rows.size, dtype=bool)

    again = {name: column[twice] for name, column in refunds.items()}
    again["day"] = again["day"] + 1
    orphans = np.flatnonzero((rng.random(count) < parameters.orphan_refund_share) & can)
    lost = {name: column[first[orphans]].copy() for name, column in lines.items()}
    lost["order"] = ORPHAN + np.arange(orphans.size)
    lost["cents"] = -rng.integers(500, 5_000, orphans.size)
    lost["cost"] = np.zeros(orphans.size, dtype=np.int64)
    lost["is_refund"] = np.ones(orphans.size, dtype=bool)
    planted["refunds_before_their_order"] = int(np.unique(order[early]).size)
    planted["refunds_larger_than_their_order"] = int(oversized.sum())
    planted["refunds_booked_twice"] = int(np.unique(order[twice]).size)
    planted["refunds_without_an_order"] = int(orphans.size)
    return _stack(refunds, again, lost), true_refunds


def _deliver(
    rng: np.random.Generator,
    orders: Columns,
    lines: Columns,
    refunds: Columns,
    parameters: ShopParameters,
    market: Market,
    planted: dict[str, int],
) -> tuple[Columns, FloatArray]:
    """Set when each line became known, restate some orders, drop what is not yet delivered."""
    count, days = orders["day"].size, market.rates.shape[1]
    late_days = np.array([0, *(late for late, _ in parameters.late_shares)])
    shares = [share for _, share in parameters.late_shares]
    late = late_days[pick(rng, [1 - sum(shares), *shares], count)]
    minutes = rng.integers(1, 20, count) * 60
    correction = rng.integers(2, 21, count)
    restated = (rng.random(count) < parameters.restated_share) & (late == 0)
    restated &= (orders["day"] + correction < days) & (orders["cents"] > 0)
    factor = rng.uniform(0.5, 1.5, count)

    order = lines["order"]
    newest = dict(lines)
    shift = np.where(restated, correction, late)
    newest["known_day"] = lines["day"] + shift[order]
    newest["known_second"] = np.minimum(lines["second"] + minutes[order], 86_399)
    again = restated[order]
    older = {name: column[again].copy() for name, column in newest.items()}
    older["known_day"] = older["day"]
    changed = np.rint(older["cents"] * factor[older["order"]]).astype(np.int64)
    older["cents"] = np.maximum(changed, 1)
    refunds = dict(refunds)
    refunds["known_day"] = refunds["day"]
    refunds["known_second"] = np.minimum(refunds["second"] + 600, 86_399)
    everything = _stack(newest, older, refunds)
    replaced = np.zeros(everything["day"].size, dtype=bool)
    replaced[newest["day"].size : newest["day"].size + older["day"].size] = True
    inside = everything["known_day"] < days
    by_time = np.lexsort((everything["order"], everything["known_second"], everything["known_day"]))
    by_time = by_time[inside[by_time]]
    everything = {name: column[by_time] for name, column in everything.items()}
    rate = market.known_rates()[everything["currency"], everything["day"]]
    value = np.where(replaced[by_time], 0.0, everything["cents"] * rate / 100)
    planted["restated_orders"] = int(restated.sum())
    for days_late, _ in parameters.late_shares:
        reached = (late == days_late) & (orders["day"] + days_late < days)
        planted[f"orders_{days_late}_days_late"] = int(reached.sum())
    planted["orders_not_yet_delivered"] = int((orders["day"] + late >= days).sum())
    return everything, value


def _stack(*parts: Columns) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
