from __future__ import annotations

import pandas as pd
import pytest

from clv_pipeline.orchestration import learning
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame

CUTOFFS = (Cutoff.parse("2024-01-31"), Cutoff.parse("2024-02-29"))


@pytest.fixture
def filled(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Twenty thousand customers at two cutoffs."""
    monkeypatch.setattr(learning, "_read_names", lambda *_: ["frequency"])
    with open_warehouse(settings) as connection:
        for schema in ("features", "as_of", "intermediate"):
            connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(
            "CREATE TABLE features.customer_features AS SELECT 'c' || i AS customer_id, "
            "unnest([DATE '2024-01-31', DATE '2024-02-29']) AS cutoff_date, i % 7 AS frequency "
            "FROM range(20000) AS t(i)"
        )
        connection.execute(
            "CREATE TABLE as_of.customer_spine AS SELECT customer_id, cutoff_date, "
            "1.0::DOUBLE AS share_of_customers FROM features.customer_features"
        )
        connection.execute(
            "CREATE TABLE intermediate.int_customer_days AS SELECT customer_id AS user_id, "
            "DATE '2024-01-01' AS activity_date, DATE '2024-01-01' AS known_date "
            "FROM features.customer_features WHERE cutoff_date < '2024-02-01'"
        )
        connection.execute(
            "CREATE TABLE as_of.customer_labels AS SELECT customer_id, cutoff_date, "
            "30 AS horizon_days FROM features.customer_features WHERE cutoff_date < '2024-02-01'"
        )
    return settings


def test_a_panel_that_fits_is_read_whole(filled: Settings) -> None:
    features, labels = learning.read_panel(filled, CUTOFFS, ())
    assert (len(features), len(labels)) == (40_000, 20_000)
    assert features["frequency"].dtype == "float32"
    keys = ["customer_id", "cutoff_date"]
    pd.testing.assert_frame_equal(features, features.sort_values(keys, ignore_index=True))
    with open_warehouse(filled, read_only=True) as connection:
        raw = read_frame(connection, "FROM features.customer_features").sort_values(keys)
    assert features["customer_id"].tolist() == raw["customer_id"].tolist()
    assert features["frequency"].tolist() == raw["frequency"].tolist()
    assert learning._describe_sample(filled, CUTOFFS) == []


def limited(settings: Settings) -> Settings:
    model = settings.model.model_copy(update={"max_panel_rows": 10_000})
    return settings.model_copy(update={"model": model})


def test_of_a_larger_panel_the_same_customers_at_each_cutoff(
    filled: Settings,
) -> None:
    filled = limited(filled)
    features, labels = learning.read_panel(filled, CUTOFFS, ())
    assert len(features) == pytest.approx(10_000, rel=0.05)
    sets = features.groupby("cutoff_date")["customer_id"].agg(set)
    assert sets.iloc[0] == sets.iloc[1] == set(labels["customer_id"])
    assert features["frequency"].mean() == pytest.approx(3, abs=0.1)
    (note,) = learning._describe_sample(filled, CUTOFFS)
    assert "25.000% of the customers" in note and "more than 10,000 rows" in note


def test_of_cutoffs_that_hold_different_shares_those_that_all_hold(filled: Settings) -> None:
    whole, _ = learning.read_panel(limited(filled), CUTOFFS, ())
    with open_warehouse(filled) as connection:
        connection.execute(
            "DELETE FROM features.customer_features "
            "WHERE cutoff_date = '2024-01-31' AND md5(customer_id) >= '20000000'"
        )
        connection.execute(
            "UPDATE as_of.customer_spine SET share_of_customers = 0.125 "
            "WHERE cutoff_date = '2024-01-31'"
        )
    for settings in (filled, limited(filled)):
        features, labels = learning.read_panel(settings, CUTOFFS, ())
        sets = features.groupby("cutoff_date")["customer_id"].agg(set)
        assert sets.iloc[0] == sets.iloc[1] == set(labels["customer_id"])
        assert sets.iloc[0] < set(whole["customer_id"])
        (note,) = learning._describe_sample(settings, CUTOFFS)
        assert "12.500% of the customers" in note
