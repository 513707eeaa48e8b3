"""Run a part of the dbt project and read back what it did, model by model and test by test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clv_pipeline import dbt_process, dbt_project, reuse, transform
from clv_pipeline.drawing import NOBODY_DRAWN, Draw
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame, read_row

if TYPE_CHECKING:
    import pandas as pd

PREVIEW_ROWS = 5
# What a model's failure says when trying again may help.
_PASSING_FAULTS = ("lock on file", "conflicting lock", "temporarily unavailable")


@dataclass(frozen=True)
class ModelResult:
    """A model that was built.

    Attributes
    ----------
    node
        dbt's unique id.
    seconds
        How long it took.
    count_rows
        Rows of its table or view.
    rows
        A few of them.
    """

    node: str
    seconds: float
    count_rows: int
    rows: pd.DataFrame


@dataclass(frozen=True)
class TestResult:
    """A test that ran.

    Attributes
    ----------
    node
        dbt's unique id.
    is_passed
        Whether it held.
    is_warning
        Whether a failure lets the run go on.
    count_failed
        Rows that broke the rule.
    message
        What dbt says of a failure.
    """

    node: str
    is_passed: bool
    is_warning: bool
    count_failed: int
    message: str | None


@dataclass(frozen=True)
class DbtReport:
    """What one call of dbt did.

    Attributes
    ----------
    models, tests
        In the order in which they ended.
    error
        What stopped it, in a sentence; None when nothing did.
    built_by
        The run that built all this, where nothing has changed since; None if this one did.
    """

    models: tuple[ModelResult, ...]
    tests: tuple[TestResult, ...]
    error: str | None
    built_by: str | None = None

    @property
    def is_passing_fault(self) -> bool:
        """Whether trying again may help."""
        text = (self.error or "").lower()
        return any(fault in text for fault in _PASSING_FAULTS)

    @property
    def summary(self) -> str:
        """What was built, in a line."""
        rows = max((model.count_rows for model in self.models), default=0)
        parts = [f"{len(self.models)} models", f"{rows:,} rows in the largest table"]
        if self.tests:
            passed = sum(test.is_passed for test in self.tests)
            parts.append(f"{passed} of {len(self.tests)} tests passed")
        if self.built_by is not None:
            parts.append(f"unchanged since run {self.built_by[:8]} built them")
        return ", ".join(parts)


def build_models(
    settings: Settings,
    select: Sequence[str],
    cutoffs: Sequence[Cutoff],
    data_through: Cutoff,
    run_id: str,
    step: str | None = None,
    tell: Callable[[str], object] | None = None,
    draw: Draw = NOBODY_DRAWN,
) -> DbtReport:
    """Build models with their tests.

    Parameters
    ----------
    select
        dbt selectors, all of which are built.
    cutoffs
        What the as-of tables and the features are built for.
    data_through
        The day up to which the data are taken to be complete.
    step
        The step of `clv_pipeline.reuse.STEPS` that ``select`` is the whole of: it is built only if
        something that decides its rows has changed.
    tell
        Told a sentence on how far it has come, where that takes long.
    draw
        Which of the cutoffs hold a share of the customers.
    """
    arguments = ["build", "--select", *select]
    built_by = None
    variables = dbt_project.dbt_variables(settings, cutoffs, data_through, run_id, draw)
    error = None
    try:
        if step in reuse.STEPS:
            found, built_by = transform.build_step(settings, step, variables, tell)
        else:
            found = transform.run_dbt(settings, arguments, variables, tell)
    except dbt_process.TransformError as failure:
        found, error = failure.results, str(failure)
    built = [
        entry
        for entry in found
        if entry.node.startswith("model.")
        and entry.relation
        and entry.status in ("success", "no-op", "reused")
    ]
    models = _look_at(settings, built)
    tests = (
        TestResult(
            entry.node,
            entry.status == "pass",
            entry.status == "warn",
            entry.count_failed,
            entry.message,
        )
        for entry in found
        if entry.node.startswith("test.") and entry.status != "skipped"
    )
    return DbtReport(tuple(models), tuple(tests), error, built_by)


def _look_at(settings: Settings, built: Sequence[dbt_process.NodeResult]) -> list[ModelResult]:
    with open_warehouse(settings, read_only=True) as connection:
        models = []
        for entry in built:
            kept, columns = reuse.rows_of(connection, str(entry.relation))
            count = read_row(connection, f"SELECT count(*) FROM {kept}")[0]
            rows = read_frame(connection, f"SELECT {columns} FROM {kept} LIMIT {PREVIEW_ROWS}")
            models.append(ModelResult(entry.node, entry.seconds, int(count), rows))
    return models
