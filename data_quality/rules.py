"""What a gate is made of: rules about a table, each a figure that SQL measures and its bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["stop", "warn"]


@dataclass(frozen=True)
class Rule:
    """One thing that must hold: a figure between two bounds.

    Attributes
    ----------
    name
        What is checked, such as ``unique_key``; the ``check_name`` of the result.
    figure
        SQL aggregate over the rows of the suite's source, giving one number.
    says
        The sentence when it fails, without the table's name. ``{observed}``, ``{expected}`` and
        ``{checked}`` (rows of the source) are filled in.
    column
        The column that it is about; None for a rule of the whole table.
    minimum, maximum
        The figure must lie between them, both included; None is no bound.
    severity
        ``stop`` fails the gate, ``warn`` is only reported.
    breaks
        SQL condition of the rows that break the rule; they are counted and their keys named.
    keys
        SQL query of the keys to name, one column, where ``breaks`` can't find them.
    if_nothing
        Why the rule holds when the figure is null, for instance because there is nothing earlier
        to compare with. None: a null figure fails, because nothing was checked.
    counts_rows
        Whether the figure is the number of rows that break the rule.
    """

    name: str
    figure: str
    says: str
    column: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    severity: Severity = "stop"
    breaks: str | None = None
    keys: str | None = None
    if_nothing: str | None = None
    counts_rows: bool = False

    @property
    def slot(self) -> str:
        """The rule's name within its suite, and of its column in the measured frame."""
        return self.name if self.column is None else f"{self.name}: {self.column}"

    @property
    def expected(self) -> str:
        """The bounds in words."""
        low, high = self.minimum, self.maximum
        if low is None and high is None:
            return "any number"
        if low is None or high is None:
            return f"at most {show(high)}" if low is None else f"at least {show(low)}"
        return show(low) if low == high else f"{show(low)} to {show(high)}"


@dataclass(frozen=True)
class Suite:
    """All rules of one table.

    Attributes
    ----------
    table
        ``schema.name``, as reported.
    source
        SQL after FROM: the rows that the rules are about.
    rules
        What must hold of them.
    key
        SQL expression that names a row of the source: a customer, or a file and row.
    is_key_personal
        Whether the key is pseudonymised before it is shown.
    needs
        Tables that must exist, ``schema.name`` each; where one is missing, that alone is reported.
    parameters
        Values of the ``$name`` parameters of all the SQL.
    """

    table: str
    source: str
    rules: tuple[Rule, ...]
    key: str | None = None
    is_key_personal: bool = True
    needs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


def each_row(
    name: str,
    holds: str,
    says: str,
    column: str | None = None,
    severity: Severity = "stop",
    what: str = "rows",
) -> Rule:
    """Make a rule that a condition is true of each row.

    A condition that is null for a row counts as broken, so that missing values can't slip through:
    where they are allowed, the condition says so.

    Parameters
    ----------
    holds
        The SQL condition.
    says
        What is wrong with the rows that break it, after "3 of 100 rows".
    what
        What a row of the source is, in the plural.
    """
    breaks = f"({holds}) IS NOT TRUE"
    return Rule(
        name=name,
        figure=f"count(*) FILTER (WHERE {breaks})",
        says=f"{{observed}} of {{checked}} {what} {says}",
        column=column,
        maximum=0,
        severity=severity,
        breaks=breaks,
        counts_rows=True,
    )


def one_row_per(source: str, columns: tuple[str, ...], key: str) -> Rule:
    """Make a rule that no two rows of ``source`` agree in all ``columns``."""
    listed = ", ".join(columns)
    return Rule(
        name="one_row_per_key",
        figure=f"count(*) - count(DISTINCT ({listed}))",
        says=f"{{observed}} of {{checked}} rows repeat another row's {' and '.join(columns)}",
        column=columns[0] if len(columns) == 1 else None,
        maximum=0,
        keys=f"SELECT {key} FROM {source} GROUP BY {key}, {listed} HAVING count(*) > 1",
        counts_rows=True,
    )


def show(number: float | None) -> str:
    """Write a number for a sentence: whole numbers whole, others to four digits."""
    if number is None:
        return "nothing"
    if not math.isfinite(number):
        return str(number)
    if number == int(number):
        return f"{int(number):,}"
    return f"{number:,.2f}" if abs(number) >= 1000 else f"{number:.4g}"
