"""Accounts of the simulated shop, what they do on its site, and what they write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clv_pipeline.ingest.shop.columns import (
    Clock,
    account_ids,
    coded_text,
    numbered_ids,
    optional_flags,
)
from clv_pipeline.ingest.shop.market import (
    COUNTRIES,
    COUNTRY_SHARES,
    SOURCES,
    pick,
    random_stream,
)
from clv_pipeline.ingest.shop.orders import Columns, Sales, draw_seconds
from clv_pipeline.ingest.shop.parameters import ShopParameters
from clv_pipeline.ingest.shop.process import BoolArray, FloatArray, IntArray, Latents

DEVICES = ("mobile", "desktop", "tablet")
GENDERS = ("female", "male", "diverse")
LANGUAGES = ("de", "en", "fr", "nl", "pl")
_SOURCES_OF_FEW = (0.26, 0.26, 0.24, 0.06, 0.06, 0.12)
_SOURCES_OF_MANY = (0.34, 0.12, 0.10, 0.24, 0.14, 0.06)
_NO_CHANGE, _MOVE, _CONSENT, _DEVICE = range(4)


@dataclass(frozen=True)
class People:
    """The accounts of a chunk: buyers first, then those who never order.

    Attributes
    ----------
    count_buyers
        The first so many are buyers, in the order of their latents.
    number
        Account numbers; the second account of a person is one more.
    signup_day, signup_second
        When the (first) account was opened; may lie before the data.
    country, country_after, change, change_day
        Where they live, where they live after a move, what changes for them and when.
    source, device, birth_year, gender, language
        Attributes; gender -1 is not stated.
    has_email_consent, has_profiling_consent, has_loyalty_card
        Flags.
    switch_day, merge_day
        Day on which a buyer starts to use a second account, and on which the two are merged;
        -1 for all others.
    """

    count_buyers: int
    number: IntArray
    signup_day: IntArray
    signup_second: IntArray
    country: IntArray
    country_after: IntArray
    change: IntArray
    change_day: IntArray
    source: IntArray
    device: IntArray
    birth_year: IntArray
    gender: IntArray
    language: IntArray
    has_email_consent: BoolArray
    has_profiling_consent: BoolArray
    has_loyalty_card: BoolArray
    switch_day: IntArray
    merge_day: IntArray

    @property
    def countries(self) -> tuple[IntArray, FloatArray, IntArray]:
        """Country of each buyer, the day of a move (infinite: none) and the country after it."""
        n = self.count_buyers
        moves = np.where(self.change == _MOVE, self.change_day, np.inf)
        return self.country[:n], moves[:n], self.country_after[:n]

    def account(self, person: IntArray, day: IntArray) -> IntArray:
        """Return the account that a person uses on a day (the first one before ``switch_day``)."""
        return self.number[person] + (day < self.switch_day[person])


def draw_people(
    seed: int, chunk: int, chunk_size: int, latents: Latents, parameters: ShopParameters, days: int
) -> People:
    """Draw the accounts of a chunk."""
    rng = random_stream(seed, "people", chunk)
    buyers = len(latents)
    count = buyers + round(parameters.never_share * buyers)
    opened = np.concatenate([latents.birth, days * rng.random(count - buyers)]).astype(np.int64)
    lag = np.where(rng.random(count) < 0.7, 0, rng.exponential(10, count)).astype(np.int64)
    # Good customers come more often from some channels; the channel itself changes nothing.
    worth = np.concatenate([latents.rate * latents.mean_value, np.zeros(count - buyers)])
    rank = np.argsort(np.argsort(worth)) / max(count, 1)
    many = rng.random(count) < rank
    source = np.where(many, pick(rng, _SOURCES_OF_MANY, count), pick(rng, _SOURCES_OF_FEW, count))
    change = pick(rng, (0.84, 0.03, 0.05, 0.08), count)
    change_day = opened + 1 + (rng.random(count) * (days - opened)).astype(np.int64)
    merges = (rng.random(count) < parameters.merge_share) & (np.arange(count) < buyers)
    switch = opened + 1 + (rng.random(count) * 0.5 * (days - opened)).astype(np.int64)
    merge = switch + rng.integers(5, 60, count)
    merges &= merge < days
    change = np.where(merges | (change_day >= days), _NO_CHANGE, change)
    return People(
        count_buyers=buyers,
        number=10 * (1 + 2 * chunk * chunk_size + np.arange(count)),
        signup_day=opened - lag,
        signup_second=np.where(lag > 0, draw_seconds(rng, count), 0),
        country=pick(rng, COUNTRY_SHARES, count),
        country_after=pick(rng, COUNTRY_SHARES, count),
        change=change,
        change_day=change_day,
        source=source,
        device=pick(rng, (0.58, 0.34, 0.08), count),
        birth_year=np.clip(np.rint(rng.normal(1981, 13, count)), 1935, 2005).astype(np.int64),
        gender=pick(rng, (0.47, 0.40, 0.02, 0.11), count),
        language=pick(rng, (0.55, 0.2, 0.15, 0.06, 0.04), count),
        has_email_consent=rng.random(count) < 0.62,
        has_profiling_consent=rng.random(count) < 0.71,
        has_loyalty_card=rng.random(count) < 0.2,
        switch_day=np.where(merges, switch, -1),
        merge_day=np.where(merges, merge, -1),
    )


def user_rows(people: People, clock: Clock) -> pa.Table:
    """Return users: each account as opened, and the version after its change, by updated_at."""
    everyone = np.arange(people.number.size)
    second_account = np.flatnonzero(people.switch_day >= 0)
    changed = np.flatnonzero(people.change != _NO_CHANGE)
    who = np.concatenate([everyone, second_account, changed])
    part = np.repeat([0, 1, 2], [everyone.size, second_account.size, changed.size])
    has_first_account = (part == 0) & (people.switch_day[who] >= 0)
    number = people.number[who] + has_first_account
    signup_day = np.where(part == 1, people.switch_day[who], people.signup_day[who])
    signup_second = np.where(part == 1, 0, people.signup_second[who])
    after = part == 2
    day = np.where(after, people.change_day[who], signup_day)
    second = np.where(after, 43_200, signup_second)
    change = np.where(after, people.change[who], _NO_CHANGE)
    order = np.lexsort((number, second, day))
    who, number, change = who[order], number[order], change[order]
    country = np.where(change == _MOVE, people.country_after[who], people.country[who])
    device = np.where(change == _DEVICE, (people.device[who] + 1) % 3, people.device[who])
    consents = change != _CONSENT
    gender = people.gender[who]
    return pa.table(
        {
            "user_id": account_ids(number),
            "signup_ts": clock.instants(signup_day[order], signup_second[order]),
            "country": coded_text(COUNTRIES, country),
            "device": coded_text(DEVICES, device),
            "acquisition_source": coded_text(SOURCES, people.source[who]),
            "birth_year": pa.array(people.birth_year[who]),
            "gender": coded_text(GENDERS, np.where(gender < len(GENDERS), gender, -1)),
            "has_email_consent": pa.array(people.has_email_consent[who] & consents),
            "has_profiling_consent": optional_flags(
                people.has_profiling_consent[who] & consents, people.birth_year[who] % 17 == 0
            ),
            "updated_at": clock.instants(day[order], second[order]),
            "language": coded_text(LANGUAGES, people.language[who]),
            "has_loyalty_card": pa.array(people.has_loyalty_card[who]),
        }
    )


_EVENT_NAMES = (
    "session_start",
    "page_view",
    "search",
    "add_to_cart",
    "checkout",
    "purchase",
    "campaign_click",
)
_BROWSING = ((0, 1), (0, 1, 1, 1), (0, 2, 1, 1), (0, 1, 3), (0, 1, 1, 3, 4))
_BUYING = ((0, 1, 3, 4, 5), (0, 2, 1, 1, 3, 4, 5), (0, 1, 1, 1, 3, 3, 4, 5), (0, 6, 1, 3, 4, 5))
_VISITS = _BROWSING + _BUYING
_PAGES = ('{"page":"home"}', '{"page":"category"}', '{"page":"product"}', '{"page":"sale"}')


def event_rows(
    seed: int, chunk: int, people: People, sales: Sales, clock: Clock, days: int
) -> tuple[pa.Table, IntArray]:
    """Return events and the day of each: visits that end in an order, and visits that do not."""
    rng = random_stream(seed, "events", chunk)
    orders = sales.orders
    online = np.flatnonzero((orders["customer"] >= 0) & (orders["channel"] < 2))
    buying = orders["customer"][online], orders["day"][online], orders["second"][online]
    looked = np.repeat(online, rng.poisson(0.9, online.size))
    before = orders["day"][looked] - rng.exponential(6, looked.size).astype(np.int64)
    n = people.count_buyers
    leaves = np.full(people.number.size, days)
    leaves[:n] = np.minimum(sales.latents.death, days).astype(np.int64)
    mean = np.where(np.arange(people.number.size) < n, 1.0, 2.5)
    idle = np.repeat(np.arange(people.number.size), rng.poisson(mean))
    since = people.signup_day[idle]
    idle_day = since + (rng.random(idle.size) * (leaves[idle] - since)).astype(np.int64)
    looking = np.concatenate([orders["customer"][looked], idle])
    looking_day = np.concatenate([before, idle_day])
    opened = people.signup_day[looking] + (people.signup_second[looking] > 0)
    fine = (looking_day >= np.maximum(opened, 0)) & (looking_day < days)
    looking, looking_day = looking[fine], looking_day[fine]
    person = np.concatenate([buying[0], looking])
    day = np.concatenate([buying[1], looking_day])
    end = np.concatenate([buying[2], draw_seconds(rng, looking.size)])
    visit = np.concatenate(
        [
            len(_BROWSING) + rng.integers(0, len(_BUYING), online.size),
            pick(rng, (0.3, 0.25, 0.15, 0.2, 0.1), looking.size),
        ]
    )
    by_time = np.lexsort((end, day))
    person, day, end, visit = (a[by_time] for a in (person, day, end, visit))

    lengths = np.array([len(steps) for steps in _VISITS])
    flat = np.concatenate([np.array(steps) for steps in _VISITS])
    size = lengths[visit]
    row = np.repeat(np.arange(visit.size), size)
    step = np.arange(row.size) - np.repeat(np.cumsum(size) - size, size)
    name = flat[(np.cumsum(lengths) - lengths)[visit[row]] + step]
    second = np.maximum(end[row] - 40 * (size[row] - 1 - step), 0)
    page = np.where(name == 1, rng.integers(0, len(_PAGES), row.size), -1)
    table = pa.table(
        {
            "user_id": account_ids(people.account(person[row], day[row])),
            "ts": clock.instants(day[row], second),
            "event_name": coded_text(_EVENT_NAMES, name),
            "session_id": numbered_ids("S", chunk * 10**8 + row, 12),
            "metadata_json": coded_text(_PAGES, page),
            "ingested_at": clock.instants(day[row], np.minimum(second + 60, 86_399)),
        }
    )
    return table, day[row]


_PRAISE = (
    "Arrived quickly, just as described. Would buy again!",
    "Sehr gute Qualität, gerne wieder.",
    "Très satisfaite, merci à l'équipe 😊",
    "Good value; the colour is even nicer than in the picture.",
)
_COMPLAINTS = (
    "The parcel was damaged and nobody answers my mails.",
    'Leider defekt angekommen, "Geld zurück" bitte!',
    "Trop petit, je l'ai renvoyé.",
    "Wrong size twice now.\nI want my money back.",
)
_TEXTS = _PRAISE + _COMPLAINTS
_TEXT_KINDS = ("review", "ticket", "survey", "social")


def text_rows(
    seed: int,
    chunk: int,
    people: People,
    sales: Sales,
    clock: Clock,
    parameters: ShopParameters,
    days: int,
) -> pa.Table:
    """Return texts: reviews of some orders, and tickets of some that are refunded."""
    rng = random_stream(seed, "texts", chunk)
    orders: Columns = sales.orders
    count = orders["day"].size
    refunded = orders["is_refunded"]
    share = np.where(refunded, 0.4, parameters.review_share)
    day = orders["day"] + rng.integers(2, 15, count)
    writes = (orders["customer"] >= 0) & (rng.random(count) < share) & (day < days)
    chosen = np.flatnonzero(writes)
    chosen = chosen[np.argsort(day[chosen], kind="stable")]
    unhappy = rng.random(count)[chosen] < np.where(refunded[chosen], 0.9, 0.12)
    words = rng.integers(0, len(_PRAISE), chosen.size) + np.where(unhappy, len(_PRAISE), 0)
    usual = pick(rng, (0.8, 0.0, 0.12, 0.08), chosen.size)
    kind = np.where(refunded[chosen] & unhappy, 1, usual)
    second = draw_seconds(rng, chosen.size)
    account = people.account(orders["customer"][chosen], day[chosen])
    return pa.table(
        {
            "user_id": account_ids(account),
            "ts": clock.instants(day[chosen], second),
            "kind": coded_text(_TEXT_KINDS, kind),
            "text": coded_text(_TEXTS, words),
            "ingested_at": clock.instants(day[chosen], np.minimum(second + 60, 86_399)),
        }
    )
