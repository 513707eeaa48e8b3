"""What a planted fault is: the statements that plant it, and what a gate must say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from data_quality.gates import Gate
from data_quality.results import GateReport

# Checks of totals, which a fault of any other row would move.
OF_TOTALS = {
    "value_conserved",
    "amounts_conserved",
    "total_ties_to_staging",
    "total_of_training_cutoffs_ties_to_staging",
    "total_equals_scores",
}


@dataclass(frozen=True)
class Fault:
    gate: Gate
    statements: tuple[str, ...]
    check_name: str
    says: str
    is_warning: bool = False

    @property
    def is_planted_with_others(self) -> bool:
        is_of_one_row = "{row}" in self.statements[-1] or "{customer}" in self.statements[-1]
        return is_of_one_row and self.check_name not in OF_TOTALS

    def spoiling(self, customer: str, row: int) -> Fault:
        """Name the row that is spoilt."""
        statements = tuple(named(statement, customer, row) for statement in self.statements)
        return replace(self, statements=statements, says=named(self.says, customer, row))


def named(text: str, customer: str, row: int) -> str:
    return text.replace("{customer}", customer).replace("{row}", str(row))


def fault(gate: Gate, sql: str | tuple[str, ...], check_name: str, says: str) -> Fault:
    return Fault(gate, (sql,) if isinstance(sql, str) else sql, check_name, says)


def warning(gate: Gate, sql: str | tuple[str, ...], check_name: str, says: str) -> Fault:
    return Fault(gate, (sql,) if isinstance(sql, str) else sql, check_name, says, True)


def find(report: GateReport, planted: Fault) -> pd.DataFrame:
    """Find the results that tell of a fault."""
    broken = report.results[~report.results["is_passed"]]
    found = broken[
        (broken["check_name"] == planted.check_name)
        & broken["message"].str.contains(planted.says, regex=False)
    ]
    assert len(found), f"{planted}\n" + "\n".join(broken["check_name"] + broken["message"])
    assert set(found["severity"]) == {"warn" if planted.is_warning else "stop"}
    return found
