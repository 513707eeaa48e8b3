"""In batches as at once: a shop that goes through in parts stands where it stood as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.decisions import shop as shops
from clv_pipeline.decisions.reasons import give_reasons
from clv_pipeline.decisions.shop import read_shop, stand_in_batches
from clv_pipeline.decisions.standing import decide
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.explaining import explain_values
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.progress import Counter
from clv_pipeline.scoring import estimate_alive, score_customers, score_in_batches
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame, replace_in_batches, replace_rows
from tests.models.panels import features_at, small_cdnow

CUTOFF = Cutoff.parse("1998-03-31")
# Three batches of DuckDB's smallest size.
CUSTOMERS, BATCH = 5_000, 2_048


@dataclass(frozen=True)
class Scene:
    settings: Settings
    model: CLVModel
    features: pd.DataFrame
    predictions: pd.DataFrame


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("shop")
    settings = build_settings(folder, {"value": {"horizons": [30, 180]}})
    features = features_at(small_cdnow(CUSTOMERS), CUTOFF)
    model = CLVModel((30, 180))
    model.history_ = HistoryModel(30).fit(history_matrix(features))
    predictions = score_customers(model, features, settings, "run", "v1")
    return Scene(settings, model, features, predictions)


@pytest.fixture(params=["sorted", "shuffled"])
def filled(scene: Scene, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The warehouse, its rows in one order or another."""
    rows = scene.features.assign(cutoff_date=scene.features["cutoff_date"].dt.date)
    if request.param == "shuffled":
        rows = rows.sample(frac=1, random_state=1)
    with open_warehouse(scene.settings) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS features")
        replace_rows(connection, "features.customer_features", rows)
    yield scene


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clv_pipeline.scoring.BATCH_ROWS", BATCH)
    monkeypatch.setattr(shops, "BATCH_ROWS", BATCH)


@pytest.mark.usefixtures("small_batches")
def test_batches_change_nothing(filled: Scene) -> None:
    settings, model, seen = filled.settings, filled.model, []
    key = {"cutoff_date": CUTOFF.day}
    with open_warehouse(settings) as connection:
        for _ in range(2):  # again in place of the first time
            batches = score_in_batches(
                connection, model, settings, CUTOFF, "run", "v1", seen.append
            )
            replace_in_batches(connection, "scores.customer_predictions", batches, key)
        assert len(seen) == 6 and sum(seen) == 2 * len(filled.features)
        predictions = read_frame(connection, "FROM scores.customer_predictions")
        keys = ["customer_id", "horizon_days"]
        pd.testing.assert_frame_equal(
            predictions[[*keys, "clv", "clv_p90", "expected_orders"]],
            filled.predictions[[*keys, "clv", "clv_p90", "expected_orders"]],
            check_dtype=False,
        )
        shop = read_shop(connection, settings, CUTOFF)
        batches = stand_in_batches(connection, settings, CUTOFF, model, shop, (), (30,))
        replace_in_batches(connection, "scores.customer_standing", batches, key)
        standing = read_frame(connection, "FROM scores.customer_standing")

    values = predictions[predictions["horizon_days"] == 180].set_index("customer_id")["clv"]
    explained = explain_values(model, filled.features, values, 180)
    alive = estimate_alive(model, filled.features)
    reasons = give_reasons(filled.features, explained)
    whole = decide(settings, filled.predictions, filled.features, alive, (30,), reasons)
    assert list(standing.columns) == list(whole.columns)
    pd.testing.assert_frame_equal(
        standing.sort_values("clv_rank", ignore_index=True), whole, check_dtype=False, rtol=1e-9
    )
    assert standing["reason_1"].notna().mean() > 0.9


def test_customers_without_predictions_are_not_passed_over(filled: Scene) -> None:
    with open_warehouse(filled.settings) as connection:
        few = filled.predictions[filled.predictions["customer_id"] != "00001"]
        replace_rows(connection, "scores.customer_predictions", few)
        with pytest.raises(ValueError, match="1 customers have features or predictions but not"):
            read_shop(connection, filled.settings, CUTOFF)


def test_a_batch_that_fails_leaves_what_was_there(settings: Settings) -> None:
    def parts(of: int) -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"day": [1], "n": [of]})
        if of > 1:
            raise ValueError("the second batch is broken")

    with open_warehouse(settings) as connection:
        replace_in_batches(connection, "scores.some", parts(1), {"day": 1})
        with pytest.raises(ValueError, match="second batch"):
            replace_in_batches(connection, "scores.some", parts(2), {"day": 1})
        assert read_frame(connection, "FROM scores.some")["n"].tolist() == [1]


def test_long_work_says_how_much_is_left() -> None:
    now, said = [0.0], list[str]()
    count = Counter(1_000_000, "customers", said.append, lambda: now[0])
    tick: Callable[[float, int], None] = lambda t, n: (now.__setitem__(0, t), count(n))[1]  # noqa: E731
    tick(1.0, 100_000)
    assert not said
    tick(10.0, 100_000)
    tick(11.0, 100_000)
    tick(200.0, 100_000)
    assert said == [
        "200,000 of 1,000,000 customers, 40 s left",
        "400,000 of 1,000,000 customers, 5 min 0 s left",
    ]
    assert np.isclose(count.done, 400_000)
