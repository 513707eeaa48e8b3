"""A cutoff that is only learned from holds a drawn share, whose rows are those of the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from hashlib import md5

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from clv_pipeline import transform
from clv_pipeline.dbt_project import dbt_variables
from clv_pipeline.drawing import (
    NOBODY_DRAWN,
    Draw,
    ceiling_of,
    panel_halvings,
    plan_draw,
    whole_days,
)
from clv_pipeline.features.store import FeatureStore
from clv_pipeline.orchestration.serving import ServingError, score
from clv_pipeline.reuse import STEPS, claim_step
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.dbt.random_shop import LAST_DAY, SPLIT, TIME_ZONE, random_shop
from tests.support import fill_raw

ASKED = Cutoff(LAST_DAY)
LEARNED = (Cutoff(date(2023, 6, 30)), Cutoff(SPLIT), Cutoff(date(2023, 11, 5)))
SCORED = Cutoff(date(2023, 11, 5))
CUTOFFS = (*LEARNED, ASKED)
TABLES = (
    *(f"as_of.customer_{name}" for name in ("spine", "history", "labels")),
    *(f"features.feat_{name}" for name in ("basket", "campaigns", "profile", "seasonality")),
    "features.feat_windows",
    "features.customer_features",
)


@dataclass(frozen=True)
class Built:
    """A home with cutoffs of which some hold everybody, and what they held when all did."""

    settings: Settings
    draw: Draw
    whole: dict[str, pd.DataFrame]
    drawn: dict[str, pd.DataFrame]


def limited(settings: Settings, rows: int) -> Settings:
    """Let a panel hold so many rows, fewer than settings allow."""
    return settings.model_copy(
        update={"model": settings.model.model_copy(update={"max_panel_rows": rows})}
    )


def build(settings: Settings, draw: Draw, cutoffs: tuple[Cutoff, ...] = CUTOFFS) -> None:
    variables = dbt_variables(settings, cutoffs, ASKED, "run", draw)
    for step in STEPS:
        transform.build_step(settings, step, variables)


def read_all(settings: Settings) -> dict[str, pd.DataFrame]:
    with open_warehouse(settings, read_only=True) as connection:
        return {
            table: read_frame(connection, f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES
        }


def drawn_of(frame: pd.DataFrame, draw: Draw) -> pd.DataFrame:
    """Take the rows that a draw takes, with Python's own hashes."""
    hashes = frame["customer_id"].map(
        lambda name: md5(name.encode(), usedforsecurity=False).hexdigest()
    )
    is_of_draw = frame["cutoff_date"].isin([pd.Timestamp(c.day) for c in draw.cutoffs])
    taken = frame[~is_of_draw | (hashes < ceiling_of(draw.halvings))]
    if "share_of_customers" in taken:
        share = is_of_draw.map({True: 0.5**draw.halvings, False: 1.0})
        taken = taken.assign(share_of_customers=share[taken.index])
    return taken.sort_values(list(taken), ignore_index=True)


