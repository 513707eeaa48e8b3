from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml

from clv_pipeline.dbt_project import dbt_environment, packaged_dbt_project
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import (
    DISABLED_OPTIMIZERS,
    RunUnderWayError,
    WarehouseError,
    hold_run_lock,
    open_database,
    open_published,
    open_warehouse,
    read_frame,
    read_row,
    replace_rows,
    write_atomically,
)


def test_rows_of_a_key_are_replaced_and_others_stay(settings: Settings) -> None:
    with open_warehouse(settings) as connection:
        for day, value in [(1, 10), (2, 20), (1, 11)]:
            rows = pd.DataFrame({"day": [day], "value": [value]})
            assert replace_rows(connection, "scores.t", rows, {"day": day}) == 1
        wider = pd.DataFrame({"more": ["x"], "day": [3], "value": [30]})
        replace_rows(connection, "scores.t", wider, {"day": 3})
        found = read_frame(connection, "SELECT * FROM scores.t ORDER BY day")
    assert found["value"].tolist() == [11, 20, 30]
    assert found["more"].isna().tolist() == [True, True, False]


def test_a_failed_replacement_leaves_what_was_there(settings: Settings) -> None:
    with open_warehouse(settings) as connection:
        replace_rows(connection, "scores.t", pd.DataFrame({"day": [1]}))
        with pytest.raises(Exception, match="Conversion"):
            replace_rows(connection, "scores.t", pd.DataFrame({"day": ["no number"]}))
        assert read_frame(connection, "SELECT * FROM scores.t")["day"].tolist() == [1]


def test_duckdb_takes_less_while_what_reads_from_it_needs_much(settings: Settings) -> None:
    limit = "SELECT current_setting('memory_limit')"
    with open_warehouse(settings) as connection:
        whole = connection.execute(limit).fetchone()
    with open_warehouse(settings, most_bytes=700e6) as connection:
        less = connection.execute(limit).fetchone()
    assert (whole, less) == (("3.7 GiB",), ("667.5 MiB",))


def test_a_damaged_file_says_what_to_do(settings: Settings) -> None:
    settings.paths.home.mkdir(parents=True)
    settings.paths.warehouse.write_bytes(b"this is no database" * 1000)
    with (
        pytest.raises(WarehouseError, match=r"move it away.*rebuilt from the raw files"),
        open_warehouse(settings),
    ):
        pass


def test_nothing_published_yet_is_a_sentence(settings: Settings) -> None:
    with pytest.raises(WarehouseError, match="Nothing is published"), open_published(settings):
        pass
    with (
        pytest.raises(WarehouseError, match="no warehouse"),
        open_warehouse(settings, read_only=True),
    ):
        pass


def _hold(settings: Settings, held: object, release: object) -> None:
    with hold_run_lock(settings):
        held.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_a_second_run_is_told_that_one_is_under_way(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(settings, held, release))
    other.start()
    assert held.wait(60)
    with pytest.raises(RunUnderWayError, match="Another run"), hold_run_lock(settings):
        pass
    release.set()
    other.join(30)
    with hold_run_lock(settings):
        pass


def test_no_half_file_is_left_under_the_name(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "champion.json"
    write_atomically(target, b"one")
    with pytest.raises(TypeError):
        write_atomically(target, "no bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"one"


_REFUNDED_SHOP = """
CREATE TABLE lines AS SELECT * FROM (VALUES ('a', 2), ('a', -1)) AS rows(user_id, lines);
CREATE TABLE owners (user_id VARCHAR, valid_from_date DATE);
"""
# The smallest question that DuckDB 2.0.0 answers with nobody while it trusts its statistics.
_WHO_KEPT_SOMETHING = """
SELECT lines.user_id FROM lines
LEFT JOIN owners
    ON lines.user_id = owners.user_id AND owners.valid_from_date <= DATE '2024-01-01'
GROUP BY 1 HAVING sum(lines) > 0
"""


def test_a_refund_hides_nobody_where_no_account_was_merged(
    settings: Settings, tmp_path: Path
) -> None:
    with open_warehouse(settings) as connection:
        connection.execute(_REFUNDED_SHOP)
        assert connection.execute(_WHO_KEPT_SOMETHING).fetchall() == [("a",)]
    with open_warehouse(settings, read_only=True) as connection:
        assert connection.execute(_WHO_KEPT_SOMETHING).fetchall() == [("a",)]
    for path in (None, tmp_path / "other.duckdb"):
        with open_database(path) as connection:
            connection.execute(_REFUNDED_SHOP)
            assert connection.execute(_WHO_KEPT_SOMETHING).fetchall() == [("a",)]


def test_dbt_s_connection_is_guarded_alike(settings: Settings) -> None:
    profile = yaml.safe_load((packaged_dbt_project() / "profiles.yml").read_text(encoding="utf-8"))
    options = profile["clv"]["outputs"]["warehouse"]["config_options"]
    variable = "CLV_DBT_DISABLED_OPTIMIZERS"
    assert variable in options["disabled_optimizers"]
    assert dbt_environment(settings)[variable] == DISABLED_OPTIMIZERS


def test_threads_that_read_and_write_take_turns(settings: Settings) -> None:
    with open_warehouse(settings) as connection:
        connection.execute("CREATE TABLE ops.counted AS SELECT 0 AS n")

    def look(number: int) -> int:
        # As sensors and schedules do, in threads of one process.
        with open_warehouse(settings, read_only=number % 3 > 0) as connection:
            time.sleep(0.005)
            if number % 3 == 0:
                connection.execute("UPDATE ops.counted SET n = n + 1")
            return int(read_row(connection, "SELECT n FROM ops.counted")[0])

    # Writers of one process may be at it at once; here one after the other, so that none conflict.
    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(look, number) for number in range(1, 30) if number % 3 > 0]
        for number in range(0, 30, 3):
            look(number)
        assert all(0 <= reader.result() <= 10 for reader in readers)
    assert look(1) == 10


def test_a_thread_does_not_wait_for_itself(settings: Settings) -> None:
    began = time.monotonic()
    with (
        open_warehouse(settings),
        pytest.raises(WarehouseError, match="different configuration"),
        open_warehouse(settings, read_only=True),
    ):
        pass
    assert time.monotonic() - began < 30
