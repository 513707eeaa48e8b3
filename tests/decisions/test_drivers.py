"""What drives the values: concepts exactly, features by a stand-in, and partial dependence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.decisions.drivers import (
    DEPENDENCE_COLUMNS,
    EFFECT_COLUMNS,
    describe_drivers,
    set_driver,
)
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.explaining import explain_values
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.panel import ALWAYS_KEPT
from clv_pipeline.models.surrogate import SurrogateTrees
from clv_pipeline.tables import EVALUATION_TABLES
from clv_pipeline.timeline import Cutoff
from tests.models.panels import column, features_at, small_cdnow

AS_OF = Cutoff.parse("1998-03-31")
HORIZONS = (30, 180)


@pytest.fixture(scope="module")
def shop():
    """A model of histories alone, its customers and their values."""
    rows = features_at(small_cdnow(500), AS_OF)
    model = CLVModel(HORIZONS)
    model.history_ = HistoryModel(1).fit(history_matrix(rows))
    values = pd.DataFrame(
        model.predict(rows)["value"],
        index=pd.Index(rows["customer_id"], name="customer_id"),
        columns=list(HORIZONS),
    )
    names = [c for c in rows if c not in ("customer_id", "cutoff_date")]
    return model, rows, values, tuple(column(name) for name in names)


@pytest.fixture(scope="module")
def described(shop):
    model, rows, values, columns = shop
    segments = pd.Series(
        np.where(rows["frequency"] > 0, "repeat", "once"), index=rows["customer_id"]
    )
    segments.iloc[:3] = "a handful"
    return describe_drivers(model, rows, values, segments, columns)


def test_the_tables_are_those_that_are_published(described):
    stamps = ["cutoff_date", "model_version", "run_id"]
    for frame, name, columns in zip(
        described,
        ("feature_effects", "partial_dependence"),
        (EFFECT_COLUMNS, DEPENDENCE_COLUMNS),
        strict=True,
    ):
        assert tuple(frame.columns) == columns
        assert {*columns, *stamps} == {c.name for c in EVALUATION_TABLES[name].columns}


def test_every_horizon_and_segment_has_its_drivers(described):
    effects, _ = described
    assert set(effects["horizon_days"]) == set(HORIZONS)
    assert set(effects["segment"]) == {"all", "repeat", "once"}
    keys = ["horizon_days", "segment", "level"]
    for _, group in effects.groupby(keys):
        assert group["share"].sum() == pytest.approx(1)
        assert group["driver_rank"].tolist() == list(range(1, len(group) + 1))
        assert group["mean_absolute_effect"].is_monotonic_decreasing
        assert (group["mean_effect"].abs() <= group["mean_absolute_effect"] + 1e-9).all()


def test_concepts_are_those_of_the_customers_reasons(shop, described):
    model, rows, values, columns = shop
    effects, _ = described
    found = effects.query("horizon_days == 180 and segment == 'all' and level == 'concept'")
    assert found["count_customers"].unique().tolist() == [len(rows)]
    exact = explain_values(model, rows, values[180], 180, columns).effects
    sizes = exact.abs().mean()
    for line in found.itertuples():
        assert line.mean_absolute_effect == pytest.approx(sizes[line.driver])
        assert line.mean_effect == pytest.approx(exact[line.driver].mean())
    directions = found.set_index("driver")["direction"]
    assert directions["recency"] == "down"  # more days of silence, less value
    assert directions["frequency"] == directions["spend"] == "up"


def test_features_are_told_apart_with_a_stated_fidelity(described):
    effects, _ = described
    features = effects[effects["level"] == "feature"]
    # Histories serve: what they do not read drives nothing, however much it goes along with it.
    assert set(features["driver"]) <= ALWAYS_KEPT
    assert features["fidelity"].between(0.8, 1).all()
    assert {"days_since_last_order", "sum_value"} & set(
        features.query("segment == 'all' and driver_rank <= 4")["driver"]
    )


def test_partial_dependence_follows_the_model(shop, described):
    model, rows, _, _ = shop
    _, dependence = described
    for (horizon, driver), group in dependence.groupby(["horizon_days", "driver"]):
        assert group["driver_value"].is_monotonic_increasing
        assert group["point"].tolist() == list(range(1, len(group) + 1))
        count = group["count_customers"].iloc[0]
        sample = rows.sort_values("customer_id").head(count)
        first = group.iloc[0]
        if len(rows) == count:  # everyone was asked
            asked = model.predict(set_driver(sample, driver, first["driver_value"]))["value"]
            expected = asked[:, HORIZONS.index(horizon)].mean()
            assert first["mean_predicted"] == pytest.approx(expected)
    assert (dependence["mean_predicted"] >= 0).all()
    assert set(dependence["horizon_days"]) == set(HORIZONS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frequency", 0.0),
        ("frequency", 7.0),
        ("recency", 0.0),
        ("recency", 900.0),
        ("T", 3.0),
        ("days_since_last_order", 0.0),
        ("days_since_last_order", 900.0),
        ("count_order_days", 1.0),
        ("count_order_days", 5.0),
        ("sum_value", 12.0),
    ],
)
def test_a_changed_history_stays_possible(shop, name, value):
    model, rows, _, _ = shop
    nobody = rows.iloc[:1].assign(customer_id="nobody")
    unknown = ["recency", "T", "days_since_last_order", "monetary_value"]
    nobody[unknown] = np.nan
    nobody[["frequency", "count_order_days"]] = 0.0  # as feat_rfm has it
    both = pd.concat([rows, nobody], ignore_index=True)
    found = set_driver(both, name, value)
    last = found.iloc[-1]
    if name in ("sum_value",):
        assert last["sum_value"] == value
    else:
        assert last[unknown].isna().all()
        assert last["frequency"] == 0 and last["count_order_days"] == 0
    known = found.iloc[:-1]
    assert ((known["recency"] >= 0) & (known["recency"] <= known["T"])).all()
    assert (known.loc[known["frequency"] == 0, "recency"] == 0).all()
    assert (known["count_order_days"] == known["frequency"] + 1).all()
    assert (known["days_since_last_order"] == known["T"] - known["recency"]).all()
    assert known.loc[known["frequency"] > 0, "monetary_value"].notna().all()
    if name in ("T", "frequency", "count_order_days", "days_since_last_order"):
        assert (known[name] == value).all()
    assert np.isfinite(model.predict(found)["value"]).all()


def test_a_surrogate_says_how_well_it_stands_in():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "customer_id": [str(k) for k in range(900)],
            "cutoff_date": pd.Timestamp("2024-01-01"),
            "a": rng.uniform(0, 10, 900),
            "b": rng.uniform(0, 10, 900),
        }
    )
    X = Encoder(("a", "b"), {}).transform(frame)
    steps = np.where(frame["a"] < 5, 2.0, 40.0)
    tree = SurrogateTrees(trees=1, depth=2).fit(X, steps)
    assert tree.fidelity_ > 0.99
    rules = tree.rules(X)
    assert rules.startswith("if a < 5") and "if b" not in rules
    figures = [
        float(line)
        for line in rules.replace("else:", "").split("\n")
        if line.strip() and "if" not in line
    ]
    assert min(figures) == pytest.approx(2.0, rel=0.05)
    assert max(figures) == pytest.approx(40.0, rel=0.05)

    parts = tree.contributions(X)
    np.testing.assert_allclose(parts.total, tree.predict(X), rtol=1e-4)
    noise = SurrogateTrees(trees=1, depth=2).fit(X, rng.uniform(1, 100, 900))
    assert noise.fidelity_ < 0.2
    constant = SurrogateTrees().fit(X, np.full(900, 3.0))
    assert constant.fidelity_ == 1.0
    np.testing.assert_allclose(constant.predict(X), 3.0, rtol=1e-3)
