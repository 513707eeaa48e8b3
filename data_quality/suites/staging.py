"""Gate 'staging': keys, ranges, currencies, and no cent lost from landed rows to the days."""

from __future__ import annotations

from data_quality.rules import Rule, Suite, each_row, one_row_per
from data_quality.suites.raw import ROW_ADDRESS
from data_quality.suites.run import Run, business_day

_STAGED = "staging.stg_transactions"
_DAYS = "intermediate.int_customer_days"
_CENT = 0.005


def suites(run: Run) -> list[Suite]:
    """List the suites of the gate."""
    found = [
        stg_transactions(run),
        conserved_rows(run),
        conserved_amounts(run),
        int_customer_days(),
    ]
    if "staging.stg_users" in run.tables:
        found.append(stg_users())
    return found


def stg_transactions(run: Run) -> Suite:
    """Make the suite of staged lines: keys, days, currencies and the conversion of each row."""
    is_home = "currency = $reporting_currency"
    return Suite(
        table=_STAGED,
        source=f"(SELECT * FROM {_STAGED})",
        rules=(
            one_row_per(_STAGED, ("_file_id", "_row_number", "rate_version"), ROW_ADDRESS),
            each_row("present", "order_key <> ''", "have no order_key", "order_key"),
            each_row(
                "present_or_guest",
                "is_guest = (user_id IS NULL) AND (user_id IS NULL OR trim(user_id) <> '')",
                "are neither of a customer nor of a guest",
                "user_id",
            ),
            each_row(
                "business_day",
                f"activity_date = {business_day('happened_at')}",
                "are on another day than that of the business time zone",
                "activity_date",
            ),
            each_row(
                "known_after_it_happened",
                "known_from_date >= activity_date",
                "were known before they happened",
                "known_from_date",
            ),
            each_row(
                "currency_code",
                "regexp_full_match(currency, '[A-Z]{3}')",
                "have no currency of three capital letters",
                "currency",
            ),
            each_row(
                "has_rate",
                f"isfinite(rate::DOUBLE) AND rate > 0 AND (NOT ({is_home}) OR rate = 1)",
                "have no usable exchange rate",
                "rate",
            ),
            each_row(
                "converted_at_its_rate",
                "abs(net_revenue::DOUBLE - amount::DOUBLE * rate::DOUBLE) "
                "<= 0.0001 + 1e-9 * abs(net_revenue::DOUBLE)",
                "have a net revenue that is not their amount at their rate",
                "net_revenue",
            ),
            each_row(
                "refund_is_negative",
                "NOT is_refund OR net_revenue <= 0",
                "are refunds that add revenue",
                "net_revenue",
            ),
            each_row(
                "value_definition",
                "value = net_revenue - variable_cost"
                if run.settings.value.definition == "contribution_margin"
                else "value = net_revenue",
                "have a value that is not what the settings define",
                "value",
            ),
        ),
        key=ROW_ADDRESS,
        is_key_personal=False,
        needs=(_STAGED,),
        parameters=run.parameters,
    )


def stg_users() -> Suite:
    """Make the suite of users' versions: one a day, each ending where the next begins."""
    return Suite(
        table="staging.stg_users",
        source="(SELECT * FROM staging.stg_users)",
        rules=(
            one_row_per("staging.stg_users", ("user_id", "valid_from_date"), "user_id"),
            each_row("present", "trim(user_id) <> ''", "have no user_id", "user_id"),
            each_row(
                "version_ends_later",
                "valid_to_date IS NULL OR valid_to_date > valid_from_date",
                "end no later than they begin",
                "valid_to_date",
            ),
        ),
        key="user_id",
    )


