"""Gate 'raw': is what arrived complete, fresh, and like what arrived before?"""

from __future__ import annotations

from clv_pipeline.ingest.contract import (
    CONTRACTS,
    DUCKDB_TYPES,
    TRANSACTIONS,
    Contract,
    Field,
)
from clv_pipeline.warehouse import quote_identifier, quote_literal
from data_quality.rules import Rule, Suite, each_row, one_row_per
from data_quality.suites.run import Run, business_day

# Fewer orders than this make no median to compare.
MIN_ORDERS = 10
IF_WRONG = (
    "if not, put the right file in the wrong one's place, under its name, with "
    'when_changed = "replace" under its input in clv.toml'
)
_STAGED = "staging.stg_transactions"
ROW_ADDRESS = "'file ' || _file_id || ' row ' || _row_number"


def suites(run: Run) -> list[Suite]:
    """List the suites of the gate."""
    landed = [part for c in CONTRACTS.values() for part in (columns(c), rows(run, c))]
    return [*landed, transactions(run), order_values(run), events(run), landed_files(run)]


def columns(contract: Contract) -> Suite:
    """Make the suite of an input's columns: each is there, with the type of the contract."""
    wanted = [(field.name, DUCKDB_TYPES[field.kind]) for field in contract.fields]
    wanted += [("_file_id", "BIGINT"), ("_row_number", "BIGINT")]
    values = ", ".join(f"({quote_literal(n)}, {quote_literal(t)})" for n, t in wanted)
    source = f"""(
        SELECT name, wanted.type AS wanted_type, found.data_type AS found_type
        FROM (VALUES {values}) AS wanted(name, type)
        LEFT JOIN information_schema.columns AS found
            ON found.column_name = wanted.name
            AND found.table_catalog = current_catalog()
            AND found.table_schema = 'raw'
            AND found.table_name = {quote_literal(contract.name)}
    )"""
    return Suite(
        table=f"raw.{contract.name}",
        source=source,
        rules=(
            each_row(
                "schema",
                "found_type = wanted_type",
                "of the contract are missing or of another type",
                what="columns",
            ),
        ),
        key="name || ' ' || coalesce('is ' || found_type || ', not ' || wanted_type, 'is missing')",
        is_key_personal=False,
        needs=(f"raw.{contract.name}",),
    )


def rows(run: Run, contract: Contract) -> Suite:
    """Make the suite of an input's rows: keys and required values, and where each came from."""
    table = f"raw.{quote_identifier(contract.name)}"
    rules = [rule for field in contract.fields if (rule := _value_rule(field)) is not None]
    return Suite(
        table=f"raw.{contract.name}",
        source=f"(SELECT * FROM {table})",
        rules=(
            one_row_per(table, ("_file_id", "_row_number"), ROW_ADDRESS),
            each_row(
                "known_file",
                # File 0 is the package that the exchange rates come with.
                "_file_id = 0 OR _file_id IN (SELECT file_id FROM ops.landed_files)",
                "come from a file that the ledger of landed files doesn't know",
                "_file_id",
            ),
            *rules,
        ),
        key=ROW_ADDRESS,
        is_key_personal=False,
        needs=(f"raw.{contract.name}", "ops.landed_files"),
        parameters=run.parameters,
    )


def transactions(run: Run) -> Suite:
    """Make the suite of volume and freshness of the transactions."""
    gates = run.settings.gates
    per_day = (
        "nullif(count(*) FILTER (WHERE {0}), 0)"
        " / nullif(count(DISTINCT business_day) FILTER (WHERE {0}), 0)"
    )
    return Suite(
        table="raw.transactions",
        source=f"""(
            SELECT *, {business_day("ts")} AS business_day, {_is_new(run)} AS is_new
            FROM raw.transactions
        )""",
        rules=(
            Rule("volume", "count(*)", "there is not a single row", minimum=1),
            Rule(
                "volume_against_earlier",
                f"({per_day.format('is_new')}) / ({per_day.format('NOT is_new')})",
                "newly landed data have {observed} times as many rows per day as earlier data, "
                "allowed is {expected}: if they are right, raise gates.max_volume_ratio; "
                + IF_WRONG,
                maximum=gates.max_volume_ratio,
                if_nothing="nothing new to compare with nothing earlier",
            ),
            Rule(
                "volume_against_earlier_low",
                f"({per_day.format('is_new')}) / ({per_day.format('NOT is_new')})",
                "newly landed data have only {observed} times as many rows per day as earlier "
                "data, usual is {expected}",
                minimum=1 / gates.max_volume_ratio,
                severity="warn",
                if_nothing="nothing new to compare with nothing earlier",
            ),
            Rule(
                "volume_against_staged",
                f"count(*) / {_staged_rows(run)}",
                "the landed table holds {observed} times the rows that the last good run staged, "
                "allowed is {expected}: if they are right, raise gates.max_volume_ratio; "
                + IF_WRONG,
                minimum=1 / gates.max_volume_ratio,
                if_nothing="nothing is staged yet",
            ),
            _freshness("stop", gates.max_staleness_days),
        ),
        needs=("raw.transactions", "ops.landed_files"),
        parameters=run.parameters,
    )


