"""Random histories with everything that goes wrong: late, repeated, restated, refunded, merged."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

FIRST_DAY = date(2023, 1, 1)
# Part one is delivered and known by the end of this day, part two becomes known after it.
SPLIT = date(2023, 9, 30)
LAST_DAY = date(2024, 2, 29)
TIME_ZONE = "America/New_York"


def random_shop(seed: int, customers: int) -> dict[str, pd.DataFrame]:
    """Make rows for the raw tables; `_file_id` 1 and 2 are part one, 3 and later are part two."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(customers):
        user = None if random.random() < 0.05 else f"user {number}"
        for order in range(int(random.integers(0, 9))):
            _add_order(rows, random, user, f"order {number}/{order}", customers)
    transactions = pd.DataFrame(rows)
    transactions["_file_id"] = _files(transactions, random)
    # An order that was delivered in one file may be delivered again, as it is, in a later one.
    repeated = transactions.sample(frac=0.05, random_state=seed)
    repeated = repeated[repeated["transaction_id"].notna()].assign(_file_id=5)
    whole = transactions["transaction_id"].isin(repeated["transaction_id"])
    transactions = pd.concat([transactions, transactions[whole].assign(_file_id=5)])
    transactions["_row_number"] = transactions.groupby("_file_id").cumcount() + 1
    return {
        "transactions": transactions.reset_index(drop=True),
        "users": _users(random, customers),
        "events": _events(random, customers),
        "account_merges": _merges(random, customers),
        "exchange_rates": _rates(random),
    }