def conserved_rows(run: Run) -> Suite:
    """Make the suite of rows: each landed row is staged, nothing else is, with its own amount."""
    return Suite(
        table=_STAGED,
        source=f"""(
            SELECT
                coalesce(landed._file_id, staged._file_id) AS _file_id,
                coalesce(landed._row_number, staged._row_number) AS _row_number,
                CASE
                    WHEN coalesce(landed.is_refund, landed.amount < 0) THEN -abs(landed.amount)
                    ELSE landed.amount
                END AS landed_amount,
                staged.amount AS staged_amount,
                landed.user_id AS landed_user,
                staged.user_id AS staged_user
            FROM raw.transactions AS landed
            FULL JOIN (SELECT * FROM {_STAGED} WHERE rate_version = 1) AS staged
                ON landed._file_id = staged._file_id AND landed._row_number = staged._row_number
        )""",
        rules=(
            each_row(
                "landed_rows_are_staged",
                "landed_amount = staged_amount AND landed_user IS NOT DISTINCT FROM staged_user",
                "are staged with another amount or customer than landed, or not in both places",
                "amount",
            ),
        ),
        key=ROW_ADDRESS,
        is_key_personal=False,
        needs=(_STAGED, "raw.transactions"),
        parameters=run.parameters,
    )


def conserved_amounts(run: Run) -> Suite:
    """Make the suite of totals: landed amounts are current, superseded or duplicate; then the days.

    The newest version of each order is found anew from the landed rows.
    """
    chosen = run.settings.inputs.get("transactions")
    if chosen is not None and chosen.grain == "order":
        distinct = (
            "row_number() OVER (PARTITION BY _file_id, transaction_id, user_id, ts, amount, "
            "currency, channel, sku, quantity, country, is_refund, variable_cost, ingested_at "
            "ORDER BY _row_number)"
        )
    else:
        distinct = "1"
    newest = f"""
        SELECT upper(trim(coalesce(currency, $reporting_currency))) AS currency,
            sum(CASE WHEN refunds THEN -abs(amount) ELSE amount END) AS total
        FROM (
            SELECT *, coalesce(is_refund, amount < 0) AS refunds,
                CASE WHEN transaction_id IS NULL THEN 1 ELSE {distinct} END AS copy,
                CASE WHEN transaction_id IS NULL THEN 1 ELSE dense_rank() OVER (
                    PARTITION BY transaction_id, coalesce(is_refund, amount < 0),
                        CASE WHEN coalesce(is_refund, amount < 0) THEN ts END
                    ORDER BY ingested_at DESC NULLS LAST, _file_id DESC
                ) END AS version
            FROM raw.transactions
        ) AS landed
        WHERE copy = 1 AND version = 1
        GROUP BY 1
    """
    current = f"SELECT currency, sum(amount) AS total FROM {_STAGED} WHERE is_current GROUP BY 1"
    return Suite(
        table=_STAGED,
        source=f"""(
            SELECT
                (
                    SELECT sum(abs(coalesce(landed.total, 0) - coalesce(staged.total, 0)))
                    FROM ({newest}) AS landed FULL JOIN ({current}) AS staged USING (currency)
                ) AS lost_amount,
                (SELECT sum(value) FROM {_STAGED} WHERE is_current) AS staged_value,
                (SELECT sum(value) FROM {_STAGED} WHERE is_current AND is_guest) AS guest_value,
                (SELECT sum(delta_value) FROM {_DAYS}) AS customer_value
        )""",
        rules=(
            Rule(
                "amounts_conserved",
                "coalesce(any_value(lost_amount), 0)",
                "the newest landed amounts differ by {observed} in total from the staged ones",
                column="amount",
                maximum=_CENT,
            ),
            Rule(
                "value_conserved",
                "coalesce(any_value(staged_value), 0) - coalesce(any_value(guest_value), 0) "
                "- coalesce(any_value(customer_value), 0)",
                "staged value differs by {observed} from that of the customer days and the guests",
                column="value",
                minimum=-_CENT,
                maximum=_CENT,
            ),
        ),
        needs=(_STAGED, _DAYS, "raw.transactions"),
        parameters=run.parameters,
    )


def int_customer_days() -> Suite:
    """Make the suite of the daily table: one row per user, day and day of knowledge."""
    return Suite(
        table=_DAYS,
        source=f"(SELECT * FROM {_DAYS})",
        rules=(
            one_row_per(_DAYS, ("user_id", "activity_date", "known_date"), "user_id"),
            each_row("present", "trim(user_id) <> ''", "have no user_id", "user_id"),
            each_row(
                "known_after_it_happened",
                "known_date >= activity_date",
                "were known before they happened",
                "known_date",
            ),
            each_row("present", "delta_value IS NOT NULL", "have no value", "delta_value"),
        ),
        key="user_id",
        needs=(_DAYS,),
    )
