"""Three reasons for each customer's value, in plain words, with their effect in money."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clv_pipeline.models.explaining import CONCEPTS, Explanation

COUNT_REASONS = 3
# What rounds to nothing is no reason.
LEAST_EFFECT = 0.005
# Concepts that say the same of a customer: shown as one, with the sum of their effects.
_SAME_WITHOUT_ORDERS = ("recency", "frequency", "spend", "trend", "refunds", "variety")
_SAME_WITH_ONE_ORDER = ("recency", "tenure")
_WINDOWS = (180, 365, 90, 30)


@dataclass(frozen=True)
class _Facts:
    """What is known of one customer, and what is usual among those who ordered."""

    row: Mapping[str, Any]
    usual: Mapping[str, float]

    def number(self, name: str) -> float | None:
        """Return a number; None where it is unknown."""
        found = self.row.get(name)
        return None if found is None or pd.isna(found) else float(found)

    def word(self, name: str) -> str | None:
        """Return a text; None where it is unknown."""
        found = self.row.get(name)
        return None if found is None or pd.isna(found) or found == "unknown" else str(found)

    def window(self, name: str) -> tuple[int, float] | None:
        """Return the days of the first window that is known, and the figure over it."""
        for days in _WINDOWS:
            figure = self.number(f"{name}_{days}d")
            if figure is not None:
                return days, figure
        return None

    @property
    def order_days(self) -> int:
        """Days with an order."""
        return int(self.number("count_order_days") or 0)

    @property
    def orders(self) -> int:
        """Orders; several may fall on one day."""
        return int(self.number("count_orders") or self.order_days)

    def is_few(self, name: str, figure: float, effect: float) -> bool:
        """Whether a figure is below the usual and counts against the customer."""
        return effect < 0 and figure < self.usual.get(name, figure)


def give_reasons(
    features: pd.DataFrame, explanation: Explanation, usual: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Put the largest effects of each customer into words.

    Parameters
    ----------
    features
        Rows of ``features.customer_features`` of one cutoff; together they say what is usual.
    explanation
        The effects on the value of the same customers, or of some of them.
    usual
        What is usual in the shop (`find_usual`), where ``features`` hold only some of it.

    Returns
    -------
    DataFrame
        Indexed by customer_id: ``reason_1``, ``reason_1_effect`` and so on to 3, the largest effect
        (up or down) first. Null where fewer than three effects are worth a cent or so.
        ``reason_rest_effect`` is that of everything else, ``reason_base`` the value of the
        reference customer: base and effects add up to the value, to ``TOLERANCE``. The words
        state that customer's facts; 'only', 'just' and 'already' stand only where the fact lies on
        that side of the usual and the effect agrees.
    """
    past = features.set_index("customer_id").loc[explanation.effects.index]
    effects = merge_same(past, explanation.effects)
    usual = find_usual(features) if usual is None else usual
    sizes = np.abs(effects.to_numpy())
    # Equal effects in the order of the concepts, so that the answer never depends on sorting.
    order = np.argsort(-sizes, axis=1, kind="stable")[:, :COUNT_REASONS]
    figures = np.take_along_axis(effects.to_numpy(), order, axis=1)
    is_worth_telling = np.abs(figures) >= LEAST_EFFECT
    words = np.full(order.shape, None, dtype=object)
    for place, concept in enumerate(CONCEPTS):
        rows, ranks = np.nonzero((order == place) & is_worth_telling)
        if len(rows):
            words[rows, ranks] = _put_into_words(concept, past, rows, figures[rows, ranks], usual)
    found = {}
    for k in range(COUNT_REASONS):
        is_given = np.array([text is not None for text in words[:, k]], dtype=bool)
        found[f"reason_{k + 1}"] = pd.Series(words[:, k], index=past.index, dtype="str")
        found[f"reason_{k + 1}_effect"] = pd.Series(
            np.where(is_given, figures[:, k], np.nan), index=past.index
        )
    told = sum(found[f"reason_{k + 1}_effect"].fillna(0.0) for k in range(COUNT_REASONS))
    found["reason_rest_effect"] = explanation.effects.sum(axis=1) - told
    found["reason_base"] = pd.Series(explanation.base, index=past.index)
    return pd.DataFrame(found)


def _put_into_words(
    concept: str,
    past: pd.DataFrame,
    rows: NDArray[np.intp],
    effects: NDArray[np.float64],
    usual: Mapping[str, float],
) -> NDArray[Any]:
    """Say one concept of some customers; those of whom the same is known are spoken of once."""
    say, names = _WORDS[concept]
    known = past[[name for name in names if name in past]].iloc[rows].reset_index(drop=True)
    known["effect"] = np.sign(effects)
    kind = known.groupby(list(known), dropna=False, sort=False).ngroup()
    first = ~kind.duplicated()
    texts = [
        say(_Facts({str(name): fact for name, fact in row.items()}, usual), row["effect"])
        for row in known[first].to_dict("records")
    ]
    return np.array(texts, dtype=object)[kind.to_numpy()]


