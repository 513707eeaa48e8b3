"""A cutoff that is only learned from holds a drawn share, whose rows are those of the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

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
    from hashlib import md5

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


def test_the_drawn_have_the_rows_that_they_have_among_everybody(built: Built) -> None:
    expected = {table: drawn_of(frame, built.draw) for table, frame in built.whole.items()}
    assert len(expected["as_of.customer_spine"]) < len(built.whole["as_of.customer_spine"])
    assert_same(built.drawn, expected)
