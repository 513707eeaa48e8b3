"""Bad data, errors in a check, and nothing to check are told apart, without personal data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import duckdb
import pytest

from clv_pipeline.warehouse import open_database
from data_quality.expectations import judge
from data_quality.measuring import Finding, check_suite
from data_quality.rules import Rule, Suite, each_row, one_row_per, show


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with open_database() as opened:
        opened.execute(
            "CREATE TABLE t AS SELECT * FROM (VALUES ('anna', 1.0::DOUBLE), ('bert', -2.0), "
            "('cleo', NULL)) AS v(name, amount)"
        )
        yield opened


def check(connection: duckdb.DuckDBPyConnection, *rules: Rule) -> list[Finding]:
    suite = Suite("main.t", "t", rules, key="name", needs=("main.t",))
    return check_suite(connection, suite, lambda name: f"<{len(name)}>")


def test_rows_that_break_a_rule_are_counted_and_named(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    [finding] = check(connection, each_row("positive", "amount > 0", "are not positive", "amount"))
    assert not finding.is_passed
    # A null is no positive number: it must not slip through.
    assert (finding.observed, finding.count_checked, finding.count_failed) == (2.0, 3, 2)
    assert finding.message == "main.t: 2 of 3 rows are not positive (rows <4>, <4>)"


def test_rule_that_holds(connection: duckdb.DuckDBPyConnection) -> None:
    [finding] = check(connection, each_row("named", "name <> ''", "have no name"))
    assert (finding.is_passed, finding.message, finding.failed_keys) == (True, "holds", ())


def test_error_in_one_check_is_its_own_failure(connection: duckdb.DuckDBPyConnection) -> None:
    broken, sound = check(
        connection,
        each_row("broken", "no_such_column > 0", "are not positive"),
        each_row("positive", "amount > 0", "are not positive"),
    )
    assert not broken.is_passed
    assert broken.observed is None
    assert broken.message.startswith(
        "main.t: check 'broken' could not be carried out: Binder Error"
    )
    assert "no_such_column" in broken.message
    assert sound.message.startswith("main.t: 2 of 3 rows are not positive")


def test_error_does_not_repeat_values(connection: duckdb.DuckDBPyConnection) -> None:
    [finding] = check(connection, Rule("number", "max(name::INTEGER)", "", maximum=1))
    assert "could not be carried out: Conversion Error" in finding.message
    assert not any(name in finding.message for name in ("anna", "bert", "cleo"))


@pytest.mark.parametrize(("figure", "why"), [("NULL", "measured nothing"), ("'nan'", "no number")])
def test_figure_that_is_none_fails(
    connection: duckdb.DuckDBPyConnection, figure: str, why: str
) -> None:
    rule = Rule("figure", f"max({figure}::DOUBLE)", "", minimum=0)
    [finding] = check(connection, rule)
    assert not finding.is_passed
    assert why.replace("no number", "not a number") in finding.message


def test_nothing_to_compare_with_passes_and_says_so(connection: duckdb.DuckDBPyConnection) -> None:
    rule = Rule("figure", "max(NULL::DOUBLE)", "", minimum=0, if_nothing="nothing earlier")
    [finding] = check(connection, rule)
    assert (finding.is_passed, finding.message) == (True, "nothing earlier")


def test_infinite_figure_fails(connection: duckdb.DuckDBPyConnection) -> None:
    [finding] = check(connection, Rule("figure", "max('inf'::DOUBLE)", "{observed}", maximum=5))
    assert not finding.is_passed


def test_missing_table_is_reported_once(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DROP TABLE t")
    [finding] = check(connection, each_row("a", "true", ""), each_row("b", "true", ""))
    assert finding.message == "main.t: there is no table main.t, so nothing of it could be checked"


def test_at_most_ten_keys_are_named(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("INSERT INTO t SELECT 'x' || i, -1 FROM range(50) AS r(i)")
    [finding] = check(connection, each_row("positive", "amount > 0", "are not positive"))
    assert len(finding.failed_keys) == 10
    assert finding.message.endswith("(rows <4>, <4>, <4>, ...)") or "..." in finding.message


def test_repeated_rows_are_named(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("INSERT INTO t VALUES ('anna', 9), ('anna', 10)")
    [finding] = check(connection, one_row_per("t", ("name",), "name"))
    assert (finding.count_failed, finding.failed_keys) == (2, ("<4>",))


def test_expectation_that_raises_is_no_verdict() -> None:
    suite = Suite("t", "t", ())
    raises, holds = Rule("a", "", "", maximum=0), Rule("b", "", "", maximum=0)
    verdicts = judge(suite, (raises, holds), {"b": 0.0})
    assert verdicts["b"].is_met
    assert not verdicts["a"].is_met
    assert verdicts["a"].error is not None


@pytest.mark.parametrize(
    ("figure", "is_met"), [(-0.01, False), (0.0, True), (0.5, True), (1.0, True), (1.01, False)]
)
def test_both_bounds_are_included(figure: float, is_met: bool) -> None:
    rule = Rule("a", "", "", minimum=0, maximum=1)
    verdict = judge(Suite("t", "t", ()), (rule,), {"a": figure})["a"]
    assert (verdict.is_met, verdict.error) == (is_met, None)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (3.0, "3"),
        (1234567.0, "1,234,567"),
        (0.05, "0.05"),
        (2.34567, "2.346"),
        (1234.5, "1,234.50"),
    ],
)
def test_numbers_in_sentences(number: float, shown: str) -> None:
    assert show(number) == shown


def test_the_library_is_read_in_a_process_without_a_main_file() -> None:
    # As the daemon's runs are. PySpark, where it is there, would end such a process.
    program = "from data_quality.expectations import load_library as load; print(load().__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("great_expectations", 0), done.stderr
