"""How predictions turned out: the mart against pandas and the project's own measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.dbt_project import dbt_variables
from clv_pipeline.evaluation.metrics import coverage, mae, normalized_gini, total_bias
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages, run_dbt
from clv_pipeline.warehouse import open_warehouse, read_frame, replace_rows
from tests.support import fill_raw

EARLY, LATE = Cutoff.parse("2024-03-01"), Cutoff.parse("2024-03-31")
CUSTOMERS = [f"c{k}" for k in range(40)]


def transactions() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    first = pd.DataFrame(
        {
            "user_id": CUSTOMERS,
            "ts": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 59, 40), unit="D"),
        }
    )
    later = pd.DataFrame(
        {
            "user_id": rng.choice(CUSTOMERS, 90),
            "ts": pd.Timestamp("2024-03-02") + pd.to_timedelta(rng.integers(0, 80, 90), unit="D"),
        }
    )
    rows = pd.concat([first, later], ignore_index=True)
    return rows.assign(amount=rng.integers(1, 20, len(rows)).astype(float))


def predict(settings: Settings, cutoff: Cutoff, run_id: str) -> pd.DataFrame:
    rng = np.random.default_rng(cutoff.day.day)
    parts = []
    for horizon in (30, 60):
        value = rng.integers(0, 25, len(CUSTOMERS)).astype(float)
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": CUSTOMERS,
                    "cutoff_date": cutoff.day,
                    "horizon_days": horizon,
                    "clv": value,
                    "clv_p10": value * 0.2,
                    "clv_p90": value * 1.8,
                    "probability_purchase": 0.4,
                    "model_version": "m",
                    "run_id": run_id,
                }
            )
        )
    frame = pd.concat(parts, ignore_index=True)
    with open_warehouse(settings) as connection:
        replace_rows(connection, "scores.customer_predictions", frame, {"cutoff_date": cutoff.day})
    return frame


def review(settings: Settings, data_through: Cutoff, *options: str) -> pd.DataFrame:
    variables = dbt_variables(settings, [data_through], data_through, "run")
    run_dbt(settings, ["run", "--select", "customer_clv_history", *options], variables)
    run_dbt(settings, ["build", "--select", "matured_predictions", *options], variables)
    with open_warehouse(settings, read_only=True) as connection:
        return read_frame(connection, "SELECT * FROM clv.matured_predictions ORDER BY ALL")


def test_predictions_are_reviewed_once_their_label_has_matured(tmp_path: Path) -> None:
    settings = build_settings(tmp_path, {"value": {"horizons": [30, 60]}})
    fill_raw(settings, {"transactions": transactions()})
    stages = ["staging", "intermediate", "as_of"]
    build_stages(settings, [EARLY, LATE], LATE.shift(60), "run", stages)
    late = predict(settings, LATE, "first")
    predict(settings, EARLY, "first")
    first = review(settings, LATE.shift(30))
    pairs = set(zip(first["cutoff_date"].dt.date, first["horizon_days"], strict=True))
    assert pairs == {(EARLY.day, 30), (EARLY.day, 60), (LATE.day, 30)}

    # One cutoff is scored again, and a label has matured since.
    predictions = pd.concat([late, predict(settings, EARLY, "second")], ignore_index=True)
    found = review(settings, LATE.shift(60))
    assert len(found.drop_duplicates(["cutoff_date", "horizon_days"])) == 4
    runs = found.groupby(found["cutoff_date"].dt.date)["run_id"].unique()
    assert list(runs[EARLY.day]) == ["second"]
    assert list(runs[LATE.day]) == ["first"]

    orders = transactions()
    first_month = orders.groupby("user_id")["ts"].min().dt.strftime("%Y-%m")
    for (cutoff, horizon), rows in predictions.groupby(["cutoff_date", "horizon_days"]):
        start = pd.Timestamp(cutoff)
        window = orders[
            (orders["ts"] > start) & (orders["ts"] <= start + pd.Timedelta(days=horizon))
        ]
        actual = window.groupby("user_id")["amount"].sum().reindex(rows["customer_id"]).fillna(0.0)
        rows = rows.assign(actual=actual.to_numpy(), cohort=rows["customer_id"].map(first_month))
        groups = {"all": rows, **dict(tuple(rows.groupby("cohort")))}
        is_pair = (found["cutoff_date"] == start) & (found["horizon_days"] == horizon)
        table = found[is_pair].set_index("cohort")
        assert set(table.index) == set(groups)
        for name, group in groups.items():
            y, p, line = group["actual"], group["clv"], table.loc[name]
            assert line["count_customers"] == len(group)
            assert line["sum_actual"] == pytest.approx(y.sum())
            assert line["total_bias"] == pytest.approx(total_bias(y, p))
            assert line["mean_absolute_error"] == pytest.approx(mae(y, p))
            assert line["normalized_gini"] == pytest.approx(normalized_gini(y, p), abs=1e-6)
            assert line["coverage_80"] == pytest.approx(
                coverage(y, group["clv_p10"], group["clv_p90"])
            )
            assert line["expected_buyers"] == pytest.approx(0.4 * len(group))
            assert line["actual_buyers"] == (y > 0).sum()


def test_orders_that_come_a_day_late_are_reviewed_after_all(tmp_path: Path) -> None:
    settings = build_settings(tmp_path, {"value": {"horizons": [30, 60]}})
    end = LATE.shift(30)
    orders = transactions()
    orders = orders[orders["ts"] < pd.Timestamp(end.day)]
    fill_raw(settings, {"transactions": orders})
    stages = ["staging", "intermediate", "as_of"]
    build_stages(settings, [EARLY, LATE], end, "run", stages)
    predict(settings, EARLY, "first")
    predict(settings, LATE, "first")
    before = review(settings, end)
    last_day = pd.DataFrame({"user_id": ["c1"], "ts": [pd.Timestamp(end.day)], "amount": [500.0]})
    fill_raw(settings, {"transactions": pd.concat([orders, last_day], ignore_index=True)})
    build_stages(settings, [end.shift(1)], end.shift(1), "next", stages)
    after = review(settings, end.shift(1))

    def actual(found: pd.DataFrame, cutoff: Cutoff, horizon: int) -> float:
        at = (found["cutoff_date"] == pd.Timestamp(cutoff.day)) & (found["cohort"] == "all")
        return float(found.loc[at & (found["horizon_days"] == horizon), "sum_actual"].iloc[0])

    assert actual(after, LATE, 30) == pytest.approx(actual(before, LATE, 30) + 500)
    assert actual(after, EARLY, 30) == pytest.approx(actual(before, EARLY, 30))
    assert len(after) == len(before)


def sum_actual(review: pd.DataFrame, name: str = "sum_actual") -> float:
    return float(review.loc[review["cohort"] == "all", name].iloc[0])


def test_what_comes_in_late_is_counted_once_the_window_has_settled(tmp_path: Path) -> None:
    orders = transactions()
    window = orders["ts"].between("2024-03-02", "2024-04-01", inclusive="left")
    # A tenth of the window's orders came in weeks after it, two beyond the day on which it settles.
    late = orders[window].index[::10]
    came_in = orders["ts"].copy()
    came_in[late] = pd.Timestamp("2024-04-20")
    came_in[orders[window].index[5:7]] = pd.Timestamp("2024-05-02")
    orders = orders.assign(ingested_at=came_in)
    known = {
        day: float(orders.loc[window & (came_in < pd.Timestamp(day)), "amount"].sum())
        for day in ("2024-04-01", "2024-05-01")
    }
    assert known["2024-04-01"] < known["2024-05-01"] < orders.loc[window, "amount"].sum()
    matured, settled = EARLY.shift(30), EARLY.shift(60)
    answers = []
    for name, ends in {
        "night after night": [matured, matured.shift(15), settled, settled.shift(15)],
        "an older day once more": [matured, settled, matured.shift(15)],
        "once, late": [settled.shift(20)],
    }.items():
        settings = build_settings(tmp_path / name, {"value": {"horizons": [30]}})
        fill_raw(settings, {"transactions": orders})
        stages = ["staging", "intermediate", "as_of"]
        build_stages(settings, [EARLY], settled.shift(20), "run", stages)
        predict(settings, EARLY, "first")
        reviews = [review(settings, end).query("horizon_days == 30") for end in ends]
        if len(reviews) > 1:
            assert sum_actual(reviews[0]) == pytest.approx(known["2024-04-01"])
        for column, day in (
            ("sum_actual", "2024-05-01"),
            ("sum_actual_when_matured", "2024-04-01"),
        ):
            assert sum_actual(reviews[-1], column) == pytest.approx(known[day]), name
        answers.append(reviews[-1].reset_index(drop=True))
    for answer in answers[1:]:
        pd.testing.assert_frame_equal(answers[0], answer)
    assert set(answers[0]["known_through_date"].dt.date) == {settled.day}


def test_reviews_of_before_they_said_what_they_knew_are_made_again(tmp_path: Path) -> None:
    settings = build_settings(tmp_path, {"value": {"horizons": [30]}})
    fill_raw(settings, {"transactions": transactions()})
    build_stages(settings, [EARLY], LATE.shift(30), "run", ["staging", "intermediate", "as_of"])
    predict(settings, EARLY, "first")
    before = review(settings, LATE.shift(30))
    with open_warehouse(settings) as connection:
        connection.execute("UPDATE clv.matured_predictions SET sum_actual = 0")
        for column in ("known_through_date", "sum_actual_when_matured"):
            connection.execute(f"ALTER TABLE clv.matured_predictions DROP COLUMN {column}")
    after = review(settings, LATE.shift(30))
    pd.testing.assert_frame_equal(before, after[before.columns], check_like=True)


def test_cohorts_and_history_stay_when_as_of_tables_have_dropped_the_cutoff(
    tmp_path: Path,
) -> None:
    settings = build_settings(tmp_path, {"value": {"horizons": [30]}})
    fill_raw(settings, {"transactions": transactions()})
    build_stages(settings, [EARLY], EARLY, "run", ["staging", "intermediate", "as_of"])
    standing = predict(settings, EARLY, "first").query("horizon_days == 30")
    with open_warehouse(settings) as connection:
        columns = ["customer_id", "cutoff_date", "run_id"]
        replace_rows(connection, "scores.customer_standing", standing[columns])
    assert review(settings, EARLY).empty  # nothing has matured
    with open_warehouse(settings) as connection:
        connection.execute("DELETE FROM as_of.customer_history")
    assert review(settings, EARLY).empty  # the same day once more

    months = transactions().groupby("user_id")["ts"].min().dt.strftime("%Y-%m")
    for options in ([], ["--full-refresh"]):
        found = review(settings, EARLY.shift(30), *options)
        assert dict(zip(found["cohort"], found["count_customers"], strict=True)) == {
            **months.value_counts(),
            "all": len(CUSTOMERS),
        }
