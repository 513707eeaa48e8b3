"""A step of dbt that would come out the same is not built again; whatever differs is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clv_pipeline import transform
from clv_pipeline.dbt_process import TransformError
from clv_pipeline.dbt_project import dbt_variables
from clv_pipeline.reuse import STEPS, claim_step, forget_steps
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse
from tests.support import fill_raw

ONE, TWO = Cutoff.parse("2024-03-31"), Cutoff.parse("2024-04-30")
Change = Callable[[Settings], None]


def orders(count: int = 8) -> pd.DataFrame:
    days = pd.date_range("2024-01-05", periods=count, freq="13D")
    users = [f"u{k % 3}" for k in range(count)]
    return pd.DataFrame(
        {"user_id": users, "ts": days, "amount": 10.0, "transaction_id": range(count)}
    )


def variables(settings: Settings, through: Cutoff = TWO, run_id: str = "later") -> dict[str, Any]:
    return dbt_variables(settings, (ONE, through), through, run_id)


@pytest.fixture(scope="module")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which every step was built for two cutoffs."""
    home = tmp_path_factory.mktemp("built") / "home"
    settings = build_settings(home, {})
    fill_raw(settings, {"transactions": orders()})
    for step in STEPS:
        _, built_by = transform.build_step(settings, step, variables(settings, run_id="first"))
        assert built_by is None
    return home


@pytest.fixture
def built(built_home: Path, tmp_path: Path) -> Settings:
    shutil.copytree(built_home, tmp_path / "home")
    return build_settings(tmp_path / "home", {})


def execute(settings: Settings, *statements: str) -> None:
    with open_warehouse(settings) as connection:
        for statement in statements:
            connection.execute(statement)


def standing(settings: Settings, **of: Any) -> list[str]:
    """Name the steps that need not be built."""
    found = {step: claim_step(settings, step, variables(settings, **of)) for step in STEPS}
    return [step for step, claim in found.items() if claim.results is not None]


def test_what_is_unchanged_is_told_as_the_run_that_built_it_told_it(built: Settings) -> None:
    for step in STEPS:
        results, built_by = transform.build_step(built, step, variables(built))
        assert built_by == "first"
        assert {entry.status for entry in results} <= {"success", "pass"}
        assert any(entry.node.startswith("test.") for entry in results)


def test_staging_serves_every_day_and_other_steps_their_own(built: Settings) -> None:
    assert standing(built, through=Cutoff.parse("2024-05-31")) == ["staging"]


@pytest.mark.parametrize(
    ("change", "stands"),
    [
        ("INSERT INTO raw.transactions BY NAME SELECT * REPLACE ('new' AS user_id) "
         "FROM raw.transactions LIMIT 1", []),
        ("INSERT INTO ops.landed_files (file_id, input, sha256) VALUES (9, 'users', 'x')", []),
        ("INSERT INTO ops.holidays BY NAME SELECT DATE '2024-05-01' AS holiday_date", []),
        ("DROP TABLE as_of.customer_labels CASCADE", ["staging", "features"]),
        ("DELETE FROM features.customer_features WHERE cutoff_date = '2024-04-30'",
         ["staging", "as_of"]),
        ("DELETE FROM staging.stg_transactions WHERE user_id = 'u1'", ["as_of", "features"]),
        ("UPDATE ops.built_definition SET definition = 'another'", []),
    ],
)  # fmt: skip
def test_whatever_decides_rows_or_lost_them_is_noticed(
    built: Settings, change: str, stands: list[str]
) -> None:
    assert standing(built) == list(STEPS)
    execute(built, change)
    if stands:
        assert standing(built) == stands
    else:
        assert claim_step(built, "staging", variables(built)).results is None


def test_a_step_that_is_rewritten_by_hand_is_forgotten_with_those_behind_it(
    built: Settings,
) -> None:
    transform.run_dbt(built, ["run", "--select", "customer_labels"], variables(built))
    assert standing(built) == ["staging"]
    forget_steps(built, ["staging"])
    assert standing(built) == []


def test_a_build_that_fails_leaves_nothing_to_reuse(built: Settings) -> None:
    execute(built, "ALTER TABLE intermediate.int_customer_days RENAME delta_refunds TO lost")
    through = Cutoff.parse("2024-05-31")
    with pytest.raises(TransformError):
        transform.build_step(built, "as_of", variables(built, through))
    assert standing(built, through=through) == ["staging"]
    with open_warehouse(built, read_only=True) as connection:
        left = connection.execute(
            "SELECT DISTINCT step, cutoff FROM ops.built_steps WHERE step <> 'staging'"
        ).fetchall()
    # Both cutoffs were asked for, and either may be half written.
    assert {cutoff for _, cutoff in left} <= {str(TWO)}


def test_with_another_engine_every_step_is_built(built: Settings) -> None:
    assert claim_step(built, "staging", variables(built)).results is not None
    spark = build_settings(built.root, {"engine": {"name": "spark"}})
    assert claim_step(spark, "staging", variables(spark)).results is None
