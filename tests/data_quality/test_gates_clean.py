from __future__ import annotations

import pytest

from data_quality.gates import GATES, Gate
from tests.data_quality.quality_shop import RunGate


@pytest.mark.parametrize("gate", GATES)
def test_clean_data_pass(check: RunGate, gate: Gate) -> None:
    report = check(gate)
    broken = report.results[~report.results["is_passed"]]
    assert broken.empty, broken[["table_name", "check_name", "message"]].to_string()
    assert report.is_passed
    assert report.sentence == f"The {gate} gate passed at 2024-05-31: {len(report.results)} checks."
