"""Great Expectations: the only module that imports it, and how a rule becomes an expectation."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from data_quality.rules import Rule, Suite

# Read while the library is imported; no run reports home.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition


@dataclass(frozen=True)
class Verdict:
    """What an expectation said.

    Attributes
    ----------
    is_met
        Whether the figure lies within its bounds.
    error
        Why it could not be checked; None when it was. An expectation that raised is not met either.
    """

    is_met: bool
    error: str | None = None


def judge(
    suite: Suite, rules: tuple[Rule, ...], figures: Mapping[str, float]
) -> dict[str, Verdict]:
    """Check measured figures against the bounds of their rules.

    Parameters
    ----------
    suite
        Gives the expectation suite its name.
    rules
        Rules of the suite to check; the suite's other rules are left out.
    figures
        The measured figure of each rule's slot.

    Returns
    -------
    dict of str to Verdict
        One for each rule's slot.
    """
    if not rules:
        return {}
    gx = load_library()
    expectations = gx.ExpectationSuite(
        name=suite.table, expectations=[_expectation(rule) for rule in rules]
    )
    frame = pd.DataFrame({slot: [float(figure)] for slot, figure in figures.items()})
    batch = _figures().get_batch({"dataframe": frame})
    # Verdicts alone: the results must carry no values.
    outcome = batch.validate(expectations, result_format="BOOLEAN_ONLY")
    verdicts: dict[str, Verdict] = {}
    for result in outcome.results:
        # Results come in another order than the expectations, those that raised first.
        meta = result.expectation_config.meta if result.expectation_config else None
        slot = (meta or {})["slot"]
        verdicts[slot] = Verdict(bool(result.success), _raised(result.exception_info))
    return verdicts


def _expectation(rule: Rule) -> Any:
    from great_expectations.expectations.core.expect_column_max_to_be_between import (
        ExpectColumnMaxToBeBetween,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    is_stop = rule.severity == "stop"
    return ExpectColumnMaxToBeBetween(
        column=rule.slot,
        min_value=rule.minimum,
        max_value=rule.maximum,
        description=f"{rule.slot}: {rule.expected}",
        severity=FailureSeverity.CRITICAL if is_stop else FailureSeverity.WARNING,
        meta={"slot": rule.slot},
    )


@functools.cache
def _figures() -> BatchDefinition[Any]:
    # One context for the process: the first use of the library costs seconds.
    gx = load_library()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("measured").add_dataframe_asset("figures")
    found: BatchDefinition[Any] = asset.add_batch_definition_whole_dataframe("whole")
    return found


def _raised(info: Any) -> str | None:
    """Find the message of an expectation that raised; one dictionary, or one per metric."""
    if not isinstance(info, dict):
        return None
    if "raised_exception" in info:
        return str(info.get("exception_message")) if info["raised_exception"] else None
    messages = [_raised(part) for part in info.values()]
    return next((message for message in messages if message is not None), None)


@functools.cache
def load_library() -> ModuleType:
    """Import Great Expectations, which takes seconds, without the part of PySpark for a server.

    Where a library of that part is missing, importing it ends a process that has no main file, as
    those have none in which Dagster's daemon runs a job.
    """
    part = "pyspark.sql.connect"
    is_there = part in sys.modules
    if not is_there:
        sys.modules[part] = None  # type: ignore[assignment]
    try:
        import great_expectations as gx
    finally:
        if not is_there:
            del sys.modules[part]
    return gx