def part_one(shop: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the rows that were delivered by the split."""
    return {name: frame[frame["_file_id"] <= 2] for name, frame in shop.items()}


def part_two(shop: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the rows that were delivered later; all became known after the split."""
    return {name: frame[frame["_file_id"] > 2] for name, frame in shop.items()}


def _instant(random: np.random.Generator, day: date) -> pd.Timestamp:
    return pd.Timestamp(day) + pd.Timedelta(seconds=int(random.integers(0, 86_400)))


def _random_day(random: np.random.Generator) -> date:
    return FIRST_DAY + timedelta(days=int(random.integers(0, (LAST_DAY - FIRST_DAY).days)))


def _add_order(
    rows: list[dict[str, Any]],
    random: np.random.Generator,
    user: str | None,
    name: str,
    customers: int,
) -> None:
    ts = _instant(random, _random_day(random))
    has_id = random.random() < 0.85
    # Known at once, or 0 to 200 days late.
    late = random.random() < 0.5
    ingested = ts + pd.Timedelta(days=float(random.choice([0.2, 1, 3, 30, 200]))) if late else None
    currency = random.choice(np.array([None, "EUR", "USD"], dtype=object))
    line = {
        "transaction_id": name if has_id else None,
        "user_id": user,
        "ts": ts,
        "currency": currency,
        "is_refund": False,
        "country": "US",
        "channel": "web",
        "ingested_at": ingested,
    }
    lines = [
        {
            **line,
            "ts": ts + pd.Timedelta(hours=3 * k),
            "amount": round(float(random.lognormal(3, 1)), 2),
            "sku": random.choice(np.array([None, "apple", "pear", "plum"], dtype=object)),
        }
        for k in range(int(random.integers(1, 4)))
    ]
    rows += lines
    if has_id and random.random() < 0.2:
        # Restated: one line gone, the other's amount new, sometimes on another account or day.
        again = lines[0] | {
            "amount": round(float(random.lognormal(3, 1)), 2),
            "ingested_at": (ingested or ts)
            + pd.Timedelta(days=float(random.choice([0.01, 9, 90]))),
        }
        if user is not None and random.random() < 0.2:
            again["user_id"] = f"user {int(random.integers(0, customers))}"
        if random.random() < 0.2:
            again["ts"] = ts - pd.Timedelta(days=2)
        rows.append(again)
    for _ in range(int(random.choice([0, 0, 0, 1, 2]))):
        back = ts + pd.Timedelta(days=float(random.choice([-1, 0.01, 5, 40])))
        rows.append(
            {
                **line,
                "transaction_id": name if random.random() < 0.8 else f"refund of {name}",
                "ts": back,
                "amount": round(float(random.choice([-1, 1]) * random.lognormal(2, 1)), 2),
                "is_refund": True,
                "sku": None,
                "ingested_at": None if ingested is None else max(ingested, back),
            }
        )


def _local_day(instants: pd.Series[Any]) -> pd.Series[Any]:
    stamps = pd.to_datetime(instants)
    return stamps.dt.tz_localize("UTC").dt.tz_convert(TIME_ZONE).dt.date


def _files(transactions: pd.DataFrame, random: np.random.Generator) -> pd.Series[Any]:
    ingested = pd.to_datetime(transactions["ingested_at"])
    day = _local_day(ingested).where(ingested.notna(), _local_day(transactions["ts"]))
    # A version of an order is one delivery; without ingested_at it is known with its first line.
    key = transactions["transaction_id"].fillna(pd.Series(transactions.index.astype(str)))
    key = key.where(~transactions["is_refund"], key + transactions["ts"].astype(str))
    stamp = pd.to_datetime(transactions["ingested_at"]).fillna(pd.Timestamp(0))
    early = pd.Series(day).groupby([key, stamp]).transform("min") <= SPLIT
    first = pd.Series(random.integers(1, 3, len(transactions)))
    per_version = first.groupby([key, stamp]).transform("first")
    return per_version.where(early, per_version + 2)


def _users(random: np.random.Generator, customers: int) -> pd.DataFrame:
    rows = []
    for number in range(0, customers, 2):
        signup = _instant(random, _random_day(random)) if random.random() < 0.9 else None
        versions = int(random.integers(1, 4))
        for version in range(versions):
            updated = None
            if version or random.random() < 0.5:
                updated = (signup or pd.Timestamp(FIRST_DAY)) + pd.Timedelta(days=60 * version)
            rows.append(
                {
                    "user_id": f"user {number}",
                    "signup_ts": signup,
                    "updated_at": updated,
                    "country": f"country {version}",
                    "gender": "female",
                    "birth_year": 1980.0,
                }
            )
    frame = pd.DataFrame(rows)
    start = pd.to_datetime(frame["updated_at"]).fillna(pd.to_datetime(frame["signup_ts"]))
    early = start.isna() | (_local_day(start.fillna(pd.Timestamp(0))) <= SPLIT)
    # Further versions of one person stay in order within a file.
    return frame.assign(_file_id=np.where(early, 1, 3), _row_number=range(1, len(frame) + 1))


def _events(random: np.random.Generator, customers: int) -> pd.DataFrame:
    rows = []
    for number in range(customers):
        for visit in range(int(random.integers(0, 4))):
            start = _instant(random, _random_day(random))
            for step in range(int(random.integers(1, 5))):
                late = random.random() < 0.3
                rows.append(
                    {
                        "user_id": f"user {number}",
                        "ts": start + pd.Timedelta(minutes=step),
                        "event_name": str(
                            random.choice(["page_view", "add_to_cart", "purchase", "search"])
                        ),
                        "session_id": f"visit {number}/{visit}",
                        "ingested_at": start + pd.Timedelta(days=7) if late else None,
                    }
                )
    frame = pd.DataFrame(rows)
    frame["ingested_at"] = pd.to_datetime(frame["ingested_at"])
    early = _local_day(frame["ingested_at"].fillna(frame["ts"])) <= SPLIT
    return frame.assign(_file_id=np.where(early, 1, 3), _row_number=range(1, len(frame) + 1))


def _merges(random: np.random.Generator, customers: int) -> pd.DataFrame:
    rows = []
    for number in range(0, customers - 3, 6):
        # Always into a greater number, so that no circle comes up; some are split off again.
        day = _random_day(random)
        rows.append((f"user {number}", f"user {number + 1}", day))
        if random.random() < 0.5:
            rows.append((f"user {number + 1}", f"user {number + 3}", _random_day(random)))
        if random.random() < 0.5:
            rows.append((f"user {number}", f"user {number}", day + timedelta(days=50)))
    frame = pd.DataFrame(rows, columns=["old_user_id", "new_user_id", "day"])
    early = frame["day"] <= SPLIT
    frame = frame.assign(
        ts=pd.to_datetime(frame["day"]) + pd.Timedelta(hours=15),
        _file_id=np.where(early, 1, 3),
        _row_number=range(1, len(frame) + 1),
    )
    return frame.drop(columns="day")


def _rates(random: np.random.Generator) -> pd.DataFrame:
    rows = []
    for offset in range(-10, (LAST_DAY - FIRST_DAY).days + 60):
        day = FIRST_DAY + timedelta(days=offset)
        # Lines of an order may lie a day after its first one, so their rates come with it.
        rows.append((day, None, 1 if day <= SPLIT + timedelta(days=2) else 3))
        if random.random() < 0.1:
            known = day + timedelta(days=int(random.choice([0, 2, 60])))
            rows.append(
                (day, pd.Timestamp(known) + pd.Timedelta(hours=16), 2 if known <= SPLIT else 4)
            )
    frame = pd.DataFrame(rows, columns=["day", "known_at", "_file_id"])
    return frame.assign(
        currency="USD",
        rate=0.8 + 0.2 * random.random(len(frame)),
        _row_number=range(1, len(frame) + 1),
    )
