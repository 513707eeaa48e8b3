"""Public holidays of the countries that the data name, from the package ``holidays``."""

from __future__ import annotations

from functools import cache

import duckdb
import pandas as pd

from clv_pipeline.warehouse import read_row

TABLE = "ops.holidays"
_COUNTRIES = """
SELECT DISTINCT trim(country) FROM (
    SELECT country FROM raw.transactions UNION ALL SELECT country FROM raw.users
) WHERE nullif(trim(country), '') IS NOT NULL AND trim(country) <> 'unknown'
"""


def prepare_holidays(connection: duckdb.DuckDBPyConnection) -> int:
    """Write the holidays that are missing: every year with orders, and the year after.

    Countries are found by their ISO 3166 codes and by their English names; of any other, no
    holiday is known.

    Parameters
    ----------
    connection
        The warehouse, with raw.transactions, raw.users and ops.holidays.

    Returns
    -------
    int
        Rows written.
    """
    countries = {str(name): code_of(str(name)) for (name,) in _rows(connection, _COUNTRIES)}
    known = {name: code for name, code in countries.items() if code is not None}
    if not known:
        return 0
    first, last = read_row(
        connection,
        "SELECT extract(year FROM min(ts)), extract(year FROM max(ts)) FROM raw.transactions",
    )
    if first is None:
        return 0
    held = set(
        _rows(connection, f"SELECT DISTINCT country, extract(year FROM holiday_date) FROM {TABLE}")
    )
    wanted = {
        name: [year for year in range(int(first), int(last) + 2) if (name, year) not in held]
        for name in sorted(known)
    }
    found = [
        (name, day, title)
        for name, years in wanted.items()
        if years
        for day, title in holidays_of(known[name], years)
    ]
    if found:
        frame = pd.DataFrame(found, columns=["country", "holiday_date", "holiday_name"])
        connection.register("_holidays", frame)
        connection.execute(
            f"INSERT INTO {TABLE} BY NAME SELECT country, holiday_date::DATE AS holiday_date, "
            "holiday_name FROM _holidays"
        )
        connection.unregister("_holidays")
    return len(found)


def code_of(country: str) -> str | None:
    """Return a country's ISO 3166 code, given a code or its English name; None where unknown."""
    return _codes().get(_squeezed(country))


def holidays_of(code: str, years: list[int]) -> list[tuple[object, str]]:
    """List a country's public holidays of some years: day and name, in order."""
    # Imported late: only shops that name countries need it.
    import holidays

    found = holidays.country_holidays(code, years=years, language=_english(code))
    return sorted((day, str(name)) for day, name in found.items() if day.year in years)


def _english(code: str) -> str | None:
    import holidays

    languages = holidays.list_localized_countries().get(code, [])
    return next((name for name in languages if name.startswith("en")), None)


@cache
def _codes() -> dict[str, str]:
    from holidays.registry import COUNTRIES

    codes: dict[str, str] = {}
    for name, *short in COUNTRIES.values():
        code = next(text for text in short if len(text) == 2)
        codes |= {_squeezed(text): code for text in (name, *short)}
    return codes


def _squeezed(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalpha())


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(query).fetchall()]
