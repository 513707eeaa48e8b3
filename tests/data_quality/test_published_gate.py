"""A candidate publication that is not the warehouse's answer is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from clv_pipeline.settings import Settings
from data_quality.gates import run_gate
from tests.data_quality.faults import Fault, find, named
from tests.data_quality.quality_shop import CUTOFF, RunGate, spoil, victims

_PUBLISHED_SEVEN = "WHERE customer_id = '{customer}'"


@pytest.mark.parametrize(
    ("statements", "check_name", "says"),
    [
        ("DROP TABLE clv.pipeline_runs", "exists", "no table publication.main.pipeline_runs"),
        (
            "ALTER TABLE clv.customer_clv DROP COLUMN updated_at",
            "schema",
            "(rows updated_at is missing)",
        ),
        (
            "ALTER TABLE clv.customer_clv ALTER COLUMN updated_at TYPE TIMESTAMP",
            "schema",
            "(rows updated_at is TIMESTAMP, not DATE)",
        ),
        (
            "ALTER TABLE clv.segment_profile ADD COLUMN surprise INTEGER",
            "schema",
            "(rows surprise is not in the contract)",
        ),
        (
            "ALTER TABLE clv.segment_profile ADD COLUMN email VARCHAR",
            "no_personal_data",
            "hold personal data (rows segment_profile.email)",
        ),
        (
            "ALTER TABLE clv.customer_clv ADD COLUMN gender VARCHAR",
            "no_personal_data",
            "hold personal data (rows customer_clv.gender)",
        ),
        (
            f"INSERT INTO clv.customer_clv FROM clv.customer_clv {_PUBLISHED_SEVEN}",
            "one_row_per_key",
            "1 of ",
        ),
        *(
            (f"UPDATE clv.customer_clv SET {change} {_PUBLISHED_SEVEN}", name, says)
            for change, name, says in (
                ("churn_probability = 1.2", "in_range", "churn probability outside of 0 to 1"),
                ("churn_probability = 'nan'", "in_range", "churn probability outside of 0 to 1"),
                ("p_alive = -0.1", "in_range", "probability of being alive outside of 0 to 1"),
                ("loyalty_score = 101", "in_range", "loyalty score outside of 0 to 100"),
                ("clv_percentile = NULL", "in_range", "percentile outside of 0 to 100"),
                ("clv_rank = 0", "in_range", "rank outside of 1 to the number of customers"),
                ("expected_next_order_date = cutoff_date", "in_range", "before the cutoff"),
                ("confidence = 'sure'", "in_range", "no confidence of high, medium or low"),
                ("segment = ''", "present", "have no segment"),
                ("rfm_score = NULL", "present", "have no rfm_score"),
            )
        ),
        (
            f"DELETE FROM clv.customer_clv {_PUBLISHED_SEVEN}",
            "row_count",
            "the publication has -1 rows more than the warehouse",
        ),
        (
            f"DELETE FROM clv.customer_clv {_PUBLISHED_SEVEN}",
            "covers_spine",
            "there are -1 customers more than were scored",
        ),
        (f"UPDATE clv.customer_clv SET customer_id = '' {_PUBLISHED_SEVEN}", "present", "no cust"),
        (
            f"UPDATE clv.customer_clv SET run_id = 'run 1' {_PUBLISHED_SEVEN}",
            "one_run",
            "rows come from 2 runs instead of one",
        ),
        (
            f"UPDATE clv.customer_clv SET model_version = 'other' {_PUBLISHED_SEVEN}",
            "one_model",
            "rows come from 2 models instead of one",
        ),
        (
            f"UPDATE clv.customer_clv SET cutoff_date = '2024-05-30' {_PUBLISHED_SEVEN}",
            "newest_cutoff",
            "are not of the newest cutoff that was scored",
        ),
        (
            f"UPDATE clv.customer_clv SET updated_at = '2024-06-01' {_PUBLISHED_SEVEN}",
            "updated_at",
            "changed after the cutoff",
        ),
        (
            f"UPDATE clv.customer_clv SET historic_value = 0 {_PUBLISHED_SEVEN}",
            "total_value",
            "have a total value that is not the historic value",
        ),
        (
            f"UPDATE clv.customer_clv SET clv_30d = clv_30d + 0.01 {_PUBLISHED_SEVEN}",
            "total_equals_scores",
            "the published total differs by 0.01 from what was scored",
        ),
        (
            "DELETE FROM clv.customer_clv_history",
            "history_complete",
            "are missing or have other customers than were scored (rows cutoff 2024-05-31)",
        ),
        (
            "INSERT INTO clv.customer_clv_history FROM clv.customer_clv_history "
            + _PUBLISHED_SEVEN,
            "one_row_per_key",
            "have several rows of a customer",
        ),
        (
            f"UPDATE clv.customer_clv_history SET clv_60d = clv_60d + 1 {_PUBLISHED_SEVEN}",
            "total_equals_scores",
            "have another total than was scored",
        ),
    ],
)
def test_bad_publication_is_refused(
    candidate: Path, shop: Settings, check: RunGate, statements: str, check_name: str, says: str
) -> None:
    spoil(shop, named(statements, *victims()[0]), database=candidate)
    report = check("published")
    assert not report.is_passed
    find(report, Fault("published", (statements,), check_name, says))


def test_an_upgrade_that_emptied_the_spine_stops_nobody_who_was_scored(
    candidate: Path, shop: Settings, check: RunGate
) -> None:
    spoil(shop, "DELETE FROM as_of.customer_spine WHERE cutoff_date = '2024-05-31'")
    assert check("published").is_passed
    delete = f"DELETE FROM clv.customer_clv {_PUBLISHED_SEVEN}"
    spoil(shop, named(delete, *victims()[0]), database=candidate)
    find(check("published"), Fault("published", (delete,), "covers_spine", "-1 customers more"))


def test_of_a_long_history_only_what_is_published_is_asked_for(
    candidate: Path, shop: Settings, check: RunGate
) -> None:
    for days in (2, 11):
        earlier = f"* REPLACE (cutoff_date - {days} AS cutoff_date)"
        newest = "WHERE cutoff_date = '2024-05-31'"
        scores = "scores.customer_predictions"
        spoil(shop, f"INSERT INTO {scores} SELECT {earlier} FROM {scores} {newest}")
        if days == 2:
            history = "clv.customer_clv_history"
            insert = f"INSERT INTO {history} SELECT {earlier} FROM {history} {newest}"
            spoil(shop, insert)
            spoil(shop, insert, database=candidate)
    fault = Fault("published", (), "history_complete", "(rows cutoff 2024-05-20)")
    find(check("published"), fault)
    publish = shop.publish.model_copy(update={"history_cutoffs": 2})
    bounded = shop.model_copy(update={"publish": publish})
    report = run_gate(bounded, "published", CUTOFF, "run 2", candidate)
    assert report.is_passed, report.sentence
    spoil(shop, f"DELETE FROM {history} WHERE cutoff_date = '2024-05-29'", database=candidate)
    report = run_gate(bounded, "published", CUTOFF, "run 2", candidate)
    find(report, Fault("published", (), "history_complete", "(rows cutoff 2024-05-29)"))


def test_contract_of_dbt_is_held_against_the_publication(shop: Settings, check: RunGate) -> None:
    folder = shop.paths.dbt_project / "models" / "marts"
    folder.mkdir()
    (folder / "segment_profile.yml").write_text(
        "models: [{name: segment_profile, columns: [{name: segment, data_type: text}, "
        "{name: count_customers, data_type: integer}]}]",
        encoding="utf-8",
    )
    report = check("published")
    assert not report.is_passed
    assert "count_customers is BIGINT, not INTEGER" in report.sentence
    assert "segment is" not in report.sentence


def test_file_that_is_no_database_is_refused(candidate: Path, check: RunGate) -> None:
    candidate.write_bytes(b"half a file")
    report = check("published")
    assert not report.is_passed
    assert "the file to publish can't be opened" in report.sentence
