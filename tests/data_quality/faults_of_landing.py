"""Faults of landed and staged rows."""

from __future__ import annotations

from tests.data_quality.faults import fault, warning

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
        "if they are right, raise gates.max_volume_ratio; if not, put the right file",
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
