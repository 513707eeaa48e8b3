"""Which cutoffs stay, held to a rule written in Python; and what dropping leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import duckdb
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from clv_pipeline.engines.building import drop_past_cutoffs
from clv_pipeline.keeping import is_kept
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, replace_rows

TABLES = ("as_of.customer_spine", "as_of.customer_labels", "features.customer_features")
JANUARY = date(2024, 1, 1)


def days_of(settings: Settings, table: str) -> set[date]:
    with open_warehouse(settings, read_only=True) as connection:
        rows = connection.execute(f"SELECT DISTINCT cutoff_date FROM {table}").fetchall()
    return {row[0] for row in rows}


def fill(settings: Settings, *, built: set[date], scored: set[date]) -> None:
    """Let tables hold two customers at each built cutoff, and predictions at the scored ones."""
    with open_warehouse(settings) as connection:
        for table, days in [*((name, built) for name in TABLES), ("scores.x", scored)]:
            schema = table.split(".")[0]
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            rows = pd.DataFrame(
                {
                    "customer_id": ["a", "b"] * len(days),
                    "cutoff_date": [day for day in sorted(days) for _ in range(2)],
                }
            )
            name = "scores.customer_predictions" if schema == "scores" else table
            replace_rows(connection, name, rows)
        # A relation that is computed when it is read, as feature views are.
        connection.execute("CREATE VIEW features.feat_rfm AS FROM features.customer_features")
        connection.execute(
            "CREATE TABLE ops.built_steps AS SELECT 'as_of' AS step, "
            "CAST(unnest(?::DATE[]) AS VARCHAR) AS cutoff",
            [sorted(built)],
        )


@limits(deadline=None)  # the machine may be busy
@given(
    gaps=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    count_newest=st.integers(2, 12),
)
def test_the_newest_stay_and_the_last_of_each_month(gaps: list[int], count_newest: int) -> None:
    days = [JANUARY + timedelta(days=sum(gaps[: k + 1])) for k in range(len(gaps))]
    last_of_month = {(day.year, day.month): day for day in days}
    wanted = set(days[-count_newest:]) | set(last_of_month.values())
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE held AS SELECT unnest(?::DATE[]) AS cutoff_date FROM range(2)", [days]
        )
        query = f"SELECT DISTINCT cutoff_date FROM held WHERE {is_kept('held', count_newest)}"
        found = {row[0] for row in connection.execute(query).fetchall()}
    assert found == wanted


@pytest.mark.parametrize("is_training", [False, True])
def test_nights_fall_behind_and_a_training_takes_the_place_of_the_last(
    make_settings: Callable[..., Settings], is_training: bool
) -> None:
    settings = make_settings(features={"keep_nights": 3})
    nights = {JANUARY + timedelta(days=k) for k in range(40)}  # to 9 February
    learned = {date(2023, 9, 1), date(2023, 10, 1)}
    fill(settings, built=nights | learned, scored=nights)
    tonight = [Cutoff(date(2024, 2, 10))]
    wanted = [*tonight, Cutoff(date(2023, 10, 1)), Cutoff(date(2024, 1, 5))]

    dropped = drop_past_cutoffs(
        settings, wanted if is_training else tonight, is_training=is_training
    )

    kept = {date(2024, 1, 31), *(date(2024, 2, day) for day in (7, 8, 9))}
    # What a training built stays until the next one; what that wants is not taken from it.
    kept |= {date(2023, 10, 1), date(2024, 1, 5)} if is_training else learned
    for table in TABLES:
        assert days_of(settings, table) == kept
    assert dropped == sorted((nights | learned) - kept)
    # Predictions can't be made again.
    assert days_of(settings, "scores.customer_predictions") == nights
    with open_warehouse(settings, read_only=True) as connection:
        noted = connection.execute("SELECT cutoff FROM ops.built_steps").fetchall()
    assert {date.fromisoformat(row[0]) for row in noted} == kept
    assert drop_past_cutoffs(settings, wanted, is_training=is_training) == []


def test_a_night_that_history_has_not_taken_in_stays(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings(features={"keep_nights": 2})
    nights = [date(2024, 3, day) for day in range(1, 7)]
    fill(settings, built=set(nights), scored=set(nights))
    standing = pd.DataFrame({"cutoff_date": nights, "run_id": "night"})
    # The second was scored once more, and its run broke off; the third has never got so far.
    again = standing["cutoff_date"] == nights[1]
    with open_warehouse(settings) as connection:
        connection.execute("CREATE SCHEMA clv")
        rows = standing.assign(run_id=standing["run_id"].mask(again, "again"))
        replace_rows(connection, "scores.customer_standing", rows)
        history = standing[standing["cutoff_date"] != nights[2]]
        replace_rows(connection, "clv.customer_clv_history", history)
    dropped = drop_past_cutoffs(settings, [Cutoff(date(2024, 3, 7))], is_training=False)
    assert dropped == [nights[0], nights[3]]


def test_a_first_run_has_nothing_to_drop(settings: Settings) -> None:
    with open_warehouse(settings):
        pass
    assert drop_past_cutoffs(settings, [Cutoff(JANUARY)], is_training=True) == []


def test_space_of_what_is_dropped_serves_again(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(features={"keep_nights": 2})
    sizes = []
    for night in range(12):
        day = date(2024, 3, 1) + timedelta(days=night)
        drop_past_cutoffs(settings, [Cutoff(day)], is_training=False)
        with open_warehouse(settings) as connection:
            for table in TABLES:
                schema = table.split(".")[0]
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (customer_id VARCHAR, cutoff_date DATE, "
                    "feature DOUBLE)"
                )
                connection.execute(
                    f"INSERT INTO {table} SELECT md5(i::VARCHAR), ?, hash(i, ?) / 3 "
                    "FROM range(60000) AS t(i)",
                    [day, night],
                )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS scores.customer_predictions (cutoff_date DATE)"
            )
            connection.execute("INSERT INTO scores.customer_predictions VALUES (?)", [day])
        sizes.append(settings.paths.warehouse.stat().st_size)
    assert days_of(settings, "features.customer_features") == {
        date(2024, 3, day) for day in (10, 11, 12)
    }
    assert max(sizes[6:]) <= 1.2 * max(sizes[:6])


def test_the_lake_drops_folders_of_cutoffs(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(features={"keep_nights": 2})
    nights = [date(2024, 3, day) for day in (1, 2, 3, 4)]
    table = settings.paths.lake / "as_of" / "customer_spine"
    for day in nights:
        folder = table / f"cutoff_date={day}"
        folder.mkdir(parents=True)
        duckdb.sql("SELECT 'a' AS customer_id").write_parquet(str(folder / "part.parquet"))
    (table.parent / "customer_spine.json").write_text(
        '{"columns": [["customer_id", "string"], ["cutoff_date", "date"]], "is_partitioned": true}'
    )
    with open_warehouse(settings) as connection:
        rows = pd.DataFrame({"cutoff_date": nights})
        replace_rows(connection, "scores.customer_predictions", rows)
        connection.execute("CREATE SCHEMA as_of")
        connection.execute(
            "CREATE VIEW as_of.customer_spine AS SELECT * FROM read_parquet("
            f"'{table}/*/*.parquet', hive_partitioning = true)"
        )
    dropped = drop_past_cutoffs(settings, [Cutoff(date(2024, 3, 5))], is_training=False)
    assert dropped == nights[:2]
    assert sorted(path.name for path in table.iterdir()) == [
        f"cutoff_date={day}" for day in nights[2:]
    ]
    assert days_of(settings, "as_of.customer_spine") == set(nights[2:])
