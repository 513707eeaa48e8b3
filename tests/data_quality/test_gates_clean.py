from __future__ import annotations

import pytest

from clv_pipeline.settings import Settings
from data_quality.gates import GATES, Gate
from tests.data_quality.quality_shop import RunGate, spoil


@pytest.mark.parametrize("gate", GATES)
def test_clean_data_pass(check: RunGate, gate: Gate) -> None:
    report = check(gate)
    broken = report.results[~report.results["is_passed"]]
    assert broken.empty, broken[["table_name", "check_name", "message"]].to_string()
    assert report.is_passed
    assert report.sentence == f"The {gate} gate passed at 2024-05-31: {len(report.results)} checks."


def test_a_file_of_a_day_without_orders_passes(shop: Settings, check: RunGate) -> None:
    spoil(
        shop,
        "UPDATE ops.landed_files SET run_id = 'run 1'",
        "INSERT INTO ops.landed_files BY NAME SELECT 3 AS file_id, 'transactions' AS input, "
        "'run 2' AS run_id, 0 AS count_rows_in, 0 AS count_rows_kept, 0 AS count_rows_guest, "
        "0 AS count_rows_quarantined",
    )
    report = check("raw")
    assert report.is_passed, report.sentence
