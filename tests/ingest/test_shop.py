"""The simulated shop's files: contract, determinism, accidents, and truth against what happened."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.ingest.shop import (
    Shop,
    ShopParameters,
    write_shop,
)
from clv_pipeline.ingest.shop.columns import Clock
from clv_pipeline.ingest.shop.market import Market

CUTOFFS = (date(2023, 3, 31), date(2023, 9, 30))
HORIZONS = (30, 90, 180)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return write_shop(
        tmp_path_factory.mktemp("shop"),
        customers=4_000,
        days=730,
        cutoffs=CUTOFFS,
        horizons=HORIZONS,
        orders_per_customer=8,
    )


def read_csv(shop: Shop, name: str) -> pd.DataFrame:
    pattern = f"{name}/{name}_*.csv.gz" if (shop.folder / name).is_dir() else f"{name}.csv.gz"
    parts = [pd.read_csv(path) for path in sorted(shop.folder.glob(pattern))]
    frame = pd.concat(parts, ignore_index=True)
    for column in ("ts", "ingested_at", "known_at", "updated_at", "signup_ts"):
        if column in frame:
            frame[column] = pd.to_datetime(frame[column], format="ISO8601")
    return frame


@pytest.fixture(scope="module")
def lines(shop: Shop) -> pd.DataFrame:
    frame = read_csv(shop, "transactions")
    for column in ("ts", "ingested_at"):
        frame[f"{column}_day"] = frame[column].dt.tz_convert("Europe/Berlin").dt.normalize()
        frame[f"{column}_day"] = frame[f"{column}_day"].dt.tz_localize(None)
    return frame


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, file_format: str) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_shop(
            tmp_path / name,
            customers=200,
            days=200,
            seed=seed,
            file_format=file_format,  # type: ignore[arg-type]
        )
    a, b, c = (fingerprint(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert sum(a[name] != c[name] for name in a) >= len(a) - 4


def test_a_smaller_shop_leaves_nothing_of_a_larger_one(tmp_path: Path) -> None:
    write_shop(tmp_path / "a", customers=300, days=400, file_format="parquet")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    write_shop(tmp_path / "a", customers=50, days=100)
    write_shop(tmp_path / "b", customers=50, days=100)
    again = fingerprint(tmp_path / "a")
    assert again.pop("notes.txt")
    assert again == fingerprint(tmp_path / "b")


@pytest.mark.parametrize("name", ["clv.toml", "users.csv.gz", "transactions/mine.csv"])
def test_other_files_are_never_replaced(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(ValueError, match="which no simulated shop wrote"):
        write_shop(tmp_path, customers=10, days=40)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_every_contract_column_is_there(shop: Shop, name: str) -> None:
    frame = read_csv(shop, name)
    expected = [field.name for field in CONTRACTS[name].fields]
    further = ["language", "has_loyalty_card"] if name == "users" else []
    assert list(frame.columns) == expected + further
    assert not frame.empty
    required = [field.name for field in CONTRACTS[name].fields if not field.nullable]
    if name != "users":
        assert frame[required].notna().all().all()
    rows = len(frame)
    if name == "transactions":
        rows += len(pd.read_csv(shop.folder / name / "unreadable_rows.csv.gz"))
    assert shop.count_rows[name] == rows


def test_order_and_line_shape(shop: Shop, lines: pd.DataFrame) -> None:
    assert lines.ts_day.min() >= pd.Timestamp("2022-01-01")
    assert lines.ingested_at_day.max() <= pd.Timestamp(shop.last_day)
    early = lines.transaction_id[lines.ts > lines.ingested_at]
    assert early.empty
    sales = lines[~lines.is_refund & (lines.channel != "test")]
    orders = sales.groupby("transaction_id").agg(
        lines=("amount", "size"), user=("user_id", "nunique"), day=("ts_day", "nunique")
    )
    assert (orders.user <= 1).all()
    assert (orders.day == 1).all()
    assert 1.4 < orders.lines.mean() < 1.9
    assert lines.currency.nunique() == 5
    assert set(lines.channel) == {"web", "app", "store", "marketplace", "test"}
    cents = lines.amount * 100
    np.testing.assert_allclose(cents, cents.round(), atol=1e-6)
    assert (lines.amount[lines.is_refund] < 0).all()
    assert (lines.amount[~lines.is_refund] >= 0).all()
    skus = pd.read_parquet(shop.truth / "skus.parquet")
    assert set(lines.sku) <= set(skus.sku)
    guests = sales.user_id.isna().groupby(sales.transaction_id).first().mean()
    assert guests == pytest.approx(ShopParameters().guest_share, abs=0.01)
    by_user = sales.groupby("user_id").amount.sum().sort_values(ascending=False)
    assert by_user.head(len(by_user) // 10).sum() > 0.3 * by_user.sum()
    days = sales.dropna(subset="user_id").groupby(["user_id", "ts_day"])
    assert (days.transaction_id.nunique() > 1).sum() > 20


def test_accidents_are_planted_as_often_as_said(shop: Shop, lines: pd.DataFrame) -> None:
    planted = json.loads((shop.truth / "planted.json").read_text())
    assert planted == shop.planted
    sales = lines[~lines.is_refund]
    versions = sales.groupby("transaction_id").ingested_at.nunique()
    assert (versions == 2).sum() == planted["restated_orders"] > 50
    late = (sales.ingested_at_day - sales.ts_day).dt.days
    for days in (3, 30, 200):
        # Restated orders can be 3 days late as well.
        once = sales.transaction_id.isin(versions.index[versions == 1])
        found = sales.transaction_id[once & (late == days)].nunique()
        assert found == planted[f"orders_{days}_days_late"] > 0
    refunds = lines[lines.is_refund]
    known = sales.groupby("transaction_id").agg(first=("ts_day", "min"), last=("ts_day", "max"))
    orphans = ~refunds.transaction_id.isin(known.index)
    lost = orphans & (refunds.transaction_id.str[-7] == "9")
    assert lost.sum() == planted["refunds_without_an_order"] > 0
    matched = refunds[~orphans].join(known, on="transaction_id")
    early = matched[matched.ts_day < matched["first"]].transaction_id.nunique()
    assert early == planted["refunds_before_their_order"] > 0
    twice = refunds.groupby("transaction_id").ts.nunique()
    assert (twice > 1).sum() == planted["refunds_booked_twice"] > 0
    zero = sales.groupby("transaction_id").amount.max() == 0
    undelivered = planted["zero_amount_orders"] - zero.sum()
    assert 0 <= undelivered <= 2
    tests = lines[lines.channel == "test"]
    assert tests.transaction_id.nunique() == planted["test_orders"]
    assert set(tests.user_id) == {"U0000000000"}


def test_users_have_versions_and_some_never_order(shop: Shop, lines: pd.DataFrame) -> None:
    users = read_csv(shop, "users")
    blank = users.user_id.isna()
    assert blank.sum() == shop.planted["quarantine:users"] == 2
    users = users[~blank]
    versions = users.groupby("user_id").updated_at.agg(["size", "nunique"])
    assert (versions["size"] == versions["nunique"]).all()
    assert 0.1 < (versions["size"] > 1).mean() < 0.25
    first = users.groupby("user_id").signup_ts.min()
    bought = lines[~lines.is_refund].groupby("user_id").ts.min().drop("U0000000000")
    assert (first[bought.index] <= bought).all()
    never = set(first.index) - set(lines.user_id.dropna())
    assert 0.05 < len(never) / len(first) < 0.10
    moved = users.groupby("user_id").country.nunique() > 1
    assert moved.sum() > 20
    assert users.gender.isna().mean() == pytest.approx(0.11, abs=0.02)


def test_events_and_texts_belong_to_accounts(shop: Shop) -> None:
    users = read_csv(shop, "users").dropna(subset="user_id")
    opened = users.groupby("user_id").signup_ts.min()
    for name in ("events", "texts", "campaign_exposures"):
        frame = read_csv(shop, name)
        assert (opened[frame.user_id].to_numpy() <= frame.ts).all()
    events = read_csv(shop, "events")
    visits = events.groupby("session_id").agg(
        users=("user_id", "nunique"), first=("event_name", "first")
    )
    assert (visits.users == 1).all()
    assert (visits["first"] == "session_start").all()
    bought = visits.index.isin(events.session_id[events.event_name == "purchase"])
    carts = visits.index.isin(events.session_id[events.event_name == "add_to_cart"])
    assert 0.2 < bought.mean() < 0.6
    assert (carts & ~bought).sum() > 500
    filled = events.metadata_json.dropna()
    assert all("page" in json.loads(text) for text in filled.unique())


def test_rates_are_restated(shop: Shop, lines: pd.DataFrame) -> None:
    rates = read_csv(shop, "exchange_rates")
    keys = rates.groupby(["day", "currency"])
    assert (keys.size() == 2).sum() > 10
    assert (keys.known_at.nunique() == keys.size()).all()
    assert set(lines.currency) - {"EUR"} <= set(rates.currency)
    assert rates.groupby("currency").day.nunique().eq(730).all()
    # What is known at the end is what the truth converts with.
    market = Market.draw(20240229, 730)
    last = rates.sort_values("known_at").groupby(["currency", "day"]).rate.last()
    np.testing.assert_array_equal(last["USD"], market.known_rates()[4])


def test_rates_that_are_not_yet_restated_count_as_first_published() -> None:
    market = Market.draw(1, 60)
    rows = market.rate_rows(date(2022, 1, 1)).to_pandas()
    last = rows.groupby(["currency", "day"], sort=False).rate.last()
    np.testing.assert_array_equal(last["USD"].sort_index(), market.known_rates()[4])
    assert (market.known_rates()[4] != market.rates[4]).sum() >= 7


def test_days_of_23_and_25_hours_keep_their_rows() -> None:
    clock = Clock.build(date(2022, 1, 1), 0, 400, "Europe/Berlin")
    day = np.repeat(np.array([85, 86, 301, 302]), 24)
    second = np.tile(np.arange(24) * 3600 + 1_800, 4)
    instants = pd.Series(clock.instants(day, second).to_pandas())
    local = instants.dt.tz_convert("Europe/Berlin")
    expected = pd.Timestamp("2022-01-01") + pd.to_timedelta(day, "D")
    assert (local.dt.tz_localize(None).dt.normalize() == expected).all()
    skipped_or_doubled = ((day == 85) | (day == 302)) & (second < 3 * 3600) & (second > 3_600)
    seconds = (local.dt.hour * 3600 + local.dt.minute * 60).to_numpy()
    assert (seconds == second)[~skipped_or_doubled].all()


def test_a_whole_refund_cancels_its_order(shop: Shop, lines: pd.DataFrame) -> None:
    rates = read_csv(shop, "exchange_rates").sort_values("known_at")
    rate = rates.groupby(["day", "currency"]).rate.last().rename("rate")
    frame = lines.assign(day=lines.ts_day.dt.strftime("%Y-%m-%d"))
    frame = frame.join(rate, on=["day", "currency"]).fillna({"rate": 1.0})
    frame["value"] = frame.amount * frame.rate
    keys = frame.groupby("transaction_id")
    plain = keys.ingested_at.nunique() == 2
    both = keys.is_refund.agg(["sum", "size"])
    whole = both.index[plain & (both["sum"] * 2 == both["size"]) & (both["sum"] > 1)]
    foreign = frame[frame.transaction_id.isin(whole) & (frame.currency != "EUR")]
    left = foreign.groupby("transaction_id").value.sum()
    assert len(left) > 30
    assert left.abs().median() < 0.02
    assert left.abs().quantile(0.9) < 0.05


def test_values_tie_to_an_independent_reading_of_the_files(shop: Shop, lines: pd.DataFrame) -> None:
    """The label at the last day, by pandas from the CSV files, for people with one account."""
    rates = read_csv(shop, "exchange_rates").sort_values("known_at")
    rate = rates.groupby(["day", "currency"]).rate.last().rename("rate")
    known = lines[(lines.channel != "test") & lines.user_id.notna()].copy()
    order = known.transaction_id.where(~known.is_refund)
    newest = known.groupby(order).ingested_at.transform("max")
    known = known[known.is_refund | (known.ingested_at == newest)]
    known["day"] = known.ts_day.dt.strftime("%Y-%m-%d")
    known = known.join(rate, on=["day", "currency"])
    assert known.rate.isna().sum() == (known.currency == "EUR").sum()
    known["value"] = known.amount * known.rate.fillna(1.0)
    truth = pd.read_parquet(shop.truth / "values.parquet")
    people = pd.read_parquet(shop.truth / "customers.parquet")
    one_account = people.customer_id[people.second_user_id.isna()]
    truth = truth[truth.customer_id.isin(one_account)]
    for cutoff, horizon in product(CUTOFFS, (30, 90)):
        begin = pd.Timestamp(cutoff)
        inside = (known.ts_day > begin) & (known.ts_day <= begin + pd.Timedelta(days=horizon))
        label = known[inside].groupby("user_id").value.sum()
        rows = truth[(truth.cutoff_date == cutoff) & (truth.horizon_days == horizon)]
        read = label.reindex(rows.customer_id).fillna(0.0)
        assert len(rows) > 1_000
        np.testing.assert_allclose(rows.delivered_value, read, atol=1e-6)


def test_truth_holds_buyers_known_at_the_cutoff(shop: Shop) -> None:
    truth = pd.read_parquet(shop.truth / "values.parquet")
    people = pd.read_parquet(shop.truth / "customers.parquet").set_index("customer_id")
    assert people.index.is_unique
    assert not truth.duplicated(["customer_id", "cutoff_date", "horizon_days"]).any()
    for cutoff in CUTOFFS:
        known = people.index[people.first_order_date <= cutoff]
        rows = truth[truth.cutoff_date == cutoff]
        assert set(rows.customer_id) == set(known)
        matured = pd.Timestamp(cutoff) + pd.to_timedelta(rows.horizon_days, "D")
        is_matured = matured <= pd.Timestamp(shop.last_day)
        assert (rows.realised_value.notna() == is_matured).all()
        gone = people.dropout_date.reindex(rows.customer_id) <= cutoff
        assert (rows.is_alive.to_numpy() == ~gone.to_numpy()).all()


LAWS = [
    ("poisson", "pareto", "gamma_gamma"),
    ("poisson", "geometric", "gamma_gamma"),
    ("poisson", "none", "lognormal"),
    ("regular", "pareto", "gamma_gamma"),
]


@pytest.mark.parametrize(("purchase", "dropout", "spend"), LAWS)
def test_what_happened_agrees_with_the_true_expectation(
    tmp_path: Path, purchase: str, dropout: str, spend: str
) -> None:
    # Refunds and campaigns strong enough that leaving out either would show; no giants, whose
    # noise would hide it.
    parameters = ShopParameters(
        purchase=purchase,  # type: ignore[arg-type]
        dropout=dropout,  # type: ignore[arg-type]
        spend=spend,  # type: ignore[arg-type]
        full_refund_share=0.15,
        partial_refund_share=0.1,
        refund_lag_days=25,
        campaign_share=0.8,
        campaign_every_days=40,
        giant_share=0.0,
    )
    shop = write_shop(
        tmp_path,
        customers=8_000,
        days=500,
        seed=5,
        parameters=parameters,
        file_format="parquet",
        files_per="all",
        cutoffs=(date(2022, 9, 30), date(2022, 12, 10)),
        horizons=(7, 60, 150),
    )
    truth = pd.read_parquet(shop.truth / "values.parquet")
    assert truth.realised_value.notna().all()
    for _, rows in truth.groupby(["cutoff_date", "horizon_days"]):
        pairs = [("realised_orders", "expected_orders"), ("realised_value", "expected_value")]
        if purchase == "poisson":
            pairs.append(("realised_value", "expected_value_given_history"))
        for realised, expected in pairs:
            gap = rows[realised] - rows[expected]
            assert abs(gap.mean()) < 3.5 * gap.sem(), (realised, expected)
        # Expectations are right in each half of the customers, not only on the whole.
        high = rows.expected_value > rows.expected_value.median()
        for part in (rows[high], rows[~high]):
            gap = part.realised_value - part.expected_value
            assert abs(gap.mean()) < 4 * gap.sem()


def test_campaigns_lift_by_the_known_uplift(tmp_path: Path) -> None:
    parameters = ShopParameters(
        campaign_share=1.0, campaign_every_days=45, dropout="none", guest_share=0.0,
        late_shares=(), merge_share=0.0, zero_share=0.0,
    )  # fmt: skip
    shop = write_shop(tmp_path, customers=6_000, days=300, parameters=parameters)
    sent = read_csv(shop, "campaign_exposures")
    assert sent.arm.eq("treated").mean() == pytest.approx(0.5, abs=0.01)
    assert sent.cost.groupby(sent.arm).max().to_dict() == {"control": 0.0, "treated": 0.05}
    frame = read_csv(shop, "transactions")
    orders = frame[~frame.is_refund].drop_duplicates("transaction_id")[["user_id", "ts"]]
    pairs = sent.merge(orders, on="user_id", suffixes=("", "_order"))
    after = (pairs.ts_order - (pairs.ts - pd.Timedelta(hours=8))).dt.days
    hits = pairs[after.between(0, 6)].groupby(["campaign_id", "user_id"]).size()
    sent["orders"] = hits.reindex(
        pd.MultiIndex.from_frame(sent[["campaign_id", "user_id"]])
    ).to_numpy()
    arms = sent.fillna({"orders": 0}).groupby("arm").orders.agg(["mean", "sem"])
    lift = arms["mean"]["treated"] - arms["mean"]["control"]
    known = pd.read_parquet(shop.truth / "campaigns.parquet").mean_response_if_alive.iloc[0]
    assert known == pytest.approx(0.05)
    assert abs(lift - known) < 4 * np.hypot(arms["sem"]["treated"], arms["sem"]["control"])
