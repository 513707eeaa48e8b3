"""What the SQL should say, worked out customer by customer in plain Python.

It shares no step with the SQL: instead of differences per day of knowledge it looks, for each
cutoff, at the landed rows that were known then and picks the newest version of each order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

Row = Mapping[str, Any]
WINDOWS = (7, 30, 90, 180, 365)


@dataclass(frozen=True)
class Line:
    """A line of an order or refund as it was known at some cutoff."""

    account: str
    day: date
    known: date
    value: Decimal
    is_refund: bool
    is_first: bool
    sku: str | None


def missing(value: Any) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


class Oracle:
    """The raw rows, and what was known of them when."""

    def __init__(
        self, raw: Mapping[str, pd.DataFrame], time_zone: str, reporting_currency: str
    ) -> None:
        def rows(name: str) -> list[dict[str, Any]]:
            frame = raw.get(name)
            return [] if frame is None else frame.astype(object).to_dict("records")

        self.zone = ZoneInfo(time_zone)
        self.reporting = reporting_currency
        self.transactions = rows("transactions")
        self.users = rows("users")
        self.merges = rows("account_merges")
        self.rates = rows("exchange_rates")
        self.events = rows("events")
        self.rates_of_day: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for row in self.rates:
            self.rates_of_day[pd.Timestamp(row["day"]).date(), row["currency"]].append(row)
        self.versions = self._versions()
        # A test asks the same of several tables.
        self.lines_known_by = cache(self._lines_known_by)
        self.spine = cache(self._spine)
        self.day_of = cache(self._day_of)

    def _versions(self) -> list[dict[Any, list[dict[str, Any]]]]:
        """Return the versions of each order or refund, by (ingested_at, file), with their rows."""
        groups: dict[Any, dict[Any, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        for row in self.transactions:
            is_refund = row["amount"] < 0 if missing(row["is_refund"]) else bool(row["is_refund"])
            if missing(row["transaction_id"]):
                key: Any = ("row", row["_file_id"], row["_row_number"])
            else:
                key = (row["transaction_id"], is_refund, row["ts"] if is_refund else None)
            late = not missing(row["ingested_at"])
            stamp = pd.Timestamp(row["ingested_at"]) if late else pd.Timestamp.min
            groups[key][stamp, row["_file_id"]].append({**row, "is_refund": is_refund})
        return list(groups.values())

    def day(self, instant: Any) -> date | None:
        return None if missing(instant) else self.day_of(pd.Timestamp(instant))

    def _day_of(self, instant: pd.Timestamp) -> date:
        return instant.to_pydatetime().replace(tzinfo=UTC).astimezone(self.zone).date()

    def rate_at(self, day: date, currency: str, known_by: date) -> tuple[float, date] | None:
        """Return the newest rate of the day that was known, and since when."""
        if currency == self.reporting:
            return 1.0, day
        candidates = []
        for row in self.rates_of_day[day, currency]:
            known = max(day, self.day(row["known_at"]) or day)
            dated = not missing(row["known_at"])
            stamp = pd.Timestamp(row["known_at"]) if dated else pd.Timestamp.min
            if known <= known_by:
                candidates.append((known, stamp, row["_file_id"], row["_row_number"], row))
        if not candidates:
            return None
        known, *_, row = max(candidates, key=lambda c: c[:4])
        return float(row["rate"]), known

    def owner_at(self, account: str, cutoff: date) -> str:
        """Follow the newest pointers that were set by the cutoff."""
        pointers: dict[str, tuple[Any, str]] = {}
        for row in self.merges:
            stamp = (pd.Timestamp(row["ts"]), row["_file_id"], row["_row_number"])
            day = self.day(row["ts"])
            assert day is not None
            old = row["old_user_id"]
            if day <= cutoff and (old not in pointers or pointers[old][0] < stamp):
                pointers[old] = (stamp, row["new_user_id"])
        while account in pointers and pointers[account][1] != account:
            account = pointers[account][1]
        return account

    def _lines_known_by(self, known_by: date) -> list[Line]:
        """Return what was known by the end of a day, whatever day it is about."""
        lines = []
        for versions in self.versions:
            known_versions = {}
            for order, rows in versions.items():
                version_known = self._known_day(rows)
                if version_known <= known_by:
                    known_versions[order] = (version_known, rows)
            if known_versions:
                lines += self._lines_of(*known_versions[max(known_versions)], known_by)
        return lines

    def _lines_of(self, version_known: date, rows: Iterable[Row], known_by: date) -> list[Line]:
        ordered = sorted(rows, key=lambda row: (pd.Timestamp(row["ts"]), row["_row_number"]))
        counted: set[Any] = set()
        lines = []
        for row in ordered:
            is_first = row["user_id"] not in counted
            counted.add(row["user_id"])
            day = self.day(row["ts"])
            assert day is not None
            currency = self.reporting if missing(row["currency"]) else row["currency"]
            rate = self.rate_at(day, currency, known_by)
            if rate is None or missing(row["user_id"]):
                continue
            known = max(day, version_known, rate[1])
            amount = Decimal(str(row["amount"])).quantize(Decimal("0.0001"))
            signed = -abs(amount) if row["is_refund"] else amount
            value = Decimal(repr(float(signed) * rate[0])).quantize(
                Decimal("0.0001"), rounding=ROUND_HALF_UP
            )
            lines.append(
                Line(
                    account=row["user_id"],
                    day=day,
                    known=known,
                    value=value,
                    is_refund=row["is_refund"],
                    is_first=is_first,
                    sku=None if missing(row["sku"]) else row["sku"],
                )
            )
        return lines

    def seen(self, cutoff: date) -> dict[str, list[Line]]:
        """Return the lines that features may use at a cutoff, by customer."""
        found: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines_known_by(cutoff):
            if line.day <= cutoff and line.known <= cutoff:
                found[self.owner_at(line.account, cutoff)].append(line)
        return found

    def signup_at(self, account: str, cutoff: date) -> tuple[date | None, date | None]:
        """Return (signup day, day from which on the account was known) as on file at a cutoff."""
        versions = []
        for row in self.users:
            if row["user_id"] == account:
                signup, updated = self.day(row["signup_ts"]), self.day(row["updated_at"])
                stamp = (
                    pd.Timestamp.min
                    if missing(row["updated_at"])
                    else pd.Timestamp(row["updated_at"])
                )
                start = updated or signup or date.min
                versions.append(((start, stamp, row["_file_id"], row["_row_number"]), signup))
        if not versions:
            return None, None
        # Of several on one day the last one counts.
        newest_of_day: dict[date, Any] = {}
        for key, signup in sorted(versions, key=lambda version: version[0]):
            newest_of_day[key[0]] = signup
        valid = [start for start in newest_of_day if start <= cutoff]
        signup = newest_of_day[max(valid)] if valid else None
        if signup is None:
            with_signup = [start for start in newest_of_day if newest_of_day[start] is not None]
            signup = newest_of_day[min(with_signup)] if with_signup else None
        starts = [start for start in newest_of_day if start > date.min]
        return signup, signup or (min(starts) if starts else None)

    def _spine(self, cutoff: date) -> dict[str, tuple[date, date | None]]:
        """Return customer -> (first known day, signup day)."""
        known: dict[str, list[date]] = defaultdict(list)
        signups: dict[str, list[date]] = defaultdict(list)
        # An account that an order once named stays known, also when the order was corrected.
        for versions in self.versions:
            for account, day in self._namings(versions):
                if day <= cutoff:
                    known[account].append(day)
        first: dict[str, list[date]] = defaultdict(list)
        for account, days in known.items():
            first[self.owner_at(account, cutoff)].append(min(days))
        for account in {row["user_id"] for row in self.users}:
            signup, since = self.signup_at(account, cutoff)
            if since is not None and since <= cutoff:
                owner = self.owner_at(account, cutoff)
                first[owner].append(since)
                if signup is not None and signup <= cutoff:
                    signups[owner].append(signup)
        return {
            customer: (min(days), min(signups[customer], default=None))
            for customer, days in first.items()
        }

    def _namings(self, versions: Mapping[Any, list[dict[str, Any]]]) -> Iterable[tuple[str, date]]:
        """Yield (account, day from which on an order named it), unless replaced on that day."""
        days_of = {order: self._known_day(rows) for order, rows in versions.items()}
        for order, rows in versions.items():
            newer = [day for other, day in days_of.items() if other > order]
            for row in rows:
                day = self.day(row["ts"])
                assert day is not None
                currency = self.reporting if missing(row["currency"]) else row["currency"]
                first_rate = self._first_rate_day(day, currency)
                if missing(row["user_id"]) or first_rate is None:
                    continue
                since = max(day, days_of[order], first_rate)
                if all(since < other for other in newer):
                    yield row["user_id"], since

    def _known_day(self, rows: list[dict[str, Any]]) -> date:
        ingested = self.day(rows[0]["ingested_at"])
        return ingested or min(d for row in rows if (d := self.day(row["ts"])) is not None)

    def _first_rate_day(self, day: date, currency: str) -> date | None:
        if currency == self.reporting:
            return day
        known = [
            max(day, self.day(row["known_at"]) or day) for row in self.rates_of_day[day, currency]
        ]
        return min(known, default=None)

    def history(self, cutoff: date) -> pd.DataFrame:
        """Return what customer_history should hold, for customers who are known."""
        seen = self.seen(cutoff)
        rows = []
        for customer in self.spine(cutoff):
            lines = seen.get(customer, [])
            per_day = net_by_day(lines)
            days = sorted(day for day, (orders, _, _) in per_day.items() if orders > 0)
            gaps = [(b - a).days for a, b in pairwise(days)]
            repeat = [per_day[day][1] for day in days[1:]]
            rows.append(
                {
                    "customer_id": customer,
                    "first_order_date": days[0] if days else None,
                    "last_order_date": days[-1] if days else None,
                    "count_orders": sum(orders for orders, _, _ in per_day.values()),
                    "count_order_days": len(days),
                    "frequency": float(max(len(days) - 1, 0)),
                    "recency": float((days[-1] - days[0]).days) if days else None,
                    "T": float((cutoff - days[0]).days) if days else None,
                    "monetary_value": float(sum(repeat) / len(repeat)) if repeat else None,
                    "std_days_between_orders": pd.Series(gaps).std() if len(gaps) > 1 else None,
                    "sum_value": float(sum(value for _, value, _ in per_day.values())),
                    "sum_refunds": float(sum(back for _, _, back in per_day.values())),
                }
            )
        return pd.DataFrame(rows)

    def windows(self, cutoff: date) -> pd.DataFrame:
        """Return what feat_windows should hold."""
        seen = self.seen(cutoff)
        rows = []
        for customer in self.spine(cutoff):
            lines = seen.get(customer, [])
            row: dict[str, Any] = {"customer_id": customer}
            for width in WINDOWS:
                inside = [line for line in lines if (cutoff - line.day).days < width]
                per_day = net_by_day(inside)
                days = sorted(day for day, (orders, _, _) in per_day.items() if orders > 0)
                orders = sum(count for count, _, _ in per_day.values())
                young = sum(
                    count
                    for day, (count, _, _) in per_day.items()
                    if (cutoff - day).days < width // 2
                )
                skus = {line.sku for line in inside if line.sku is not None and not line.is_refund}
                row |= {
                    f"count_orders_{width}d": float(orders),
                    f"sum_value_{width}d": float(sum(v for _, v, _ in per_day.values())),
                    f"sum_refunds_{width}d": float(sum(b for _, _, b in per_day.values())),
                    f"count_skus_{width}d": float(len(skus)),
                    f"order_trend_{width}d": (2 * young - orders) / orders if orders else None,
                    f"mean_days_between_orders_{width}d": (days[-1] - days[0]).days
                    / (len(days) - 1)
                    if len(days) > 1
                    else None,
                }
            rows.append(row)
        return pd.DataFrame(rows)

    def labels(self, cutoff: date, horizon: int, data_through: date) -> pd.DataFrame:
        """Return what customer_labels should hold; empty before the window is over."""
        end = cutoff + timedelta(days=horizon)
        if end > data_through:
            return pd.DataFrame()
        totals: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines_known_by(data_through):
            if cutoff < line.day <= end and line.known <= data_through:
                totals[self.owner_at(line.account, cutoff)].append(line)
        return pd.DataFrame(
            {
                "customer_id": customer,
                "label_value": float(sum(line.value for line in totals.get(customer, []))),
                "label_orders": sum(
                    line.is_first and not line.is_refund for line in totals.get(customer, [])
                ),
            }
            for customer in self.spine(cutoff)
        )

    def visits(self, cutoff: date, width: int) -> pd.DataFrame:
        """Return what feat_engagement should hold of one window."""
        sessions: dict[str, dict[Any, list[str]]] = defaultdict(lambda: defaultdict(list))
        any_seen = False
        for row in self.events:
            day = self.day(row["ts"])
            assert day is not None
            known = max(day, self.day(row["ingested_at"]) or day)
            if day <= cutoff and known <= cutoff:
                any_seen = True
                if (cutoff - day).days < width:
                    owner = self.owner_at(row["user_id"], cutoff)
                    visit = (row["user_id"], day, row["session_id"])
                    sessions[owner][visit].append(row["event_name"])
        rows = []
        for customer in self.spine(cutoff):
            visits = list(sessions[customer].values()) if customer in sessions else []
            names = [name for visit in visits for name in visit]
            left = sum("add_to_cart" in visit and "purchase" not in visit for visit in visits)
            rows.append(
                {
                    "customer_id": customer,
                    f"count_sessions_{width}d": float(len(visits)) if any_seen else None,
                    f"count_page_views_{width}d": float(names.count("page_view"))
                    if any_seen
                    else None,
                    f"count_abandoned_carts_{width}d": float(left) if any_seen else None,
                    f"share_abandoned_{width}d": left / len(visits) if visits else None,
                }
            )
        return pd.DataFrame(rows)


def net_by_day(lines: Iterable[Line]) -> dict[date, tuple[int, Decimal, Decimal]]:
    """Return day -> (orders, value, refunded)."""
    days: dict[date, tuple[int, Decimal, Decimal]] = {}
    for line in lines:
        orders, value, refunded = days.get(line.day, (0, Decimal(0), Decimal(0)))
        days[line.day] = (
            orders + (line.is_first and not line.is_refund),
            value + line.value,
            refunded - line.value if line.is_refund else refunded,
        )
    return days
