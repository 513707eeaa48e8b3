"""The cutoff predicates of the SQL against their twins in timeline.Cutoff."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clv_pipeline.dbt_project import packaged_dbt_project
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_database

PROJECT = packaged_dbt_project()
D = date(2024, 2, 29)
# Days around the cutoff and the end of the label are where predicates go wrong.
near_days = st.integers(-40, 40).map(lambda days: D + timedelta(days=days))


def load_macros() -> dict[str, Callable[..., Any]]:
    """Render the macros as dbt would for DuckDB."""
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    macros: dict[str, Callable[..., Any]] = {}

    class Adapter:
        def dispatch(self, name: str, package: str) -> Callable[..., Any]:
            assert package == "clv"
            return macros[f"duckdb__{name}"]

    variables = {"cutoffs": [str(D)], "data_through": str(D), "time_zone": "UTC"}
    context = {"adapter": Adapter(), "var": variables.__getitem__}
    for name in ("dispatched", "as_of"):
        text = (PROJECT / "macros" / f"{name}.sql").read_text(encoding="utf-8")
        module = environment.from_string(text).make_module({**context, **macros})
        macros |= {key: value for key, value in vars(module).items() if callable(value)}
    return macros


MACROS = load_macros()


def evaluate(expression: str, **days: date | int) -> bool:
    with open_database() as connection:
        values = ", ".join(f"${name} AS {name}" for name in days)
        row = connection.execute(f"SELECT {expression} FROM (SELECT {values})", days).fetchone()
    assert row is not None
    return bool(row[0])


@settings(max_examples=60, deadline=None)
@given(day=near_days, known=near_days)
def test_seen_at_is_cutoff_sees(day: date, known: date) -> None:
    sql = str(MACROS["seen_at"]("day", "known", "cutoff"))
    assert evaluate(sql, day=day, known=known, cutoff=D) == Cutoff(D).sees(day, known)


@settings(max_examples=60, deadline=None)
@given(day=near_days, horizon=st.integers(1, 40), known=near_days, through=near_days)
def test_labelled_by_is_cutoff_labels(day: date, horizon: int, known: date, through: date) -> None:
    sql = str(MACROS["labelled_by"]("day", "known", "cutoff", "horizon", "through"))
    got = evaluate(sql, day=day, known=known, cutoff=D, horizon=horizon, through=through)
    assert got == (Cutoff(D).labels(day, horizon) and Cutoff(through).sees(day, known))


@settings(max_examples=40, deadline=None)
@given(horizon=st.integers(1, 40), through=near_days)
def test_is_matured_is_cutoff_is_matured(horizon: int, through: date) -> None:
    sql = str(MACROS["is_matured"]("cutoff", "horizon", "through"))
    got = evaluate(sql, cutoff=D, horizon=horizon, through=through)
    assert got == Cutoff(D).is_matured(horizon, through)


def test_what_has_come_is_the_cutoff_s_day_or_an_earlier_one() -> None:
    sql = str(MACROS["has_come"]("day", "cutoff"))
    days = [D + timedelta(days=k) for k in (-400, -1, 0, 1, 400)]
    assert [evaluate(sql, day=day, cutoff=D) for day in days] == [True, True, True, False, False]


@pytest.mark.parametrize("width", [1, 7, 30])
def test_a_window_of_w_days_holds_w_days(width: int) -> None:
    sql = str(MACROS["in_window"]("day", "cutoff", width))
    days = [D - timedelta(days=k) for k in range(60)]
    assert [day for day in days if evaluate(sql, day=day, cutoff=D)] == days[:width]


@pytest.mark.parametrize(
    "path",
    sorted((PROJECT / "models").rglob("*.sql")),
    ids=lambda path: path.stem,
)
def test_no_model_compares_days_with_a_cutoff_by_itself(path: Path) -> None:
    """The predicate is written once; marts compare cutoffs with each other, which is no as-of."""
    if path.parent.name == "marts":
        return
    own = re.findall(r"[<>]=?\s*[\w.]*(?:cutoff_date|known_date)\b", path.read_text("utf-8"))
    own += re.findall(r"(?:cutoff_date|known_date)\s*[<>]", path.read_text("utf-8"))
    assert own == []
    assert "current_date" not in path.read_text("utf-8").lower()
    assert "now()" not in path.read_text("utf-8").lower()
