"""Gate 'published': is the candidate file the warehouse's answer, whole, and free of personal data?

It is attached read-only as ``publication`` beside the warehouse, before readers are pointed at it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clv_pipeline.dbt_yaml import load_document
from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.publication import is_published_cutoff, is_published_row
from clv_pipeline.warehouse import quote_identifier, quote_literal
from data_quality.rules import Rule, Suite, each_row, one_row_per
from data_quality.suites.run import Run

PUBLICATION = "publication"
# Readers find the tables in the file's main schema.
_READ = f"{PUBLICATION}.main"
TABLES = (
    "customer_clv",
    "customer_clv_history",
    "segment_profile",
    "clv_totals",
    "model_leaderboard",
    "backtest_metrics",
    "calibration",
    "model_comparisons",
    "model_effects",
    "matured_predictions",
    "feature_effects",
    "partial_dependence",
    "feature_registry",
    "feature_health",
    "data_quality",
    "pipeline_runs",
)
# Columns that a mart must never have, beside those that a contract calls personal.
PERSONAL_WORDS = ("email", "e_mail", "phone", "first_name", "last_name", "address", "birth")
_CLV = f"{_READ}.customer_clv"
_HISTORY = f"{_READ}.customer_clv_history"
_PREDICTIONS = "scores.customer_predictions"
_NEWEST = f"(SELECT max(cutoff_date) FROM {_PREDICTIONS})"
# Types that dbt names otherwise than DuckDB reports them.
_TYPE_NAMES = {
    "INT": "INTEGER",
    "INT8": "BIGINT",
    "INT4": "INTEGER",
    "TEXT": "VARCHAR",
    "STRING": "VARCHAR",
    "FLOAT8": "DOUBLE",
    "BOOL": "BOOLEAN",
    "DATETIME": "TIMESTAMP",
}


def suites(run: Run) -> list[Suite]:
    """List the suites of the gate."""
    contracts = load_contracts(run.settings.paths.dbt_project)
    return [
        *(columns(run, table, contracts.get(table, {})) for table in TABLES),
        *(row_count(run, table) for table in TABLES),
        personal_columns(),
        customer_clv(run),
        standing(run),
        *(totals(run, horizon) for horizon in run.settings.value.horizons),
        customer_clv_history(run),
    ]


def load_contracts(dbt_project: Path) -> dict[str, dict[str, str]]:
    """Read the columns and types that the marts promise from the dbt project as installed.

    Returns
    -------
    dict of str to dict of str to str
        By mart: DuckDB type by column. Empty where no project is installed.
    """
    found: dict[str, dict[str, str]] = {}
    for file in sorted((dbt_project / "models" / "marts").glob("**/*.yml")):
        document: Any = load_document(file.read_text(encoding="utf-8")) or {}
        for model in document.get("models", ()):
            found[model["name"]] = {
                column["name"]: _type_name(column["data_type"])
                for column in model.get("columns", ())
                if "data_type" in column
            }
    return found


def columns(run: Run, table: str, contract: dict[str, str]) -> Suite:
    """Make the suite of a table's columns: those of its contract, or of the warehouse without."""
    name = quote_literal(table)
    catalog = "table_catalog = current_catalog()"
    if contract:
        values = ", ".join(
            f"({quote_literal(n)}, {quote_literal(kind)})" for n, kind in contract.items()
        )
        wanted = f"(VALUES {values}) AS wanted(column_name, data_type)"
    else:
        wanted = (
            "(SELECT column_name, data_type FROM information_schema.columns WHERE "
            f"{catalog} AND table_schema = 'clv' AND table_name = {name}) AS wanted"
        )
    source = f"""(
        SELECT
            coalesce(wanted.column_name, found.column_name) AS column_name,
            wanted.data_type AS wanted_type,
            found.data_type AS found_type
        FROM {wanted}
        FULL JOIN (
            SELECT column_name, data_type FROM information_schema.columns
            WHERE table_catalog = '{PUBLICATION}' AND table_schema = 'main' AND table_name = {name}
        ) AS found
            ON found.column_name = wanted.column_name
    )"""
    return Suite(
        table=f"clv.{table}",
        source=source,
        rules=(
            Rule("columns", "count(*)", "the table has no columns", minimum=1),
            each_row(
                "schema",
                "found_type = wanted_type",
                "are not as the contract says",
                what="columns",
            ),
        ),
        key="column_name || CASE WHEN found_type IS NULL THEN ' is missing' "
        "WHEN wanted_type IS NULL THEN ' is not in the contract' "
        "ELSE ' is ' || found_type || ', not ' || wanted_type END",
        is_key_personal=False,
        needs=(f"{_READ}.{table}",),
        parameters=run.parameters,
    )


