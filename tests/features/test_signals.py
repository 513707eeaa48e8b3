"""The signals of feat_* against plain pandas, on random rows, half of them known late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import holidays
import numpy as np
import pandas as pd
import pytest

from clv_pipeline.features.registry import load_features
from clv_pipeline.settings import Settings, TextSettings
from clv_pipeline.signals.scorers import load_scorer
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame
from data_quality.suites import features as suites
from data_quality.suites.run import Run
from tests.features.building import ZONE, rebuild

CUTOFFS = (date(2024, 3, 10), date(2024, 6, 30))
CUSTOMERS = 40
WINDOWS = (7, 30, 90)
WORDS = ("I love it, great!", "Broken, I want a refund.", "It came.", "Terrible and late.", "12")
Frame = pd.DataFrame
Oracle = Callable[[dict[str, Frame], pd.Timestamp], Frame]


def random_rows(seed: int = 5) -> dict[str, Frame]:
    rng = np.random.default_rng(seed)

    def rows(count: int, **columns: Any) -> Frame:
        ts = pd.Timestamp("2023-03-01") + pd.to_timedelta(rng.integers(0, 487 * 86_400, count), "s")
        late = pd.to_timedelta(rng.choice([0, 1, 20, 90], count), "D") + pd.Timedelta(hours=1)
        ingested = pd.Series(ts + late).where(rng.random(count) < 0.5)
        users = [f"c{n}" for n in rng.integers(0, CUSTOMERS, count)]
        return pd.DataFrame({"user_id": users, "ts": ts, "ingested_at": ingested, **columns})

    def pick(options: list[Any], count: int) -> Any:
        return np.array(options, dtype=object)[rng.integers(0, len(options), count)]

    n = 700
    refund = rng.random(n) < 0.15
    transactions = rows(
        n,
        amount=np.where(refund, -1, 1) * rng.integers(100, 9_900, n) / 100,
        is_refund=refund,
        sku=pick(["a1", "a2", "b1", None], n),
        category=pick(["apples", "books", None], n),
        quantity=rng.integers(1, 4, n).astype(float),
        discount=np.where(rng.random(n) < 0.4, rng.integers(0, 500, n) / 100, np.nan),
        country="US",
    )
    names = ["page_view", "search", "add_to_cart", "purchase", "campaign_click"]
    events = rows(900, event_name=pick(names, 900), session_id=pick(["s1", "s2"], 900))
    exposures = rows(
        300, campaign_id=pick(["x", "y", "z"], 300), arm=pick(["treated", "Control "], 300)
    )
    texts = rows(200, text=pick(list(WORDS), 200), kind="review")
    found = {"transactions": transactions, "events": events, "texts": texts}
    return {**found, "campaign_exposures": exposures}


def local_day(instants: pd.Series[Any]) -> pd.Series[Any]:
    local = pd.to_datetime(instants).dt.tz_localize("UTC").dt.tz_convert(ZONE)
    return local.dt.tz_localize(None).dt.normalize()


def seen(rows: dict[str, Frame], name: str, t0: pd.Timestamp) -> Frame:
    frame = rows[name]
    day = local_day(frame["ts"])
    known = local_day(frame["ingested_at"]).fillna(day)
    return frame.assign(day=day)[(day <= t0) & (known <= t0)]


def within(frame: Frame, t0: pd.Timestamp, width: int) -> Frame:
    return frame[frame["day"] > t0 - pd.Timedelta(days=width)]


def engagement(rows: dict[str, Frame], t0: pd.Timestamp) -> Frame:
    events = seen(rows, "events", t0)
    orders = seen(rows, "transactions", t0).query("not is_refund")
    contacts = seen(rows, "campaign_exposures", t0).query("arm == 'treated'")
    found: dict[str, Any] = {
        "days_since_last_visit": (t0 - events.groupby("user_id")["day"].max()).dt.days,
        "days_since_last_exposure": (t0 - contacts.groupby("user_id")["day"].max()).dt.days,
    }
    for w in WINDOWS:
        inside = within(events, t0, w)
        visits = inside.groupby(["user_id", "day", "session_id"])
        seconds = (visits["ts"].max() - visits["ts"].min()).dt.total_seconds()
        kinds = inside.groupby(["user_id", "day", "session_id"])["event_name"].agg(set)
        left = kinds.map(lambda names: "add_to_cart" in names and "purchase" not in names)
        count = visits.size().groupby("user_id").size()
        young = kinds[kinds.index.get_level_values("day") > t0 - pd.Timedelta(days=w // 2)]
        of_kind = inside.groupby(["user_id", "event_name"]).size().unstack(fill_value=0)
        bought = within(orders, t0, w).groupby("user_id").size()
        sent = within(contacts, t0, w).groupby("user_id").size()
        pages = of_kind.get("page_view", pd.Series(dtype=float))
        clicks = of_kind.get("campaign_click", pd.Series(dtype=float))
        found |= {
            f"count_sessions_{w}d": count,
            f"count_searches_{w}d": of_kind.get("search", pd.Series(dtype=float)),
            f"count_campaign_clicks_{w}d": clicks,
            f"count_exposures_{w}d": sent,
            f"share_abandoned_{w}d": left.groupby("user_id").sum() / count,
            f"mean_session_minutes_{w}d": seconds.groupby("user_id").sum() / 60 / count,
            f"visit_trend_{w}d": 2 * young.groupby("user_id").size().reindex(count.index).fillna(0)
            / count - 1,
            f"page_views_per_order_{w}d": pages.reindex(bought.index).fillna(0) / bought,
            f"click_through_{w}d": clicks.reindex(sent.index).fillna(0) / sent,
        }  # fmt: skip
    return pd.DataFrame(found)


def basket(rows: dict[str, Frame], t0: pd.Timestamp) -> Frame:
    lines = within(seen(rows, "transactions", t0), t0, 365)
    lines = lines[lines[["sku", "category", "discount"]].notna().any(axis=1)]
    lines = lines.assign(kind=lines["category"].fillna(lines["sku"]))
    bought, back = lines[~lines["is_refund"]], lines[lines["is_refund"] & lines["kind"].notna()]
    named = bought[bought["kind"].notna()]
    counts = named.groupby(["user_id", "kind"]).size()
    returned = back.groupby(["user_id", "kind"]).size().reindex(counts.index).fillna(0)
    shop = named.groupby("kind")["amount"].sum() / named.groupby("kind")["quantity"].sum()
    usual = (named["quantity"] * named["kind"].map(shop)).groupby(named["user_id"]).sum()
    known = bought[bought["discount"].notna()]
    off, paid = known.groupby("user_id")["discount"].sum(), known.groupby("user_id")["amount"].sum()
    per_day = bought[bought["category"].notna()].groupby(["user_id", "day"])["category"].nunique()
    categories = counts[counts.index.get_level_values("kind").isin(["apples", "books"])]
    ranked = categories.reset_index(name="n").merge(
        named.groupby(["user_id", "kind"])["amount"].sum().reset_index(), on=["user_id", "kind"]
    )
    ranked = ranked.sort_values(["n", "amount"], ascending=False).groupby("user_id").first()
    return pd.DataFrame(
        {
            "top_category_365d": ranked["kind"],
            "count_categories_365d": categories.groupby("user_id").size(),
            "basket_concentration_365d": (counts**2).groupby("user_id").sum()
            / counts.groupby("user_id").sum() ** 2,
            "share_mixed_category_days_365d": (per_day > 1).groupby("user_id").mean(),
            "share_discounted_365d": off / (off + paid),
            "return_ratio_365d": back.groupby("user_id").size().reindex(
                named["user_id"].unique()
            ).fillna(0) / named.groupby("user_id").size(),
            "max_category_return_ratio_365d": (returned / counts).groupby("user_id").max(),
            "mean_item_price_365d": named.groupby("user_id")["amount"].sum()
            / named.groupby("user_id")["quantity"].sum(),
            "price_level_365d": named.groupby("user_id")["amount"].sum() / usual,
        }
    )  # fmt: skip


def seasonality(rows: dict[str, Frame], t0: pd.Timestamp) -> Frame:
    orders = seen(rows, "transactions", t0).query("not is_refund")
    days = orders.drop_duplicates(["user_id", "day"]).sort_values("day")
    free = pd.to_datetime(sorted(holidays.country_holidays("US", years=[2023, 2024, 2025])))
    near = days["day"].map(
        lambda day: ((free >= day) & (free <= day + pd.Timedelta(days=14))).any()
    )
    gaps = days.groupby("user_id")["day"].diff().dt.days.groupby(days["user_id"])
    by = days["user_id"]
    found = {
        f"share_orders_weekday_{n}": (days["day"].dt.isocalendar().day == n).groupby(by).mean()
        for n in range(1, 8)
    }
    found |= {
        f"share_orders_month_{n}": (days["day"].dt.month == n).groupby(by).mean()
        for n in range(1, 13)
    }
    found["share_orders_before_holidays"] = near.groupby(by).mean()
    found["gap_variation"] = gaps.std() / gaps.mean()
    frame = pd.DataFrame(found)
    frame["days_to_next_holiday"] = (free[free > t0][0] - t0).days
    return frame


def writing(rows: dict[str, Frame], t0: pd.Timestamp) -> Frame:
    texts = seen(rows, "texts", t0).sort_values("ts", kind="stable")
    scores = load_scorer(TextSettings()).score(list(texts["text"]))
    texts = texts.assign(
        sentiment=scores["sentiment"].to_numpy(), bad=scores["is_complaint"].to_numpy()
    )
    recent = texts["day"] > t0 - pd.Timedelta(days=90)
    by = texts.groupby("user_id")
    return pd.DataFrame(
        {
            "count_texts": by.size(),
            "count_texts_90d": texts[recent].groupby("user_id").size(),
            "days_since_last_text": (t0 - by["day"].max()).dt.days,
            "mean_sentiment": by["sentiment"].mean(),
            "last_sentiment": by["sentiment"].last(),
            "sentiment_trend_90d": texts[recent].groupby("user_id")["sentiment"].mean()
            - texts[~recent].groupby("user_id")["sentiment"].mean(),
            "share_complaints": by["bad"].mean(),
        }
    )


# Where the shop has seen anybody do something, nobody's nothing is a zero.
COUNTED = (
    *("count_sessions", "count_searches", "count_campaign_clicks", "count_exposures"),
    *("count_texts", "count_categories"),
)


@pytest.fixture(scope="module")
def built(home: Settings) -> tuple[dict[str, Frame], Frame]:
    rows = random_rows()
    rebuild(home, rows, CUTOFFS, CUTOFFS[-1])
    with open_warehouse(home, read_only=True) as connection:
        return rows, read_frame(connection, "SELECT * FROM features.customer_features")


@pytest.mark.parametrize("cutoff", CUTOFFS, ids=str)
@pytest.mark.parametrize("oracle", [engagement, basket, seasonality, writing])
def test_signals_are_what_was_known(
    built: tuple[dict[str, Frame], Frame], oracle: Oracle, cutoff: date
) -> None:
    rows, features = built
    t0 = pd.Timestamp(cutoff)
    at = features[features["cutoff_date"] == t0].set_index("customer_id").sort_index()
    expected = oracle(rows, t0).reindex(at.index)
    if "days_to_next_holiday" in expected:
        expected["days_to_next_holiday"] = expected["days_to_next_holiday"].max()
    assert len(at) >= CUSTOMERS - 2
    for name in expected:
        want, got = expected[name], at[name]
        if name.startswith(COUNTED):
            want = want.fillna(0)
        if name == "top_category_365d":
            assert got.tolist() == want.fillna("unknown").tolist()
            continue
        assert want.notna().any(), name
        pd.testing.assert_series_equal(
            got.astype(float), want.astype(float), check_names=False, rtol=1e-4, atol=1e-6, obj=name
        )


def test_every_feature_lies_in_the_range_that_it_says(
    built: tuple[dict[str, Frame], Frame], home: Settings
) -> None:
    """What the gate would stop: a value out of range, or a null without a meaning."""
    for day in CUTOFFS:
        run = Run(home, Cutoff(day), "run", frozenset({suites.TABLE}))
        suite = suites.values(run, load_features())
        rules = [rule for rule in suite.rules if rule.column is not None]
        figures = ", ".join(rule.figure for rule in rules)
        with open_warehouse(home, read_only=True) as connection:
            (broken,) = connection.execute(
                f"SELECT {figures} FROM {suites.TABLE} WHERE cutoff_date = ?", [day]
            ).fetchall()
        names = [rule.column for rule in rules]
        assert names == [feature.name for feature in load_features()]
        assert [name for name, count in zip(names, broken, strict=True) if count] == []


def test_no_feature_is_computed_twice(built: tuple[dict[str, Frame], Frame]) -> None:
    """On random customers no two features agree everywhere, under whatever names."""
    _, features = built
    seen_before: dict[tuple[str, ...], str] = {}
    compared = 0
    for feature in load_features():
        values = features[feature.name].astype(str)
        if values.value_counts(dropna=False).max() > len(values) - 25:  # hardly anybody differs
            continue
        content = tuple(values)
        assert content not in seen_before, f"{feature.name} is {seen_before.get(content)} again"
        seen_before[content] = feature.name
        compared += 1
    assert compared > 80


def test_a_signal_without_its_input_is_missing_and_all_else_works(home: Settings) -> None:
    orders = random_rows()["transactions"][["user_id", "ts", "amount", "is_refund"]]
    rebuild(home, {"transactions": orders}, CUTOFFS[-1:], CUTOFFS[-1])
    with open_warehouse(home, read_only=True) as connection:
        features = read_frame(connection, "SELECT * FROM features.customer_features")
    assert len(features) > 0
    for feature in load_features():
        values = features[feature.name]
        if set(feature.inputs) <= {"events", "texts", "campaign_exposures"}:
            is_empty = (
                values.isin(["none", "unknown"]) if feature.kind == "categorical" else values.isna()
            )
            assert is_empty.all(), feature.name
    assert features["share_orders_weekday_1"].notna().all()
    assert features["frequency"].notna().all()
