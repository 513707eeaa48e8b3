"""The whole pipeline on a simulated shop, held to the truth about its customers.

The shop has flat years: no model here carries a season, and what is asked is whether the level is
right. Everything else that goes wrong in a shop (docs/simulated_shop.md) is in it. The bands are
wide enough for the luck of a few hundred buyers, and far too narrow for value that is counted
twice, in another currency, over another window, or after what was known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import duckdb
import numpy as np
import pandas as pd
import pytest

from clv_pipeline.ingest.shop import Shop, ShopParameters, write_shop
from clv_pipeline.orchestration.environment import prepare_environment
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.timeline import Cutoff

pytestmark = pytest.mark.slow

CUTOFF = date(2023, 6, 30)
HORIZONS = (30, 90)
SETTINGS = """\
[value]
horizons = [30, 90]

[model]
trees = 30
clusters = 4
threads = 1

[cadence]
training_cutoffs = 4
backtest_folds = 1
"""


@dataclass(frozen=True)
class Result:
    """A shop whose first half was seen, and what was published about its second.

    Attributes
    ----------
    shop
        The files as written, and what was planted in them.
    settings
        Of the project in its folder.
    customers
        clv.customer_clv beside the truth of each horizon; customers with one account each.
    """

    shop: Shop
    settings: Settings
    customers: dict[int, pd.DataFrame]


@pytest.fixture(scope="session")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One run: train and score as of a day whose next 90 days are in the files."""
    # Dagster takes seconds to import.
    from clv_pipeline.orchestration import commands

    shop = write_shop(
        tmp_path_factory.mktemp("shop") / "shop",
        customers=900,
        days=640,
        seed=1,
        cutoffs=[CUTOFF],
        horizons=HORIZONS,
        files_per="year",
        parameters=ShopParameters(seasonality=0.0),
    )
    config = shop.config.read_text(encoding="utf-8")
    assert config.count("[cadence]\n") == 1
    shop.config.write_text(config.replace("[cadence]\n", SETTINGS), encoding="utf-8")
    settings = load_settings(shop.folder)
    with pytest.MonkeyPatch.context() as patch:
        # The project's own Dagster home must not reach other tests.
        patch.setenv("DAGSTER_HOME", "")
        prepare_environment(settings)
        with commands.hold_runner(settings) as runner:
            commands.run(runner, Cutoff(CUTOFF), None)
    return Result(shop, settings, {h: _beside_truth(shop, settings, h) for h in HORIZONS})


def _beside_truth(shop: Shop, settings: Settings, horizon: int) -> pd.DataFrame:
    published = settings.paths.published / "customer_clv.parquet"
    return duckdb.execute(
        f"""
        SELECT
            published.customer_id,
            clv_{horizon}d AS clv,
            clv_{horizon}d_p10 AS p10,
            clv_{horizon}d_p50 AS p50,
            clv_{horizon}d_p90 AS p90,
            clv_{horizon}d_low_80 AS low_80,
            clv_{horizon}d_high_80 AS high_80,
            clv_{horizon}d_low_95 AS low_95,
            clv_{horizon}d_high_95 AS high_95,
            probability_purchase_{horizon}d AS probability_purchase,
            expected_orders_{horizon}d AS orders,
            published.p_alive AS published_p_alive,
            truth.*
        FROM read_parquet($published) AS published
        INNER JOIN read_parquet($values) AS truth USING (customer_id)
        INNER JOIN read_parquet($people) AS people USING (customer_id)
        WHERE truth.cutoff_date = $cutoff AND truth.horizon_days = $horizon
            AND people.second_user_id IS NULL
        """,
        {
            "published": str(published.resolve()),
            "values": str(shop.truth / "values.parquet"),
            "people": str(shop.truth / "customers.parquet"),
            "cutoff": CUTOFF,
            "horizon": horizon,
        },
    ).df()


@pytest.fixture
def published(result: Result) -> Iterator[duckdb.DuckDBPyConnection]:
    file = result.settings.paths.published_database
    with duckdb.connect(str(file.resolve()), read_only=True) as connection:
        yield connection


@pytest.fixture
def warehouse(result: Result) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(result.settings.paths.warehouse), read_only=True) as connection:
        yield connection


def test_everybody_who_had_bought_is_there_once(
    result: Result, published: duckdb.DuckDBPyConnection
) -> None:
    counts = published.execute(
        "SELECT count(*), count(DISTINCT customer_id) FROM clv.customer_clv"
    ).fetchone()
    assert counts is not None
    assert counts[0] == counts[1]
    people = pd.read_parquet(result.shop.truth / "customers.parquet")
    single = people[people["second_user_id"].isna()]
    buyers = single.loc[pd.to_datetime(single["first_order_date"]).dt.date <= CUTOFF, "customer_id"]
    # Whose every order by then had not yet reached the files, or was cancelled, is no buyer.
    missing = set(buyers) - set(result.customers[90]["customer_id"])
    assert len(buyers) > 500
    assert len(missing) <= 0.01 * len(buyers)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_every_figure_is_finite(horizon: int, published: duckdb.DuckDBPyConnection) -> None:
    columns = [
        f"clv_{horizon}d{suffix}" for suffix in ("", "_p10", "_p50", "_p90", "_low_95", "_high_95")
    ]
    columns += [f"probability_purchase_{horizon}d", f"expected_orders_{horizon}d"]
    figures = published.execute(f"SELECT {', '.join(columns)} FROM clv.customer_clv").df()
    assert np.isfinite(figures.to_numpy(dtype=float)).all()
    assert (figures.to_numpy(dtype=float) >= 0).all()