def row_count(run: Run, table: str) -> Suite:
    """Make the suite of a table's size: as many rows as the warehouse has to publish."""
    name = quote_identifier(table)
    return Suite(
        table=f"clv.{table}",
        source=f"""(
            SELECT
                (SELECT count(*) FROM {_READ}.{name}) AS published,
                (
                    SELECT count(*) FROM clv.{name}
                    WHERE {is_published_row(run.settings, table)}
                ) AS held
        )""",
        rules=(
            Rule(
                "row_count",
                "any_value(published) - any_value(held)",
                "the publication has {observed} rows more than the warehouse (less, if negative)",
                minimum=0,
                maximum=0,
            ),
        ),
        needs=(f"{_READ}.{table}", f"clv.{table}"),
    )


def personal_columns() -> Suite:
    """Make the suite of all columns of the publication: none holds personal data.

    The customer's id is the one key that a reader joins by.
    """
    fields = [f for contract in CONTRACTS.values() for f in contract.fields if f.personal]
    names = ", ".join(sorted({quote_literal(field.name) for field in fields}))
    words = " OR ".join(f"contains(column_name, {quote_literal(w)})" for w in PERSONAL_WORDS)
    return Suite(
        table="clv",
        source=f"""(
            SELECT table_name, lower(column_name) AS column_name FROM information_schema.columns
            WHERE table_catalog = '{PUBLICATION}'
        )""",
        rules=(
            each_row(
                "no_personal_data",
                f"NOT (column_name IN ({names}) OR {words})",
                "of the publication hold personal data",
                what="columns",
            ),
        ),
        key="table_name || '.' || column_name",
        is_key_personal=False,
    )


def customer_clv(run: Run) -> Suite:
    """Make the suite of the daily answer: one row per customer, of one run and one cutoff."""
    longest = max(run.settings.value.horizons)
    # An upgrade of the SQL empties the spine; an older day may then be scored before the newest is.
    spine = f"""coalesce(
        (SELECT nullif(count(*), 0) FROM as_of.customer_spine WHERE cutoff_date = {_NEWEST}),
        (SELECT count(DISTINCT customer_id) FROM {_PREDICTIONS} WHERE cutoff_date = {_NEWEST})
    )"""
    return Suite(
        table="clv.customer_clv",
        source=f"(SELECT * FROM {_CLV})",
        rules=(
            one_row_per(_CLV, ("customer_id",), "customer_id"),
            each_row("present", "customer_id <> ''", "have no customer_id", "customer_id"),
            Rule(
                "one_run",
                "count(DISTINCT run_id)",
                "rows come from {observed} runs instead of one",
                column="run_id",
                minimum=1,
                maximum=1,
            ),
            Rule(
                "one_model",
                "count(DISTINCT model_version)",
                "rows come from {observed} models instead of one",
                column="model_version",
                minimum=1,
                maximum=1,
            ),
            each_row(
                "newest_cutoff",
                f"cutoff_date = {_NEWEST}",
                "are not of the newest cutoff that was scored",
                "cutoff_date",
            ),
            Rule(
                "covers_spine",
                f"count(*) - {spine}",
                "there are {observed} customers more than were scored (fewer, if negative)",
                minimum=0,
                maximum=0,
            ),
            each_row(
                "updated_at",
                "updated_at <= cutoff_date",
                "changed after the cutoff",
                "updated_at",
            ),
            each_row(
                "total_value",
                f"abs(total_value - historic_value - clv_{longest}d) "
                "<= 0.005 + 1e-9 * abs(total_value)",
                "have a total value that is not the historic value and the longest horizon's",
                "total_value",
            ),
        ),
        key="customer_id",
        needs=(_CLV, _PREDICTIONS, "as_of.customer_spine"),
        parameters=run.parameters,
    )


