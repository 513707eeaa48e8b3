from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clv_pipeline.settings import Settings
from clv_pipeline.tables import OPS_TABLES
from clv_pipeline.warehouse import open_warehouse, read_frame
from data_quality.gates import find_refusal, latest_results, record_results, run_gate
from data_quality.results import RESULTS_SCHEMA
from tests.data_quality.quality_shop import CUTOFF, RunGate, spoil


def test_columns_are_those_of_the_warehouse() -> None:
    names = [column.name for column in OPS_TABLES["data_quality"].columns]
    assert RESULTS_SCHEMA.names == names


def test_recorded_results_are_read_back_and_replaced(shop: Settings, check: RunGate) -> None:
    report = check("staging")
    written = record_results(shop, report)
    assert record_results(shop, check("staging")) == written
    latest = latest_results(shop, CUTOFF)
    assert len(latest) == written
    keys = ["table_name", "check_name", "column_name"]
    columns = [*keys, "severity", "expected", "message", "observed"]
    pd.testing.assert_frame_equal(
        latest[columns].sort_values(keys).reset_index(drop=True),
        report.results[columns].sort_values(keys).reset_index(drop=True),
        check_dtype=False,
    )
    with open_warehouse(shop) as connection:
        kinds = read_frame(connection, "DESCRIBE ops.data_quality")
    wanted = {column.name: column.kind for column in OPS_TABLES["data_quality"].columns}
    assert dict(zip(kinds["column_name"], kinds["column_type"], strict=True)) == wanted


def test_refusal_names_the_gate_that_failed_or_was_left_out(shop: Settings, check: RunGate) -> None:
    assert find_refusal(shop, CUTOFF, ["staging"]) == (
        "The staging gate was not checked at 2024-05-31, so nothing may be published."
    )
    record_results(shop, check("staging"))
    assert find_refusal(shop, CUTOFF, ["staging"]) is None
    spoil(shop, "UPDATE staging.stg_transactions SET currency = '€' WHERE _row_number = 1")
    record_results(shop, check("staging"))
    refusal = find_refusal(shop, CUTOFF, ["staging"])
    assert refusal is not None
    assert refusal.startswith("The staging gate stopped at 2024-05-31: staging.stg_transactions: ")


def test_newest_run_counts(shop: Settings) -> None:
    spoil(shop, "UPDATE staging.stg_transactions SET currency = '€' WHERE _row_number = 1")
    record_results(shop, run_gate(shop, "staging", CUTOFF, "run 2"))
    spoil(shop, "UPDATE staging.stg_transactions SET currency = 'EUR'")
    record_results(shop, run_gate(shop, "staging", CUTOFF, "run 1"))
    assert find_refusal(shop, CUTOFF, ["staging"]) is None
    assert find_refusal(shop, CUTOFF, ["staging"], run_id="run 2") is not None


def test_refused_file_stays_refused_until_it_is_mended(shop: Settings) -> None:
    spoil(shop, "UPDATE raw.transactions SET amount = amount * 100 WHERE _file_id = 2")
    for run_id in ("run 2", "run 3", "run 4"):
        report = run_gate(shop, "raw", CUTOFF, run_id)
        record_results(shop, report)
        assert not report.is_passed
    spoil(shop, "UPDATE raw.transactions SET amount = amount / 100 WHERE _file_id = 2")
    assert run_gate(shop, "raw", CUTOFF, "run 5").is_passed


def test_gate_must_exist_and_only_the_last_takes_a_file(shop: Settings) -> None:
    with pytest.raises(ValueError, match="is no gate"):
        run_gate(shop, "everything", CUTOFF, "run 2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs the file to audit"):
        run_gate(shop, "published", CUTOFF, "run 2")
    with pytest.raises(ValueError, match="needs the file to audit"):
        run_gate(shop, "raw", CUTOFF, "run 2", Path("clv.duckdb"))


def test_no_id_of_a_customer_is_in_any_result(shop: Settings, check: RunGate) -> None:
    spoil(shop, "UPDATE features.customer_features SET days_since_last_order = -1")
    report = check("as_of")
    shown = report.results.to_csv() + report.sentence
    assert "customer 1" not in shown
    failed = report.results.loc[~report.results["is_passed"], "failed_keys"]
    assert failed.str.match(r'\["[0-9a-f]{12}", ').any()