def assert_same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    for table, frame in left.items():
        expected = right[table].sort_values(list(frame), ignore_index=True)
        assert_frame_equal(frame.sort_values(list(frame), ignore_index=True), expected)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    settings = build_settings(
        tmp_path_factory.mktemp("drawn"),
        {
            "project": {"time_zone": TIME_ZONE, "reporting_currency": "EUR"},
            "value": {"horizons": [30, 90]},
            "texts": {"scorer": "none"},
        },
    )
    shop = random_shop(3, customers=120)
    # One customer alone is written to, whom the draw does not take: zeros of the others say so.
    day = pd.Timestamp("2023-05-01")
    shop["campaign_exposures"] = pd.DataFrame(
        {"user_id": ["user 1"], "ts": [day], "campaign_id": ["c"], "arm": ["treated"]}
    )
    fill_raw(settings, shop)
    build(settings, NOBODY_DRAWN)
    whole = read_all(settings)
    with open_warehouse(settings) as connection:
        connection.execute(
            "INSERT INTO scores.customer_predictions BY NAME SELECT customer_id, cutoff_date, "
            "30 AS horizon_days FROM as_of.customer_spine WHERE cutoff_date = ?",
            [SCORED.day],
        )
    rows = len(whole["as_of.customer_spine"])
    draw = plan_draw(limited(settings, rows // 3), CUTOFFS, ASKED)
    build(settings, draw)
    yield Built(settings, draw, whole, read_all(settings))


def test_what_is_asked_for_or_was_scored_holds_everybody(built: Built) -> None:
    assert built.draw == Draw(frozenset(LEARNED) - {SCORED}, 2)
    assert plan_draw(built.settings, CUTOFFS, ASKED) == NOBODY_DRAWN
    assert plan_draw(limited(built.settings, 1), (ASKED,), ASKED) == NOBODY_DRAWN
    spark = built.settings.engine.model_copy(update={"name": "spark", "spark_learning_rows": 1})
    distributed = limited(built.settings.model_copy(update={"engine": spark}), 1)
    assert plan_draw(distributed, CUTOFFS, ASKED) == NOBODY_DRAWN


def test_a_night_that_fell_behind_is_drawn_like_any_other(built: Built) -> None:
    rows = len(built.whole["as_of.customer_spine"])
    few = built.settings.features.model_copy(update={"keep_nights": 2})
    settings = limited(built.settings.model_copy(update={"features": few}), rows // 3)
    assert SCORED not in plan_draw(settings, CUTOFFS, ASKED).cutoffs
    later = [SCORED.shift(days).day for days in (1, 2)]
    with open_warehouse(settings) as connection:
        connection.execute(
            "INSERT INTO scores.customer_predictions (cutoff_date) SELECT unnest(?::DATE[])",
            [later],
        )
    try:
        assert plan_draw(settings, CUTOFFS, ASKED).cutoffs == set(LEARNED)
    finally:
        with open_warehouse(settings) as connection:
            connection.execute(
                "DELETE FROM scores.customer_predictions WHERE list_contains(?::DATE[], "
                "cutoff_date)",
                [later],
            )


def test_the_drawn_have_the_rows_that_they_have_among_everybody(built: Built) -> None:
    expected = {table: drawn_of(frame, built.draw) for table, frame in built.whole.items()}
    assert len(expected["as_of.customer_spine"]) < len(built.whole["as_of.customer_spine"])
    assert_same(built.drawn, expected)


def test_a_draw_that_reads_no_more_than_it_needs_knows_what_the_shop_does(built: Built) -> None:
    at = built.draw.cutoffs - {SCORED}
    rows = built.drawn["features.feat_campaigns"]
    rows = rows[rows["cutoff_date"].isin([pd.Timestamp(cutoff.day) for cutoff in at])]
    assert len(rows) and "user 1" not in set(rows["customer_id"])
    assert (rows["count_campaigns"] == 0).all()


def test_a_sample_is_no_snapshot_and_is_not_scored(built: Built) -> None:
    whole = [SCORED.day, ASKED.day]
    assert FeatureStore(built.settings).snapshot_dates() == whole
    spine = pd.DataFrame({"customer_id": ["user 3"], "timestamp": [LEARNED[1].day]})
    found = FeatureStore(built.settings).get_historical_features(spine)
    assert found["snapshot_date"].isna().all()
    with pytest.raises(ServingError, match=r"features of 25.000% of the customers alone"):
        score(built.settings, LEARNED[1], "run")


def test_what_was_built_knows_its_draw_and_is_made_whole_where_it_is_asked_for(
    built: Built,
) -> None:
    settings, asked = built.settings, LEARNED[1]

    def standing(draw: Draw, cutoffs: tuple[Cutoff, ...]) -> set[str]:
        variables = dbt_variables(settings, cutoffs, ASKED, "later", draw)
        return {step for step in STEPS if claim_step(settings, step, variables).results is not None}

    assert standing(built.draw, CUTOFFS) == set(STEPS)
    assert standing(replace(built.draw, halvings=3), CUTOFFS) == {"staging"}
    assert standing(NOBODY_DRAWN, (asked,)) == {"staging"}
    assert standing(NOBODY_DRAWN, (SCORED, ASKED)) == set(STEPS)
    build(settings, NOBODY_DRAWN, (asked,))
    with open_warehouse(settings, read_only=True) as connection:
        assert whole_days(connection, "features.customer_features") == [
            asked.day, SCORED.day, ASKED.day
        ]  # fmt: skip
    found = read_all(settings)
    for table, frame in built.whole.items():
        is_asked = frame["cutoff_date"] == pd.Timestamp(asked.day)
        rebuilt = found[table][found[table]["cutoff_date"] == pd.Timestamp(asked.day)]
        assert_same({table: rebuilt}, {table: frame[is_asked]})
    # Halves as the shop doubles, and takes some of those that it took before.
    with open_warehouse(settings, read_only=True) as connection:
        days = [cutoff.day for cutoff in CUTOFFS]
        assert panel_halvings(connection, settings, days) == 2
        half = len(built.whole["as_of.customer_spine"]) // 6
        assert panel_halvings(connection, limited(settings, half), days) == 3
        assert panel_halvings(connection, settings, [asked.day]) == 0
