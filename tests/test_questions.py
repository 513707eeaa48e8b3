"""The questions of docs/questions.sql, where there was more than one training and cutoff."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

QUESTIONS = Path(__file__).parents[1] / "docs" / "questions.sql"


def ask(connection: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, object]]:
    query = QUESTIONS.read_text().split(f"-- name: {name}\n")[1].split("-- name: ")[0]
    frame = connection.execute(query).df()
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


@pytest.fixture
def shop() -> Iterator[duckdb.DuckDBPyConnection]:
    """Two trainings, of which the second serves, and two cutoffs."""
    with duckdb.connect() as connection:
        connection.execute("""
            CREATE SCHEMA clv;
            CREATE TABLE clv.model_leaderboard AS
            SELECT model, 30 AS horizon_days, evaluation_date::DATE AS evaluation_date,
                figure AS normalized_gini, figure AS spearman, figure AS rmse, figure AS total_bias,
                figure AS top_10_capture, model_version,
                model = 'ensemble' AND model_version = 'new' AS is_champion
            FROM (VALUES ('ensemble'), ('svm')) AS models(model),
                (VALUES ('old', '2024-01-01', 0.1), ('new', '2024-02-01', 0.5),
                    ('new', '2024-03-01', 0.7)) AS trained(model_version, evaluation_date, figure);
            CREATE TABLE clv.model_comparisons AS
            SELECT DISTINCT 30 AS horizon_days, 'ensemble' AS model, 'svm' AS other_model,
                'normalized_gini' AS measure, 0.1 AS advantage, 0.0 AS advantage_low,
                0.2 AS advantage_high, 1 AS count_cutoffs_better, 1 AS count_cutoffs,
                'better' AS verdict, model_version
            FROM clv.model_leaderboard;
            CREATE TABLE clv.model_effects AS
            SELECT model, horizon_days, evaluation_date, 'T' AS driver, 1 AS driver_rank,
                'up' AS direction, normalized_gini AS share, 1.0 AS fidelity, model_version
            FROM clv.model_leaderboard;
            CREATE TABLE clv.backtest_metrics AS
            SELECT model, horizon_days, 'profit_at_100' AS measure, 'all' AS slice_name,
                100 * normalized_gini AS figure, 1.0 AS spread_over_cutoffs, 2 AS count_cutoffs,
                model_version
            FROM clv.model_leaderboard;
            CREATE TABLE clv.feature_effects AS
            SELECT cutoff_date::DATE AS cutoff_date, horizon_days, 'all' AS segment,
                'concept' AS level, driver, driver_rank, 'up' AS direction,
                1.0 AS mean_absolute_effect, 0.5 AS share
            FROM (VALUES ('2024-01-01', 365), ('2024-03-01', 30), ('2024-03-01', 90))
                AS cutoffs(cutoff_date, horizon_days),
                (VALUES ('recency', 1), ('tenure', 2)) AS drivers(driver, driver_rank)
        """)
        yield connection


def test_only_the_training_that_serves_is_shown(shop: duckdb.DuckDBPyConnection) -> None:
    board = ask(shop, "can_we_trust_it")
    assert [str(row["evaluation_date"])[:10] for row in board] == [
        *["2024-03-01"] * 2,
        *["2024-02-01"] * 2,
    ]
    assert len(ask(shop, "is_it_better_beyond_noise")) == 1
    money = ask(shop, "what_is_it_worth_in_money")
    assert {row["model"]: row["profit_at_100"] for row in money} == {"ensemble": 60, "svm": 60}


def test_drivers_are_the_newest(shop: duckdb.DuckDBPyConnection) -> None:
    effects = ask(shop, "what_drives_the_models_that_no_shap_explains")
    assert [(row["model"], row["share"]) for row in effects] == [("ensemble", 0.7), ("svm", 0.7)]
    drivers = ask(shop, "what_drives_the_values")
    assert [row["driver"] for row in drivers] == ["recency", "tenure"]
