"""What Python writes about files, runs and checks into ``ops``: columns, types and meaning."""

from __future__ import annotations

from clv_pipeline.tables.columns import CUTOFF, RUN, Column, Table

OPS_TABLES: dict[str, Table] = {
    "landed_files": Table(
        "The ledger: one row per file that was delivered.",
        (
            Column("file_id", "BIGINT", "The file; newer files have greater ids."),
            Column("input", "VARCHAR", "The input it was delivered for."),
            Column("path", "VARCHAR", "Path relative to the project's folder."),
            Column("sha256", "VARCHAR", "Hash of its content; the same content counts once."),
            Column("bytes", "BIGINT", "Its size."),
            Column("landed_at", "TIMESTAMP", "When it was landed, UTC."),
            RUN,
            Column("count_rows_in", "BIGINT", "Rows in the file."),
            Column("count_rows_kept", "BIGINT", "Rows landed, guests included."),
            Column("count_rows_guest", "BIGINT", "Rows landed without a user; part of kept."),
            Column("count_rows_quarantined", "BIGINT", "Rows set aside."),
            Column("sum_amount_in", "DECIMAL(38,4)", "Amounts in the file, original currencies."),
            Column("sum_amount_kept", "DECIMAL(38,4)", "Amounts landed."),
            Column("sum_amount_guest", "DECIMAL(38,4)", "Amounts of guests."),
            Column("sum_amount_quarantined", "DECIMAL(38,4)", "Amounts set aside."),
            Column("status", "VARCHAR", "What became of the file: landed, quarantined, replaced."),
            Column("settings_hash", "VARCHAR", "Hash of the settings it was landed under."),
            Column("columns_json", "VARCHAR", "Columns of the contract that it had, as JSON."),
        ),
    ),
    "seen_files": Table(
        "What a file looked like when it was last read, so that it is not read in vain.",
        (
            Column("path", "VARCHAR", "Path relative to the project's folder."),
            Column("sha256", "VARCHAR", "Hash of its content then."),
            Column("bytes", "BIGINT", "Its size."),
            Column("modified_ns", "BIGINT", "When its content changed last, nanoseconds."),
            Column("changed_ns", "BIGINT", "When its entry changed last, nanoseconds."),
            Column("inode", "UBIGINT", "Its number in the file system."),
        ),
    ),
    "quarantine": Table(
        "A row that was set aside, and why.",
        (
            Column("input", "VARCHAR", "The input it was delivered for."),
            Column("file_id", "BIGINT", "The file it came in."),
            Column("path", "VARCHAR", "Path of that file."),
            Column("row_number", "BIGINT", "Its row in the file, from 1, header not counted."),
            Column("column_name", "VARCHAR", "The column that was wrong."),
            Column("reason", "VARCHAR", "What was wrong."),
            Column("record_json", "VARCHAR", "The row as delivered, as a JSON object."),
            Column("landed_at", "TIMESTAMP", "When it was set aside, UTC."),
            RUN,
        ),
    ),
    "landing_warnings": Table(
        "Something odd in a delivery that did not stop it.",
        (
            Column("input", "VARCHAR", "The input."),
            Column("file_id", "BIGINT", "The file."),
            Column("path", "VARCHAR", "Path of that file."),
            Column("kind", "VARCHAR", "extra_column, unknown_value, ..."),
            Column("message", "VARCHAR", "What was odd, in a sentence."),
            RUN,
        ),
    ),
    "text_scores": Table(
        "What a text says, by the scorer of [texts] in clv.toml.",
        (
            Column("_file_id", "BIGINT", "The file that the text came in, see ops.landed_files."),
            Column("_row_number", "BIGINT", "Its row in that file, from 1."),
            Column("text_hash", "VARCHAR", "MD5 of the text; another one is scored anew."),
            Column("scorer", "VARCHAR", "What read it, with its version."),
            Column("sentiment", "DOUBLE", "From -1, bad, to 1, good; null where it says nothing."),
            Column("is_complaint", "BOOLEAN", "Whether something went wrong for the writer."),
            *(
                Column(f"component_{k}", "DOUBLE", f"What it is about: component {k} of 4.")
                for k in range(1, 5)
            ),
        ),
    ),
    "text_basis": Table(
        "What spans the components of texts. Fitted once per reader, never changed.",
        (
            Column("scorer", "VARCHAR", "Whose scores it belongs to."),
            Column("fitted_on", "DATE", "It was fitted on texts known by the end of this day."),
            Column("count_texts", "BIGINT", "How many texts that were."),
            Column(
                "basis_json",
                "VARCHAR",
                "Weighted words or the mean embedding, and components, as JSON.",
            ),
        ),
    ),
    "holidays": Table(
        "A public holiday of a country that the data name.",
        (
            Column("country", "VARCHAR", "The country as it is written in the data."),
            Column("holiday_date", "DATE", "The day."),
            Column("holiday_name", "VARCHAR", "What is celebrated."),
        ),
    ),
    "feature_health": Table(
        "How a feature was doing in one run, over a sample of the customers.",
        (
            RUN,
            CUTOFF,
            Column("feature", "VARCHAR", "Column in features.customer_features."),
            Column("feature_view", "VARCHAR", "The feat_* model that computes it."),
            Column("count_customers", "BIGINT", "Customers in the sample."),
            Column("null_share", "DOUBLE", "Share of them without a value."),
            Column("training_null_share", "DOUBLE", "The same in the champion's training set."),
            Column("minimum", "DOUBLE", "Least value; null for a text or a flag."),
            *(
                Column(f"quantile_{q:02d}", "DOUBLE", f"Value that {q} % of the values stay below.")
                for q in (5, 25, 50, 75, 95)
            ),
            Column("maximum", "DOUBLE", "Greatest value."),
            Column(
                "psi_training",
                "DOUBLE",
                "Population stability index against the champion's training set; null without one.",
            ),
            Column("psi_last_run", "DOUBLE", "The same against the last good run."),
            Column(
                "age_days",
                "BIGINT",
                "Days from the newest row of the stalest input that it is made from to the cutoff.",
            ),
            Column("model_version", "VARCHAR", "The champion whose training set is compared with."),
        ),
    ),
    "data_quality": Table(
        "The outcome of one check of one gate in one run.",
        (
            RUN,
            CUTOFF,
            Column("checked_at", "TIMESTAMP", "When it was checked, UTC."),
            Column(
                "gate",
                "VARCHAR",
                "The gate: raw, staging, as_of, features, predictions, published.",
            ),
            Column("table_name", "VARCHAR", "The table that was checked."),
            Column("check_name", "VARCHAR", "What was checked."),
            Column("column_name", "VARCHAR", "The column that was checked; null for the table."),
            Column("severity", "VARCHAR", "stop or warn."),
            Column("is_passed", "BOOLEAN", "Whether it held."),
            Column("observed", "VARCHAR", "What was found."),
            Column("expected", "VARCHAR", "What is allowed."),
            Column("count_checked", "BIGINT", "Rows checked."),
            Column("count_failed", "BIGINT", "Rows that broke the rule."),
            Column("failed_keys", "VARCHAR", "JSON list of at most 10 pseudonymised ids."),
            Column("message", "VARCHAR", "The outcome in a sentence."),
        ),
    ),
    "pipeline_runs": Table(
        "One run of a job.",
        (
            RUN,
            Column("job", "VARCHAR", "Name of the job."),
            CUTOFF,
            Column("started_at", "TIMESTAMP", "When it started, UTC."),
            Column("finished_at", "TIMESTAMP", "When it ended, UTC; null while it runs."),
            Column(
                "status",
                "VARCHAR",
                "How it ended; published for the run that published the table being read.",
            ),
            Column("model_version", "VARCHAR", "The model that scored; null without scoring."),
            Column("count_customers", "BIGINT", "Customers scored."),
            Column("count_rows_in", "BIGINT", "Rows delivered, over all files."),
            Column("count_rows_kept", "BIGINT", "Rows landed, guests included."),
            Column("count_rows_guest", "BIGINT", "Rows landed without a user."),
            Column("count_rows_quarantined", "BIGINT", "Rows set aside."),
            Column("sum_amount_in", "DECIMAL(38,4)", "Amounts delivered, original currencies."),
            Column("sum_amount_kept", "DECIMAL(38,4)", "Amounts landed."),
            Column("sum_amount_guest", "DECIMAL(38,4)", "Amounts of guests."),
            Column("sum_amount_quarantined", "DECIMAL(38,4)", "Amounts set aside."),
            Column("message", "VARCHAR", "What stopped it, in a sentence; null where nothing did."),
        ),
    ),
}
