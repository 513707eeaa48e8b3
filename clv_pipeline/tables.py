"""The tables that Python writes for dbt to read: their columns, types and meaning, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from clv_pipeline.warehouse import quote_identifier


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name, kind, description
        Its name, its DuckDB type, and what it means.
    """

    name: str
    kind: str
    description: str


@dataclass(frozen=True)
class Table:
    """One table of the warehouse.

    Attributes
    ----------
    description
        What one row is.
    columns
        Its columns, in order.
    """

    description: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """Return the column of that name.

        Raises
        ------
        KeyError
            If the table has no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"the table has no column '{name}'")


_CUSTOMER = Column("customer_id", "VARCHAR", "The customer, as accounts were merged at the cutoff.")
_CUTOFF = Column("cutoff_date", "DATE", "The business day up to and including which was known.")
_HORIZON = Column("horizon_days", "INTEGER", "Days after the cutoff that are predicted.")
_MODEL_VERSION = Column("model_version", "VARCHAR", "The version of the model that scored.")
_RUN = Column("run_id", "VARCHAR", "The run that wrote the row.")


def _reasons(count: int) -> tuple[Column, ...]:
    columns: list[Column] = []
    for k in range(1, count + 1):
        size = ("Largest", "Second", "Third")[k - 1]
        columns += (
            Column(
                f"reason_{k}",
                "VARCHAR",
                f"{size} reason for the value over the longest horizon; null without one.",
            ),
            Column(
                f"reason_{k}_effect",
                "DOUBLE",
                f"What reason_{k} adds to the value of the reference customer, or takes from it, "
                "reporting currency.",
            ),
        )
    return tuple(columns)


def _intervals(prefix: str, what: str) -> tuple[Column, ...]:
    return tuple(
        Column(
            f"{prefix}{side}_{share}",
            "DOUBLE",
            f"{end} end of the interval that holds {what} {share} times in 100.",
        )
        for share in (80, 95)
        for side, end in (("low", "Lower"), ("high", "Upper"))
    )


SCORE_TABLES: dict[str, Table] = {
    "customer_predictions": Table(
        "What a customer is predicted to bring over one horizon after one cutoff.",
        (
            _CUSTOMER,
            _CUTOFF,
            _HORIZON,
            Column("clv", "DOUBLE", "Expected value over the horizon, reporting currency."),
            Column("clv_p10", "DOUBLE", "Value that 10 % of the outcomes stay below."),
            Column("clv_p50", "DOUBLE", "Median of the value over the horizon."),
            Column("clv_p90", "DOUBLE", "Value that 90 % of the outcomes stay below."),
            *_intervals("clv_", "the value of customers, and as often of those who buy"),
            Column("probability_purchase", "DOUBLE", "Probability of at least one order, 0 to 1."),
            Column("expected_orders", "DOUBLE", "Expected number of orders over the horizon."),
            _MODEL_VERSION,
            _RUN,
        ),
    ),
    "customer_standing": Table(
        "Where a customer stands at one cutoff, over all horizons.",
        (
            _CUSTOMER,
            _CUTOFF,
            Column(
                "p_alive",
                "DOUBLE",
                "Probability of still being a customer, 0 to 1; null where no model says so.",
            ),
            Column(
                "churn_probability",
                "DOUBLE",
                "Probability of no order over the churn horizon, 0 to 1.",
            ),
            Column(
                "days_between_orders",
                "DOUBLE",
                "Typical days between two orders; null when unknown.",
            ),
            Column(
                "expected_next_order_date",
                "DATE",
                "When the next order is expected; null when unknown.",
            ),
            Column("loyalty_score", "DOUBLE", "0 (no tie) to 100 (closest tie)."),
            Column("clv_rank", "BIGINT", "1 is the highest value over the longest horizon."),
            Column("clv_percentile", "DOUBLE", "Share of customers not above this one, 0 to 100."),
            Column("value_tier", "VARCHAR", "Tier by value over the longest horizon."),
            Column("segment", "VARCHAR", "Action segment: value against the risk of going."),
            Column("rfm_segment", "VARCHAR", "Name of the recency, frequency, money segment."),
            Column("rfm_score", "VARCHAR", "Recency, frequency and money scores, 1 to 5 each."),
            Column("confidence", "VARCHAR", "high, medium or low."),
            Column("confidence_reason", "VARCHAR", "Why the confidence is what it is."),
            *_reasons(3),
            _MODEL_VERSION,
            _RUN,
        ),
    ),
    "clv_totals": Table(
        "What all customers, or those of a group, are predicted to bring together over one horizon "
        "after one cutoff.",
        (
            _CUTOFF,
            _HORIZON,
            Column("group_kind", "VARCHAR", "What the customers are grouped by; 'all' for none."),
            Column("group_value", "VARCHAR", "Which group; 'unknown' where nothing is known."),
            Column("count_customers", "BIGINT", "Customers of the group."),
            Column("clv", "DOUBLE", "Sum of their expected values, reporting currency."),
            *_intervals("", "the total, by the luck of customers and the errors of past cutoffs,"),
            _MODEL_VERSION,
            _RUN,
        ),
    ),
    "segment_actions": Table(
        "What to do about each action segment.",
        (
            Column("segment", "VARCHAR", "Name of the action segment."),
            Column("what_to_do", "VARCHAR", "Advice in words an analyst can act on."),
        ),
    ),
    "model_leaderboard": Table(
        "How well a model did on one evaluation cutoff and horizon.",
        (
            Column("model", "VARCHAR", "Name of the model or baseline."),
            _HORIZON,
            Column("evaluation_date", "DATE", "The cutoff that was predicted."),
            Column("count_customers", "BIGINT", "Customers evaluated."),
            Column("normalized_gini", "DOUBLE", "Ranking by value, 1 is perfect, 0 is a constant."),
            Column("spearman", "DOUBLE", "Rank correlation of predicted and actual value."),
            Column("rmse", "DOUBLE", "Root mean squared error, reporting currency."),
            Column("mae", "DOUBLE", "Mean absolute error, reporting currency."),
            Column("total_bias", "DOUBLE", "Predicted total over actual total, minus 1."),
            Column("top_10_capture", "DOUBLE", "Share of value held by the top 10 % predicted."),
            Column("top_20_capture", "DOUBLE", "Share of value held by the top 20 % predicted."),
            Column(
                "auc",
                "DOUBLE",
                "Area under the curve of the purchase probability; null without one.",
            ),
            Column("decile_mape", "DOUBLE", "Mean absolute percentage error of decile totals."),
            Column(
                "coverage_80",
                "DOUBLE",
                "Share of customers between P10 and P90; null without intervals.",
            ),
            Column("is_champion", "BOOLEAN", "Whether this model serves."),
            Column("trained_for_date", "DATE", "The cutoff the training was for."),
            _MODEL_VERSION,
            _RUN,
        ),
    ),
    "backtest_metrics": Table(
        "One measure of one model on one evaluation cutoff, horizon and slice of customers.",
        (
            Column("model", "VARCHAR", "Name of the model or baseline."),
            _HORIZON,
            Column("evaluation_date", "DATE", "The cutoff that was predicted."),
            Column("slice_name", "VARCHAR", "What the customers are sliced by; 'all' for none."),
            Column("slice_value", "VARCHAR", "Which slice."),
            Column("measure", "VARCHAR", "Name of the measure."),
            Column("figure", "DOUBLE", "Its value; null where it is not defined."),
            _MODEL_VERSION,
            _RUN,
        ),
    ),
}

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
            _RUN,
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
            _RUN,
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
            _RUN,
        ),
    ),
    "text_scores": Table(
        "What a text says, by the scorer of [texts] in clv.toml.",
        (
            Column("_file_id", "BIGINT", "The file that the text came in, see ops.landed_files."),
            Column("_row_number", "BIGINT", "Its row in that file, from 1."),
            Column("text_hash", "VARCHAR", "MD5 of the text; another one is scored anew."),
            Column("scorer", "VARCHAR", "What scored it, with its version."),
            Column("sentiment", "DOUBLE", "From -1, bad, to 1, good; null where it says nothing."),
            Column("is_complaint", "BOOLEAN", "Whether something went wrong for the writer."),
            *(
                Column(f"component_{k}", "DOUBLE", f"What it is about: component {k} of 4.")
                for k in range(1, 5)
            ),
        ),
    ),
    "text_basis": Table(
        "The words that span the components of texts. Fitted once per scorer, never changed.",
        (
            Column("scorer", "VARCHAR", "Whose scores it belongs to."),
            Column("fitted_on", "DATE", "It was fitted on texts known by the end of this day."),
            Column("count_texts", "BIGINT", "How many texts that were."),
            Column("basis_json", "VARCHAR", "Words, their weights and components, as JSON."),
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
            _RUN,
            _CUTOFF,
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
            _RUN,
            _CUTOFF,
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
            _RUN,
            Column("job", "VARCHAR", "Name of the job."),
            _CUTOFF,
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


def create_tables(
    connection: duckdb.DuckDBPyConnection, schema: str, tables: Mapping[str, Table]
) -> None:
    """Create the tables that are missing, empty and typed, and add the columns that are."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}")
    for name, table in tables.items():
        columns = ", ".join(f"{quote_identifier(c.name)} {c.kind}" for c in table.columns)
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {quote_identifier(schema)}.{quote_identifier(name)} "
            f"({columns})"
        )
    add_missing_columns(
        connection, schema, {n: {c.name: c.kind for c in t.columns} for n, t in tables.items()}
    )


def add_missing_columns(
    connection: duckdb.DuckDBPyConnection, schema: str, tables: Mapping[str, Mapping[str, str]]
) -> None:
    """Add the columns that tables lack because an earlier release made them; nulls in their rows.

    Parameters
    ----------
    tables
        By table, the DuckDB type of each column.
    """
    rows = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = ? "
        "AND database_name = current_database()",
        [schema],
    ).fetchall()
    held = set(rows)
    for name, columns in tables.items():
        for column, kind in columns.items():
            if (name, column) not in held:
                connection.execute(
                    f"ALTER TABLE {quote_identifier(schema)}.{quote_identifier(name)} "
                    f"ADD COLUMN {quote_identifier(column)} {kind}"
                )