@pytest.mark.parametrize("horizon", HORIZONS)
def test_predicted_totals_are_the_true_ones(horizon: int, result: Result) -> None:
    found = result.customers[horizon]
    assert found["clv"].sum() == pytest.approx(found["expected_value"].sum(), rel=0.15)
    assert found["orders"].sum() == pytest.approx(found["expected_orders"].sum(), rel=0.15)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_customers_are_ranked_as_they_truly_are(horizon: int, result: Result) -> None:
    ranks = result.customers[horizon][
        ["clv", "expected_value", "expected_value_given_history", "delivered_value"]
    ].corr("spearman")["clv"]
    # Nobody can see who has left, so the reachable bound is the value given the history.
    assert ranks["expected_value_given_history"] > 0.8
    assert ranks["expected_value"] > 0.45
    assert ranks["delivered_value"] > 0.35


@pytest.mark.parametrize("horizon", HORIZONS)
def test_chances_to_buy_are_right_in_total(horizon: int, result: Result) -> None:
    found = result.customers[horizon]
    bought = (found["realised_orders"] > 0).sum()
    # Four deviations of the number who buy, were the chances right, and a tenth for the model.
    chances = found["probability_purchase"]
    luck = 4 * np.sqrt((chances * (1 - chances)).sum())
    assert abs(chances.sum() - bought) < luck + 0.1 * bought
    # Those who were given a better chance must have bought more often, too.
    halves = (chances > chances.median()).to_numpy()
    did = (found["realised_orders"] > 0).to_numpy()
    assert did[halves].mean() > 2 * did[~halves].mean()


@pytest.mark.parametrize("share", [80, 95])
@pytest.mark.parametrize("horizon", HORIZONS)
def test_intervals_hold_overall_and_among_those_who_buy(
    horizon: int, share: int, result: Result
) -> None:
    found = result.customers[horizon]
    value = found["delivered_value"]
    inside = value.between(found[f"low_{share}"] - 1e-6, found[f"high_{share}"] + 1e-6)
    for rows in (value.notna(), value > 0, value <= 0):
        # Three points for the model, and three deviations of the luck of so few.
        luck = 3 * np.sqrt(share * (100 - share) / rows.sum()) / 100
        assert abs(inside[rows].mean() - share / 100) < 0.03 + luck


@pytest.mark.parametrize("horizon", HORIZONS)
def test_intervals_of_totals_hold_what_came(
    horizon: int, result: Result, published: duckdb.DuckDBPyConnection
) -> None:
    totals = published.execute(
        "SELECT * FROM clv.clv_totals WHERE horizon_days = ?", [horizon]
    ).df()
    everyone = totals[totals["group_kind"] == "all"].iloc[0]
    # One account each is most of the shop; the others' value is told apart by share.
    share = result.customers[horizon]["clv"].sum() / everyone["clv"]
    assert 0.8 < share <= 1 + 1e-9
    came = result.customers[horizon]["delivered_value"].sum() / share
    assert everyone["low_95"] <= came <= everyone["high_95"]
    for kind in ("segment", "country"):
        part = totals[totals["group_kind"] == kind]
        assert part["clv"].sum() == pytest.approx(everyone["clv"])
        assert part["count_customers"].sum() == everyone["count_customers"]


@pytest.mark.parametrize("horizon", HORIZONS)
def test_bounds_hold_as_often_as_they_say(horizon: int, result: Result) -> None:
    found = result.customers[horizon]
    value = found["delivered_value"]
    assert 0.85 <= (value <= found["p90"]).mean() <= 0.98
    # Most have a chance of more than 10 % to bring nothing, so that hardly anyone can fall below.
    assert (value < found["p10"]).mean() <= 0.13
    assert (value <= found["p50"]).mean() >= 0.45


def test_the_chance_to_be_there_is_right_in_total(result: Result) -> None:
    found = result.customers[90]
    assert found["published_p_alive"].between(0, 1).all()
    there = found["is_alive"].sum()
    assert found["published_p_alive"].sum() == pytest.approx(there, rel=0.15)
    ranks = found[["published_p_alive", "p_alive"]].corr("spearman").iloc[0, 1]
    assert ranks > 0.8


def test_no_label_of_the_run_reaches_past_its_day(warehouse: duckdb.DuckDBPyConnection) -> None:
    labels = warehouse.execute(
        "SELECT count(*), max(label_end_date), max(last_label_activity_date) "
        "FROM as_of.customer_labels"
    ).fetchone()
    assert labels is not None
    assert labels[0] > 0
    # The files go on for months, and labels reach to the last day that the run knew.
    assert labels[1] == CUTOFF
    assert labels[2] <= CUTOFF


def test_exactly_what_was_planted_is_set_aside(
    result: Result, warehouse: duckdb.DuckDBPyConnection
) -> None:
    counted = warehouse.execute("SELECT input, count(*) FROM ops.quarantine GROUP BY ALL")
    planted = {
        name.removeprefix("quarantine:"): number
        for name, number in result.shop.planted.items()
        if name.startswith("quarantine:")
    }
    assert dict(counted.fetchall()) == planted
    landed = warehouse.execute(
        "SELECT input, sum(count_rows_in) FROM ops.landed_files GROUP BY ALL"
    )
    assert {name: int(rows) for name, rows in landed.fetchall()} == result.shop.count_rows


def test_every_gate_passed(warehouse: duckdb.DuckDBPyConnection) -> None:
    checks = warehouse.execute("SELECT gate, severity, is_passed FROM ops.data_quality").df()
    gates = {"raw", "staging", "as_of", "features", "predictions", "published"}
    assert set(checks["gate"]) == gates
    stops = checks[checks["severity"] == "stop"]
    assert stops["is_passed"].all()
    assert set(stops["gate"]) == gates
