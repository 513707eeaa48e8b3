"""One planted fault for each rule: the gate fails, and says what failed and by how much.

Faults of single rows are planted together, each in a row of its own; the others one by one.
"""

from __future__ import annotations

from collections import Counter

import pytest

from clv_pipeline.settings import Settings
from data_quality.gates import Gate
from tests.data_quality.faults import Fault, find
from tests.data_quality.faults_of_cutoffs import AS_OF, PREDICTIONS
from tests.data_quality.faults_of_landing import RAW, STAGING
from tests.data_quality.quality_shop import RunGate, spoil, victims

ALL = [*RAW, *STAGING, *AS_OF, *PREDICTIONS]


@pytest.mark.parametrize(
    "planted",
    [planted for planted in ALL if not planted.is_planted_with_others],
    ids=lambda planted: f"{planted.gate}-{planted.check_name}",
)
def test_fault_is_caught(shop: Settings, check: RunGate, planted: Fault) -> None:
    planted = planted.spoiling(*victims()[0])
    spoil(shop, *planted.statements)
    report = check(planted.gate)
    find(report, planted)
    stops = report.results[~report.results["is_passed"] & (report.results["severity"] == "stop")]
    assert report.is_passed == stops.empty
    assert report.is_passed or report.sentence.startswith(
        f"The {planted.gate} gate stopped at 2024-05-31: {stops['message'].iloc[0]}"
    )


@pytest.mark.parametrize("gate", ["raw", "staging", "as_of", "predictions"])
def test_faults_of_single_rows_are_all_caught(shop: Settings, check: RunGate, gate: Gate) -> None:
    planted = [fault for fault in ALL if fault.gate == gate and fault.is_planted_with_others]
    named = [fault.spoiling(*victim) for fault, victim in zip(planted, victims(), strict=False)]
    assert len(named) == len(planted)
    spoil(shop, *(statement for fault in named for statement in fault.statements))
    report = check(gate)
    assert not report.is_passed
    # Each fault is counted, not only one of those that break the same rule.
    for (check_name, says), count in Counter((f.check_name, f.says) for f in named).items():
        found = find(report, Fault(gate, (), check_name, says))
        counted = found["count_failed"].fillna(found["observed"].str.replace(",", "").astype(float))
        assert counted.sum() >= count
    everything = report.results.to_string() + report.sentence
    assert not any(customer in everything for customer, _ in victims())