def merge_same(past: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Add up the effects of concepts that are one and the same fact of a customer.

    Without an order, all that orders tell is that there is none; with one order, the first and the
    last are the same day. Sums over the concepts stay.
    """
    merged = effects.to_numpy(copy=True)
    days = past["count_order_days"].fillna(0).to_numpy()
    for rows, same, into in (
        (days == 0, _SAME_WITHOUT_ORDERS, "frequency"),
        (days == 1, _SAME_WITH_ONE_ORDER, "recency"),
    ):
        columns = [CONCEPTS.index(name) for name in same]
        total = merged[:, columns].sum(axis=1)
        for column in columns:
            merged[rows, column] = 0.0
        merged[rows, CONCEPTS.index(into)] = total[rows]
    return pd.DataFrame(merged, index=effects.index, columns=effects.columns)


def find_usual(past: pd.DataFrame) -> dict[str, float]:
    """Return the medians, among those who ordered, of what the words compare."""
    buyers = past[past["count_order_days"].fillna(0) > 0]
    value = buyers["sum_value"] / buyers["count_order_days"]
    usual = {
        "days_since_last_order": buyers["days_since_last_order"].median(),
        "order_days": buyers["count_order_days"].mean(),
        "spend": value.median(),
    }
    return {name: float(figure) for name, figure in usual.items() if pd.notna(figure)}


def _count(figure: float, one: str, many: str) -> str:
    return f"{round(figure)} {one if round(figure) == 1 else many}"


def _frequency(facts: _Facts, effect: float) -> str:
    days = facts.order_days
    if days == 0:
        return "has not ordered yet"
    only = "only " if facts.is_few("order_days", days, effect) else ""
    if days == 1:
        return f"ordered {only}once" if facts.orders == 1 else f"ordered on {only}one day"
    gap = (facts.number("recency") or 0.0) / (days - 1)
    if days == 2:
        return f"ordered on {only}2 days, {_count(gap, 'day', 'days')} apart"
    every = "day" if round(gap) <= 1 else f"{round(gap)} days"
    return f"ordered on {only}{days} days, every {every} on average"


def _recency(facts: _Facts, effect: float) -> str:
    days = facts.number("days_since_last_order")
    if days is None:
        return "has not ordered yet"
    what = "only order day" if facts.order_days == 1 else "last order"
    what = "first and only order" if facts.orders == 1 else what
    if days == 0:
        return f"{what} on the day of the prediction"
    usual = facts.usual.get("days_since_last_order", days)
    near = "just " if effect > 0 and days < usual else ""
    far = "already " if effect < 0 and days > usual else ""
    return f"{what} {near}{far}{_count(days, 'day', 'days')} ago"


def _spend(facts: _Facts, effect: float) -> str:
    days = facts.order_days
    if days == 0:
        return "has not ordered yet"
    mean = (facts.number("sum_value") or 0.0) / days
    only = "only " if facts.is_few("spend", mean, effect) else ""
    if days == 1:
        return f"spent {only}{mean:,.2f} so far"
    return f"spent {only}{mean:,.2f} per order day on average"


def _trend(facts: _Facts, effect: float) -> str:
    found = facts.window("count_orders")
    if found is None:
        return "orders of late"
    days, orders = found
    count = "no order" if orders == 0 else _count(orders, "order", "orders")
    return f"{count} in the last {days} days"


def _tenure(facts: _Facts, effect: float) -> str:
    days = facts.number("T")
    if days is None:
        known = facts.number("tenure_days")
        return "known to the shop" if known is None else f"known for {_count(known, 'day', 'days')}"
    return f"first order {_count(days, 'day', 'days')} ago"


def _engagement(facts: _Facts, effect: float) -> str:
    found = facts.number("count_sessions_90d")
    if found is None:
        return "no visits are known"
    count = "no visit" if found == 0 else _count(found, "visit", "visits")
    return f"{count} in the last 90 days"


def _profile(facts: _Facts, effect: float) -> str:
    parts = [
        f"{label} {word}"
        for label, name in (
            ("country", "country"),
            ("came by", "acquisition_source"),
            ("last ordered by", "last_channel"),
            ("device", "device"),
        )
        if (word := facts.word(name)) is not None
    ]
    return ", ".join(parts) or "nothing is on file about the person"


def _season(facts: _Facts, effect: float) -> str:
    season = facts.word("signup_season")
    return "time of the year" if season is None else f"joined in {season}"


def _refunds(facts: _Facts, effect: float) -> str:
    share = facts.number("share_refunded")
    if not facts.number("sum_refunds"):
        return "never sent anything back"
    if share is None:
        return "was paid back more than the orders brought"
    return f"was paid back {100 * share:.0f} % of what was ordered"


def _variety(facts: _Facts, effect: float) -> str:
    found = facts.window("count_skus")
    if found is None:
        return "articles ordered"
    days, articles = found
    count = "no article" if articles == 0 else _count(articles, "article", "different articles")
    return f"{count} in the last {days} days"


def _over_windows(name: str) -> tuple[str, ...]:
    return tuple(f"{name}_{days}d" for days in _WINDOWS)


_ORDERS = ("count_order_days", "count_orders")
# For each concept what says it, and the features that it looks at.
_WORDS: dict[str, tuple[Callable[[_Facts, float], str], tuple[str, ...]]] = {
    "recency": (_recency, (*_ORDERS, "days_since_last_order")),
    "frequency": (_frequency, (*_ORDERS, "recency")),
    "spend": (_spend, (*_ORDERS, "sum_value")),
    "trend": (_trend, _over_windows("count_orders")),
    "tenure": (_tenure, ("T", "tenure_days")),
    "engagement": (_engagement, ("count_sessions_90d",)),
    "profile": (_profile, ("country", "acquisition_source", "last_channel", "device")),
    "season": (_season, ("signup_season",)),
    "refunds": (_refunds, ("sum_refunds", "share_refunded")),
    "variety": (_variety, _over_windows("count_skus")),
}
# The features that the words state.
FACTS = tuple(dict.fromkeys(name for _, names in _WORDS.values() for name in names))