def events(run: Run) -> Suite:
    """Make the suite of freshness of the events, which a run can do without."""
    return Suite(
        table="raw.events",
        source=f"(SELECT {business_day('ts')} AS business_day FROM raw.events)",
        rules=(_freshness("warn", run.settings.gates.max_staleness_days, "there are no events"),),
        needs=("raw.events",),
        parameters=run.parameters,
    )


def order_values(run: Run) -> Suite:
    """Make the suite of the distribution of order values: cents for euros, or the other way round.

    The median order value of each new file, by currency, is held against that of the data that an
    earlier run accepted; where a new version of the whole took their place, against what was staged
    of them; in a first landing, against that of all its files together. Files with few orders are
    pooled. Refunds and orders of nothing are left out.
    """
    limit = run.settings.gates.max_amount_ratio
    source = f"""(
        WITH orders AS (
            SELECT
                coalesce(currency, $reporting_currency) AS currency,
                _file_id AS file_id,
                {_is_new(run)} AS is_new,
                sum(amount)::DOUBLE AS order_value
            FROM raw.transactions
            WHERE amount > 0 AND is_refund IS NOT TRUE
            GROUP BY 1, 2, 3, coalesce(transaction_id, _file_id || ':' || _row_number)
        ),
        sized AS (
            SELECT *, count(*) OVER (PARTITION BY currency, file_id) AS orders_in_file
            FROM orders
        ),
        earlier AS (
            SELECT currency, median(order_value) AS usual, count(*) AS orders
            FROM orders WHERE NOT is_new GROUP BY currency
        ),
        staged AS ({_staged_orders(run)}),
        everything AS (
            SELECT currency, median(order_value) AS usual, count(DISTINCT file_id) AS files
            FROM orders GROUP BY currency
        ),
        new AS (
            SELECT
                currency,
                CASE WHEN orders_in_file >= {MIN_ORDERS} THEN file_id END AS file_id,
                median(order_value) AS usual
            FROM sized WHERE is_new GROUP BY 1, 2 HAVING count(*) >= {MIN_ORDERS}
        )
        SELECT
            new.file_id,
            new.usual / CASE
                WHEN earlier.orders >= {MIN_ORDERS} THEN earlier.usual
                WHEN staged.orders >= {MIN_ORDERS} THEN staged.usual
                WHEN everything.files > 1 THEN everything.usual
            END AS ratio
        FROM new
        LEFT JOIN earlier USING (currency)
        LEFT JOIN staged USING (currency)
        LEFT JOIN everything USING (currency)
    )"""
    is_far = f"ratio IS NOT NULL AND ratio NOT BETWEEN {1 / limit!r} AND {limit!r}"
    return Suite(
        table="raw.transactions",
        source=source,
        rules=(
            Rule(
                "amount_distribution",
                "arg_max(ratio, abs(ln(ratio)))",
                "the median order value of newly landed data is {observed} times that of the other "
                "data, allowed is {expected}: if the amounts are right, raise "
                "gates.max_amount_ratio; " + IF_WRONG,
                column="amount",
                minimum=1 / limit,
                maximum=limit,
                breaks=is_far,
                if_nothing="too few orders, new or earlier, to compare",
            ),
        ),
        key="coalesce('file ' || file_id, 'several small files')",
        is_key_personal=False,
        needs=("raw.transactions", "ops.landed_files"),
        parameters=run.parameters,
    )


