"""One planted fault for each rule: the gate fails, and says what failed and by how much.

Faults of single rows are planted together, each in a row of its own; the others one by one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from clv_pipeline.settings import Settings
from data_quality.gates import Gate
from data_quality.results import GateReport
from tests.data_quality.quality_shop import RunGate, spoil, victims

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


_SEVEN = "WHERE customer_id = '{customer}' AND cutoff_date = '2024-05-31'"


def in_spine(table: str) -> list[Fault]:
    return [
        fault(
            "as_of",
            f"DELETE FROM {table} {_SEVEN}",
            "covers_spine",
            "customers of the spine have no row",
        ),
        fault(
            "as_of",
            f"UPDATE {table} SET customer_id = 'stranger' "
            "WHERE customer_id = '{customer}' AND cutoff_date = '2024-05-31'",
            "in_spine",
            "are of customers who were not known at the cutoff",
        ),
        fault(
            "as_of",
            f"INSERT INTO {table} SELECT * FROM {table} WHERE customer_id = '{{customer}}'",
            "one_row_per_key",
            "repeat another row's customer_id and cutoff_date",
        ),
    ]


RAW = [
    fault(
        "raw",
        "ALTER TABLE raw.transactions DROP COLUMN sku",
        "schema",
        "columns of the contract are missing or of another type (rows sku is",
    ),
    fault(
        "raw",
        "ALTER TABLE raw.users ALTER COLUMN birth_year TYPE VARCHAR",
        "schema",
        "birth_year is VARCHAR, not DOUBLE",
    ),
    fault(
        "raw",
        "DROP TABLE raw.events",
        "exists",
        "raw.events: there is no table raw.events, so nothing",
    ),
    fault("raw", "DELETE FROM raw.transactions", "volume", "there is not a single row"),
    fault(
        "raw",
        "INSERT INTO raw.transactions BY NAME SELECT t.* REPLACE (r AS _row_number) FROM "
        "raw.transactions AS t, range(100000, 100100) AS x(r) WHERE _file_id = 2",
        "volume_against_earlier",
        "times as many rows per day as earlier data, allowed is at most 20",
    ),
    warning(
        "raw",
        "INSERT INTO raw.transactions BY NAME SELECT t.* REPLACE (r AS _row_number) FROM "
        "raw.transactions AS t, range(100000, 100200) AS x(r) WHERE _file_id = 1",
        "volume_against_earlier_low",
        "times as many rows per day as earlier data, usual is at least 0.05",
    ),
    fault(
        "raw",
        "DELETE FROM raw.transactions WHERE _row_number > 20",
        "volume_against_staged",
        "times the rows that the last good run staged, allowed is at least 0.05",
    ),
    fault(
        "raw",
        "DELETE FROM raw.transactions WHERE ts >= '2024-05-22'",
        "freshness",
        "the newest row is 10 days older than the cutoff, allowed is at most 3",
    ),
    warning(
        "raw",
        "INSERT INTO raw.events BY NAME SELECT 'customer 1' AS user_id, 'search' AS event_name, "
        "TIMESTAMP '2024-05-01 10:00:00' AS ts, 2 AS _file_id, 1 AS _row_number",
        "freshness",
        "raw.events: the newest row is 30 days older than the cutoff",
    ),
    fault(
        "raw",
        "INSERT INTO raw.transactions FROM (FROM raw.transactions LIMIT 1)",
        "one_row_per_key",
        "1 of ",
    ),
    fault(
        "raw",
        "UPDATE raw.transactions SET ts = NULL WHERE _file_id = 2 AND _row_number = {row}",
        "present",
        "have no usable ts (rows file 2 row {row}",
    ),
    fault(
        "raw",
        "UPDATE raw.transactions SET amount = NULL WHERE _file_id = 2 AND _row_number = {row}",
        "present",
        "have no usable amount",
    ),
    fault(
        "raw",
        "UPDATE raw.transactions SET user_id = '  ' WHERE _file_id = 2 AND _row_number = {row}",
        "present_or_null",
        "have a user_id that is blank",
    ),
    fault(
        "raw",
        "UPDATE raw.transactions SET quantity = 'nan' WHERE _file_id = 2 AND _row_number = {row}",
        "present_or_null",
        "have a quantity that is blank or no number",
    ),
    fault(
        "raw",
        "UPDATE raw.transactions SET _file_id = 9 WHERE _file_id = 2 AND _row_number = {row}",
        "known_file",
        "come from a file that the ledger of landed files doesn't know",
    ),
    fault(
        "raw",
        "UPDATE raw.transactions SET amount = amount * 100 WHERE _file_id = 2",
        "amount_distribution",
        "times that of the other data, allowed is 0.05 to 20",
    ),
    fault(
        "raw",
        "UPDATE raw.transactions SET amount = amount / 100 WHERE _file_id = 2",
        "amount_distribution",
        "the median order value of newly landed data is 0.0",
    ),
    fault(
        "raw",
        "UPDATE ops.landed_files SET count_rows_in = count_rows_in + 3 WHERE file_id = 2",
        "rows_in_is_kept_and_quarantined",
        "1 of 2 files have other rows in than kept and quarantined together (rows file 2)",
    ),
    fault(
        "raw",
        "UPDATE ops.landed_files SET count_rows_guest = count_rows_kept + 1 WHERE file_id = 2",
        "guests_are_kept",
        "count more guest rows than kept rows",
    ),
    fault(
        "raw",
        "DELETE FROM raw.transactions WHERE _file_id = 2 AND _row_number = {row}",
        "kept_rows_are_landed",
        "have other kept rows than the landed table holds",
    ),
    fault(
        "raw",
        "UPDATE ops.landed_files SET sum_amount_in = sum_amount_in + 0.01 WHERE file_id = 1",
        "amounts_in_are_kept_and_quarantined",
        "have another amount in than kept and quarantined together",
    ),
    fault(
        "raw",
        "UPDATE ops.landed_files SET count_rows_quarantined = count_rows_kept, "
        "count_rows_in = 2 * count_rows_kept WHERE file_id = 2",
        "quarantine_share",
        "0.5 of the newly landed transaction rows are quarantined, allowed is at most 0.05",
    ),
    fault(
        "raw",
        "UPDATE ops.landed_files SET count_rows_quarantined = count_rows_kept, "
        "count_rows_in = 2 * count_rows_kept WHERE file_id = 1",
        "quarantine_share_overall",
        "of all transaction rows are quarantined",
    ),
    warning(
        "raw",
        "INSERT INTO ops.landed_files BY NAME SELECT 3 AS file_id, 'users' AS input, 'run 2' AS "
        "run_id, 4 AS count_rows_in, 0 AS count_rows_kept, 0 AS count_rows_guest, "
        "4 AS count_rows_quarantined",
        "quarantine_share_of_other_inputs",
        "1 of the newly landed rows of other inputs are quarantined",
    ),
]
_ONE_STAGED = "WHERE _file_id = 2 AND _row_number = {row}"
STAGING = [
    fault(
        "staging",
        f"INSERT INTO staging.stg_transactions FROM staging.stg_transactions {_ONE_STAGED}",
        "one_row_per_key",
        "(rows file 2 row {row}",
    ),
    *(
        fault("staging", f"UPDATE staging.stg_transactions SET {change} {_ONE_STAGED}", name, says)
        for change, name, says in (
            ("order_key = ''", "present", "have no order_key"),
            ("is_guest = NOT is_guest", "present_or_guest", "neither of a customer nor of a guest"),
            ("activity_date = activity_date - 1", "business_day", "are on another day"),
            ("known_from_date = '2020-01-01'", "known_after_it_happened", "before they happened"),
            ("currency = '€'", "currency_code", "have no currency of three capital letters"),
            ("rate = NULL", "has_rate", "have no usable exchange rate"),
            ("rate = 1.1", "has_rate", "have no usable exchange rate"),
            ("net_revenue = amount * 2", "converted_at_its_rate", "not their amount at their rate"),
            ("is_refund = true", "refund_is_negative", "are refunds that add revenue"),
            ("value = value + 1", "value_definition", "a value that is not what the settings"),
            ("amount = amount + 1", "landed_rows_are_staged", "another amount or customer"),
            ("user_id = 'somebody'", "landed_rows_are_staged", "another amount or customer"),
        )
    ),
    fault(
        "staging",
        f"DELETE FROM staging.stg_transactions {_ONE_STAGED}",
        "landed_rows_are_staged",
        "or not in both places (rows file 2 row {row}",
    ),
    fault(
        "staging",
        f"UPDATE staging.stg_transactions SET is_current = false {_ONE_STAGED}",
        "amounts_conserved",
        "in total from the staged ones",
    ),
    fault(
        "staging",
        "UPDATE intermediate.int_customer_days SET delta_value = delta_value + 0.01 "
        "WHERE user_id = '{customer}' AND activity_date = (SELECT min(activity_date) "
        "FROM intermediate.int_customer_days WHERE user_id = '{customer}')",
        "value_conserved",
        "staged value differs by -0.01 from that of the customer days and the guests",
    ),
    fault(
        "staging",
        "INSERT INTO intermediate.int_customer_days FROM (FROM intermediate.int_customer_days "
        "LIMIT 1)",
        "one_row_per_key",
        "repeat another row's user_id and activity_date and known_date",
    ),
    *(
        fault(
            "staging",
            f"UPDATE intermediate.int_customer_days SET {change} WHERE user_id = '{{customer}}'",
            name,
            says,
        )
        for change, name, says in (
            ("user_id = ' '", "present", "have no user_id"),
            ("known_date = activity_date - 1", "known_after_it_happened", "before they happened"),
            ("delta_value = NULL", "present", "have no value"),
        )
    ),
    *(
        fault(
            "staging",
            (
                "CREATE TABLE staging.stg_users (user_id VARCHAR, valid_from_date DATE, "
                "valid_to_date DATE)",
                f"INSERT INTO staging.stg_users VALUES {rows}",
            ),
            name,
            says,
        )
        for rows, name, says in (
            ("('a', '2024-01-01', NULL), ('a', '2024-01-01', NULL)", "one_row_per_key", "1 of 2"),
            ("('', '2024-01-01', NULL)", "present", "have no user_id"),
            ("('a', '2024-01-01', '2024-01-01')", "version_ends_later", "end no later than"),
        )
    ),
]
_LABEL = "WHERE customer_id = '{customer}' AND cutoff_date = '2024-05-01'"
AS_OF = [
    fault(
        "as_of",
        "DELETE FROM as_of.customer_spine WHERE cutoff_date = '2024-05-31'",
        "volume",
        "nobody is known at the cutoff",
    ),
    fault(
        "as_of",
        f"INSERT INTO as_of.customer_spine FROM as_of.customer_spine {_SEVEN}",
        "one_row_per_key",
        "repeat another row's customer_id and cutoff_date",
    ),
    *(
        fault("as_of", f"UPDATE as_of.customer_spine SET {change} {_SEVEN}", name, says)
        for change, name, says in (
            ("customer_id = ''", "present", "have no customer_id"),
            ("first_known_date = '2024-06-01'", "known_at_cutoff", "known after the cutoff"),
            ("signup_date = '2024-06-01'", "signed_up_before_cutoff", "signup after the cutoff"),
        )
    ),
    *in_spine("as_of.customer_history"),
    *in_spine("features.customer_features"),
    *(
        fault("as_of", f"UPDATE as_of.customer_history SET {change} {_SEVEN}", name, says)
        for change, name, says in (
            ("first_order_date = '2024-06-01'", "no_day_after_cutoff", "a first_order_date after"),
            ("last_order_date = '2024-06-01'", "no_day_after_cutoff", "a last_order_date after"),
            ("last_activity_date = '2024-06-01'", "no_day_after_cutoff", "last_activity_date"),
            ("last_order_date = first_order_date - 1", "first_before_last", "after the last one"),
            ("last_order_date = NULL", "first_before_last", "a first order after the last one"),
            ("recency = T + 1", "ages_ordered", "a recency or T that is not that of their order"),
            ("T = NULL", "ages_ordered", "a recency or T that is not that of their order"),
            ("frequency = frequency + 1", "frequency_is_repeats", "not their repeat order days"),
            ("sum_value = 'inf'", "finite", "have no finite value"),
            ("sum_value = sum_value + 0.02", "total_ties_to_staging", "differs by 0.02 from what"),
        )
    ),
    fault(
        "as_of",
        "UPDATE as_of.customer_history SET monetary_value = 0 WHERE frequency = 0",
        "null_without_repeats",
        "have a monetary_value without a repeat order",
    ),
    warning(
        "as_of",
        f"UPDATE as_of.customer_history SET sum_value = sum_value - 0.02 {_LABEL}",
        "total_of_training_cutoffs_ties_to_staging",
        "knew of customers at the cutoff (rows cutoff 2024-05-01",
    ),
    fault(
        "as_of",
        f"UPDATE features.customer_features SET days_since_last_order = -1 {_SEVEN}",
        "no_day_after_cutoff",
        "have a last order after the cutoff",
    ),
    fault(
        "as_of",
        f"INSERT INTO as_of.customer_labels FROM as_of.customer_labels {_LABEL}",
        "one_row_per_key",
        "repeat another row's customer_id and cutoff_date and horizon_days",
    ),
    *(
        fault("as_of", f"UPDATE as_of.customer_labels SET {change} {_LABEL}", name, says)
        for change, name, says in (
            (
                "first_label_activity_date = cutoff_date",
                "no_day_on_or_before_cutoff",
                "label a day on or before the cutoff",
            ),
            (
                "last_label_activity_date = '2024-06-01'",
                "no_day_after_horizon",
                "label a day after the horizon",
            ),
            ("label_end_date = '2024-06-01'", "window_is_horizon", "window that is not the hor"),
            ("label_start_date = cutoff_date", "window_is_horizon", "window that is not the hor"),
            ("has_purchase = NOT has_purchase", "purchase_is_orders", "a purchase without an or"),
            ("label_value = NULL", "finite", "have no finite value"),
            ("customer_id = 'stranger'", "one_label_per_spine_row", "without being in the spine"),
        )
    ),
    fault(
        "as_of",
        "UPDATE as_of.customer_labels SET horizon_days = 60, label_end_date = cutoff_date + 60 "
        "WHERE cutoff_date = '2024-05-01'",
        "matured",
        "are of a window that is not over yet",
    ),
    fault(
        "as_of",
        f"DELETE FROM as_of.customer_labels {_LABEL}",
        "one_label_per_spine_row",
        "or not labelled",
    ),
]
_SCORED = "WHERE customer_id = '{customer}' AND horizon_days = 30"
PREDICTIONS = [
    *(
        fault(
            "predictions",
            f"UPDATE scores.customer_predictions SET {name} = {bad} {_SCORED}",
            "finite",
            f"have no finite {name}",
        )
        for name, bad in (
            ("clv", "'nan'"),
            ("clv", "'inf'"),
            ("clv_p10", "NULL"),
            ("clv_p50", "'nan'"),
            ("clv_p90", "'inf'"),
            ("probability_purchase", "NULL"),
            ("expected_orders", "'-inf'"),
        )
    ),
    *(
        fault(
            "predictions",
            (
                "DELETE FROM raw.transactions WHERE is_refund",
                f"UPDATE scores.customer_predictions SET {change} {_SCORED}",
            ),
            name,
            says,
        )
        for change, name, says in (
            ("clv_p10 = clv_p50 + 1", "quantiles_ordered", "do not have P10 <= P50 <= P90"),
            ("clv_p90 = clv_p50 - 1", "quantiles_ordered", "do not have P10 <= P50 <= P90"),
            ("clv = 1e5", "monotone_in_horizon", "less value over a longer horizon"),
            ("clv = -1", "not_negative", "say a negative value"),
            ("probability_purchase = 1.1", "is_probability", "a probability outside of 0 to 1"),
            ("probability_purchase = 1", "monotone_in_horizon", "a smaller probability"),
            ("expected_orders = 1000", "monotone_in_horizon", "fewer orders over a longer"),
            ("expected_orders = -1", "not_negative", "say fewer than no orders"),
            ("run_id = 'run 1'", "one_run", "rows come from 2 runs or models instead of one"),
            (
                "horizon_days = 45",
                "only_spine_is_predicted",
                "are predicted without being asked for",
            ),
            (
                "customer_id = 'stranger'",
                "only_spine_is_predicted",
                "are predicted without being asked for",
            ),
        )
    ),
    fault(
        "predictions",
        f"INSERT INTO scores.customer_predictions FROM scores.customer_predictions {_SCORED}",
        "one_row_per_key",
        "repeat another row's customer_id and horizon_days",
    ),
    fault(
        "predictions",
        f"DELETE FROM scores.customer_predictions {_SCORED}",
        "spine_is_predicted",
        "of the spine are not predicted over each horizon",
    ),
    fault(
        "predictions",
        ("DELETE FROM scores.customer_predictions", "DELETE FROM as_of.customer_spine"),
        "volume",
        "nobody is predicted",
    ),
    fault(
        "predictions",
        "UPDATE scores.customer_predictions SET clv = clv * 1000",
        "total_30d",
        "times the customers' value of the last 30 days, allowed is 0.25 to 4",
    ),
    fault(
        "predictions",
        "UPDATE scores.customer_predictions SET clv = 0 WHERE horizon_days = 60",
        "total_60d",
        "the predicted total over 60 days is 0 times the customers' value of the last 60 days",
    ),
    fault(
        "predictions",
        "UPDATE scores.customer_predictions SET clv = 30",
        "not_constant",
        "all customers get the same value",
    ),
]


ALL = [*RAW, *STAGING, *AS_OF, *PREDICTIONS]


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
