"""Carry out a suite: measure its figures in SQL, have them judged, say what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from clv_pipeline.warehouse import quote_identifier
from data_quality.expectations import judge
from data_quality.rules import Rule, Suite, show

MAX_KEYS = 10
KEYS_IN_SENTENCE = 3
_PARAMETER = re.compile(r"\$([a-z_][a-z0-9_]*)")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\d[\d.,:\- ]*\d|\d")
_SHOWS_NO_DATA = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)


@dataclass(frozen=True)
class Finding:
    """What came of one rule.

    Attributes
    ----------
    table, rule
        What was checked.
    is_passed
        Whether it holds.
    observed
        The figure; None where nothing could be measured.
    count_checked, count_failed
        Rows looked at, and rows that break the rule where it is about rows.
    failed_keys
        At most ten names of rows that break it.
    message
        The sentence when it fails, or why it holds without a figure.
    """

    table: str
    rule: Rule
    is_passed: bool
    observed: float | None
    count_checked: int | None
    count_failed: int | None
    failed_keys: tuple[str, ...]
    message: str


def check_suite(
    connection: duckdb.DuckDBPyConnection, suite: Suite, pseudonymize: Callable[[str], str]
) -> list[Finding]:
    """Check all rules of a suite; the table is read once where nothing goes wrong.

    A rule whose SQL can't run, and an expectation that raises, are failures of their own that say
    so: they never look like bad data.

    Parameters
    ----------
    connection
        The database that holds the tables; only read.
    suite
        What to check.
    pseudonymize
        Names the keys of customers.

    Returns
    -------
    list of Finding
        One for each rule, in their order; a single one when a table is missing.
    """
    missing = [name for name in suite.needs if not table_exists(connection, name)]
    if missing:
        exists = Rule("exists", "", f"there is no table {' and no '.join(missing)}", minimum=1)
        message = f"{suite.table}: {exists.says}, so nothing of it could be checked"
        return [Finding(suite.table, exists, False, 0.0, 0, None, (), message)]
    checked, figures, errors = _measure(connection, suite)
    judged = tuple(rule for rule in suite.rules if _is_number(figures.get(rule.slot)))
    known = {rule.slot: float(figures[rule.slot]) for rule in judged}
    verdicts = judge(suite, judged, known)
    findings = []
    for rule in suite.rules:
        figure = figures.get(rule.slot)
        error = errors.get(rule.slot)
        if rule.slot in verdicts:
            error = verdicts[rule.slot].error
            if error is None:
                is_met = verdicts[rule.slot].is_met
                keys = () if is_met else _broken_keys(connection, suite, rule, pseudonymize)
                findings.append(_judged(suite, rule, known[rule.slot], is_met, checked, keys))
                continue
        elif error is None and figure is None and rule.if_nothing is not None:
            findings.append(
                Finding(suite.table, rule, True, None, checked, None, (), rule.if_nothing)
            )
            continue
        elif error is None:
            error = "it measured nothing" if figure is None else "its figure is not a number"
        message = f"{suite.table}: check '{rule.slot}' could not be carried out: {error}"
        findings.append(Finding(suite.table, rule, False, None, checked, None, (), message))
    return findings


def table_exists(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether ``schema.table``, or ``catalog.schema.table`` of an attached file, exists."""
    catalog, schema, table = (["", *name.split(".")] if name.count(".") == 1 else name.split("."))[
        -3:
    ]
    found = connection.execute(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ? "
        "AND table_catalog = CASE WHEN ? = '' THEN current_catalog() ELSE ? END",
        [schema, table, catalog, catalog],
    ).fetchone()
    return found is not None


def fetch(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Run a query with those of the parameters that it names."""
    named = set(_PARAMETER.findall(query))
    rows: list[tuple[Any, ...]] = connection.execute(
        query, {name: value for name, value in parameters.items() if name in named}
    ).fetchall()
    return rows


def _measure(
    connection: duckdb.DuckDBPyConnection, suite: Suite
) -> tuple[int | None, dict[str, Any], dict[str, str]]:
    """Return the rows of the source, the figure of each slot, and the errors of those without."""
    columns = "".join(f", {rule.figure} AS {quote_identifier(rule.slot)}" for rule in suite.rules)
    query = f"SELECT count(*){columns} FROM {suite.source}"
    try:
        row = fetch(connection, query, suite.parameters)[0]
    except duckdb.Error:
        return _measure_each(connection, suite)
    return int(row[0]), {rule.slot: row[k + 1] for k, rule in enumerate(suite.rules)}, {}


def _measure_each(
    connection: duckdb.DuckDBPyConnection, suite: Suite
) -> tuple[int | None, dict[str, Any], dict[str, str]]:
    """Measure rule by rule, so that one that can't run doesn't hide what the others find."""
    figures: dict[str, Any] = {}
    errors: dict[str, str] = {}
    checked: int | None = None
    for rule in suite.rules:
        query = f"SELECT count(*), {rule.figure} FROM {suite.source}"
        try:
            row = fetch(connection, query, suite.parameters)[0]
        except duckdb.Error as error:
            errors[rule.slot] = explain(error)
        else:
            checked, figures[rule.slot] = int(row[0]), row[1]
    return checked, figures, errors


def explain(error: duckdb.Error) -> str:
    """Say what went wrong in SQL without repeating values of the data."""
    text = str(error).strip().splitlines()[0].rstrip(".")
    return text if isinstance(error, _SHOWS_NO_DATA) else _QUOTED.sub("…", text)


def _is_number(figure: Any) -> bool:
    # A null passes every bound in Great Expectations, and so does NaN.
    return figure is not None and not math.isnan(float(figure))


def _broken_keys(
    connection: duckdb.DuckDBPyConnection,
    suite: Suite,
    rule: Rule,
    pseudonymize: Callable[[str], str],
) -> tuple[str, ...]:
    if suite.key is None or (rule.breaks is None and rule.keys is None):
        return ()
    query = rule.keys or f"SELECT {suite.key} FROM {suite.source} WHERE {rule.breaks}"
    rows = fetch(
        connection,
        f"SELECT DISTINCT broken.k::VARCHAR AS k FROM ({query}) AS broken(k) "
        f"WHERE broken.k IS NOT NULL ORDER BY 1 LIMIT {MAX_KEYS}",
        suite.parameters,
    )
    names = (str(row[0]) for row in rows)
    return tuple(pseudonymize(name) if suite.is_key_personal else name for name in names)


def _judged(
    suite: Suite,
    rule: Rule,
    figure: float,
    is_met: bool,
    checked: int | None,
    keys: tuple[str, ...],
) -> Finding:
    count_failed = int(figure) if rule.counts_rows else None
    if is_met:
        return Finding(suite.table, rule, True, figure, checked, count_failed, (), "holds")
    words = rule.says.format(observed=show(figure), expected=rule.expected, checked=show(checked))
    shown = ", ".join(keys[:KEYS_IN_SENTENCE])
    more = ", ..." if len(keys) > KEYS_IN_SENTENCE else ""
    message = f"{suite.table}: {words}" + (f" (rows {shown}{more})" if keys else "")
    return Finding(suite.table, rule, False, figure, checked, count_failed, keys, message)