def landed_files(run: Run) -> Suite:
    """Make the suite of the ledger: every row and amount is accounted for, few are quarantined."""
    limit = run.settings.gates.max_quarantine_share
    landed = " UNION ALL ".join(
        f"SELECT {quote_literal(name)} AS input, _file_id, count(*) AS count_rows "
        f"FROM raw.{quote_identifier(name)} GROUP BY 2"
        for name in CONTRACTS
    )
    # A file of a day without orders has no rows, and no share of them.
    share = (
        "sum(count_rows_quarantined) FILTER (WHERE {0})"
        " / nullif(sum(count_rows_in) FILTER (WHERE {0}), 0)"
    )
    is_orders = f"files.input = {quote_literal(TRANSACTIONS.name)}"
    return Suite(
        table="ops.landed_files",
        source=f"""(
            SELECT files.*, {_is_new(run, "files.file_id")} AS is_new,
                coalesce(landed.count_rows, 0) AS count_rows_landed,
                {is_orders} AS is_orders
            FROM ops.landed_files AS files
            LEFT JOIN ({landed}) AS landed
                ON landed.input = files.input AND landed._file_id = files.file_id
        )""",
        rules=(
            each_row(
                "rows_in_is_kept_and_quarantined",
                "count_rows_in = count_rows_kept + count_rows_quarantined",
                "have other rows in than kept and quarantined together",
                what="files",
            ),
            each_row(
                "guests_are_kept",
                "count_rows_guest BETWEEN 0 AND count_rows_kept",
                "count more guest rows than kept rows",
                what="files",
            ),
            each_row(
                "kept_rows_are_landed",
                "count_rows_kept = count_rows_landed",
                "have other kept rows than the landed table holds of them",
                what="files",
            ),
            each_row(
                "amounts_in_are_kept_and_quarantined",
                "NOT is_orders OR abs(coalesce(sum_amount_in, 0) - coalesce(sum_amount_kept, 0) "
                "- coalesce(sum_amount_quarantined, 0)) < 0.005",
                "have another amount in than kept and quarantined together",
                what="files",
            ),
            Rule(
                "quarantine_share",
                share.format("is_orders AND is_new"),
                "{observed} of the newly landed transaction rows are quarantined, allowed is "
                "{expected}: ops.quarantine says why",
                maximum=limit,
                if_nothing="no transactions are newly landed",
            ),
            Rule(
                "quarantine_share_overall",
                share.format("is_orders"),
                "{observed} of all transaction rows are quarantined, allowed is {expected}: "
                "ops.quarantine says why",
                maximum=limit,
                if_nothing="no rows of transactions have landed",
            ),
            Rule(
                "quarantine_share_of_other_inputs",
                share.format("NOT is_orders AND is_new"),
                "{observed} of the newly landed rows of other inputs are quarantined, usual is "
                "{expected}: ops.quarantine says why",
                maximum=limit,
                severity="warn",
                if_nothing="no other input is newly landed",
            ),
        ),
        key="'file ' || file_id",
        is_key_personal=False,
        needs=("ops.landed_files", *(f"raw.{name}" for name in CONTRACTS)),
        parameters=run.parameters,
    )


def _value_rule(field: Field) -> Rule | None:
    column = quote_identifier(field.name)
    is_text = field.kind in ("key", "text")
    present = f"trim({column}) <> ''" if is_text else f"{column} IS NOT NULL"
    if field.kind == "number":
        present = f"isfinite({column})"
    if not field.nullable:
        return each_row("present", present, f"have no usable {field.name}", field.name)
    if field.kind in ("key", "number"):
        return each_row(
            "present_or_null",
            f"{column} IS NULL OR {present}",
            f"have a {field.name} that is blank or no number",
            field.name,
        )
    return None


def _freshness(severity: str, days: int, if_nothing: str | None = None) -> Rule:
    return Rule(
        "freshness",
        "greatest(0, $cutoff::DATE - max(business_day))",
        "the newest row is {observed} days older than the cutoff, allowed is {expected}",
        column="ts",
        maximum=days,
        severity="stop" if severity == "stop" else "warn",
        if_nothing=if_nothing,
    )


def _is_new(run: Run, file_id: str = "_file_id") -> str:
    """Write the SQL of whether a file is new: no run whose raw gate passed has seen it.

    What a gate refused stays new, so that the next run is refused too until the data are mended.
    """
    if "ops.data_quality" not in run.tables:
        return "true"
    return f"""{file_id} NOT IN (
        SELECT file_id FROM ops.landed_files
        WHERE run_id <> $run_id AND run_id IN (
            SELECT run_id FROM ops.data_quality WHERE gate = 'raw'
            GROUP BY run_id HAVING bool_and(is_passed OR severity = 'warn')
        )
    )"""


def _staged_rows(run: Run) -> str:
    """Write the SQL of how many landed rows the last run staged; null where none did."""
    if _STAGED not in run.tables:
        return "NULL"
    return f"(SELECT nullif(count(DISTINCT (_file_id, _row_number)), 0) FROM {_STAGED})"


def _staged_orders(run: Run) -> str:
    """Write the SQL of the usual order value by currency in what the last run staged.

    A run that this gate refuses stages nothing, so staging holds what was accepted.
    """
    if _STAGED not in run.tables:
        return "SELECT NULL::VARCHAR AS currency, NULL::DOUBLE AS usual, 0 AS orders WHERE false"
    return f"""
        SELECT currency, median(order_value) AS usual, count(*) AS orders
        FROM (
            SELECT currency, order_key, sum(amount)::DOUBLE AS order_value FROM {_STAGED}
            WHERE is_current AND NOT is_refund AND amount > 0 GROUP BY 1, 2
        ) AS orders GROUP BY 1
    """