def standing(run: Run) -> Suite:
    """Make the suite of where customers stand: shares, ranks and names in range."""

    def in_range(column: str, holds: str, says: str) -> Rule:
        return each_row("in_range", holds, says, column)

    return Suite(
        table="clv.customer_clv",
        source=f"(SELECT *, count(*) OVER () AS customers FROM {_CLV})",
        rules=(
            in_range(
                "churn_probability",
                "churn_probability BETWEEN 0 AND 1",
                "have a churn probability outside of 0 to 1",
            ),
            in_range(
                "p_alive",
                "p_alive IS NULL OR p_alive BETWEEN 0 AND 1",
                "have a probability of being alive outside of 0 to 1",
            ),
            in_range(
                "loyalty_score",
                "loyalty_score BETWEEN 0 AND 100",
                "have a loyalty score outside of 0 to 100",
            ),
            in_range(
                "clv_percentile",
                "clv_percentile BETWEEN 0 AND 100",
                "have a percentile outside of 0 to 100",
            ),
            in_range(
                "clv_rank",
                "clv_rank BETWEEN 1 AND customers",
                "have a rank outside of 1 to the number of customers",
            ),
            in_range(
                "expected_next_order_date",
                "expected_next_order_date IS NULL OR expected_next_order_date > cutoff_date",
                "expect the next order on or before the cutoff",
            ),
            in_range(
                "confidence",
                "confidence IN ('high', 'medium', 'low') AND confidence_reason <> ''",
                "have no confidence of high, medium or low with its reason",
            ),
            *(
                each_row("present", f"{name} <> ''", f"have no {name}", name)
                for name in ("segment", "value_tier", "rfm_segment", "rfm_score")
            ),
        ),
        key="customer_id",
        needs=(_CLV,),
        parameters=run.parameters,
    )


def totals(run: Run, horizon: int) -> Suite:
    """Make the suite of a horizon's total: to the cent what was scored."""
    column = f"clv_{int(horizon)}d"
    return Suite(
        table="clv.customer_clv",
        source=f"""(
            SELECT
                (SELECT sum({column}) FROM {_CLV}) AS published,
                (
                    SELECT sum(clv) FROM {_PREDICTIONS}
                    WHERE horizon_days = {int(horizon)} AND cutoff_date = {_NEWEST}
                ) AS scored
        )""",
        rules=(
            Rule(
                "total_equals_scores",
                "round(any_value(published) - any_value(scored), 2)",
                "the published total differs by {observed} from what was scored",
                column=column,
                minimum=0,
                maximum=0,
            ),
        ),
        needs=(_CLV, _PREDICTIONS),
        parameters=run.parameters,
    )


def customer_clv_history(run: Run) -> Suite:
    """Make the suite of the history: every scored cutoff that belongs there, whole, and today's."""
    longest = max(run.settings.value.horizons)
    source = f"""(
        SELECT
            coalesce(scored.cutoff_date, published.cutoff_date) AS cutoff_date,
            scored.customers AS scored_customers,
            scored.total AS scored_total,
            published.customers AS published_customers,
            published.total AS published_total,
            published.count_rows AS published_rows
        FROM (
            SELECT cutoff_date, count(DISTINCT customer_id) AS customers,
                sum(clv) FILTER (WHERE horizon_days = {int(longest)}) AS total
            FROM {_PREDICTIONS} WHERE {is_published_cutoff(run.settings, _PREDICTIONS)} GROUP BY 1
        ) AS scored
        FULL JOIN (
            SELECT cutoff_date, count(DISTINCT customer_id) AS customers, count(*) AS count_rows,
                sum(clv_{int(longest)}d) AS total
            FROM {_HISTORY} GROUP BY 1
        ) AS published
            ON published.cutoff_date = scored.cutoff_date
    )"""
    return Suite(
        table="clv.customer_clv_history",
        source=source,
        rules=(
            each_row(
                "history_complete",
                "published_customers = scored_customers",
                "are missing or have other customers than were scored",
                "cutoff_date",
                what="cutoffs",
            ),
            each_row(
                "one_row_per_key",
                "published_rows = published_customers",
                "have several rows of a customer",
                "customer_id",
                what="cutoffs",
            ),
            each_row(
                "total_equals_scores",
                "round(published_total, 2) IS NOT DISTINCT FROM round(scored_total, 2)",
                "have another total than was scored",
                f"clv_{int(longest)}d",
                what="cutoffs",
            ),
        ),
        key="'cutoff ' || cutoff_date",
        is_key_personal=False,
        needs=(_HISTORY, _PREDICTIONS),
        parameters=run.parameters,
    )


def _type_name(name: str) -> str:
    upper = name.strip().upper().replace(" ", "")
    return _TYPE_NAMES.get(upper, upper)
