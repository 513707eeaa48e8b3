"""Which currency and which time zone a shop's columns hint at."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clv_pipeline.ingest.guessing import plain
from clv_pipeline.ingest.profiling import Column

_SIGNS = {"€": "EUR", "$": "USD", "US$": "USD", "£": "GBP", "R$": "BRL", "zł": "PLN", "¥": "JPY"}
_CODES = ("USD", "EUR", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "BRL", "JPY", "CAD", "AUD")
_PLACES = {
    "unitedkingdom": ("GBP", "Europe/London"),
    "uk": ("GBP", "Europe/London"),
    "gb": ("GBP", "Europe/London"),
    "germany": ("EUR", "Europe/Berlin"),
    "de": ("EUR", "Europe/Berlin"),
    "france": ("EUR", "Europe/Paris"),
    "fr": ("EUR", "Europe/Paris"),
    "austria": ("EUR", "Europe/Vienna"),
    "at": ("EUR", "Europe/Vienna"),
    "netherlands": ("EUR", "Europe/Amsterdam"),
    "nl": ("EUR", "Europe/Amsterdam"),
    "spain": ("EUR", "Europe/Madrid"),
    "es": ("EUR", "Europe/Madrid"),
    "italy": ("EUR", "Europe/Rome"),
    "it": ("EUR", "Europe/Rome"),
    "switzerland": ("CHF", "Europe/Zurich"),
    "ch": ("CHF", "Europe/Zurich"),
    "sweden": ("SEK", "Europe/Stockholm"),
    "se": ("SEK", "Europe/Stockholm"),
    "poland": ("PLN", "Europe/Warsaw"),
    "pl": ("PLN", "Europe/Warsaw"),
    "unitedstates": ("USD", "America/New_York"),
    "usa": ("USD", "America/New_York"),
    "us": ("USD", "America/New_York"),
    "brazil": ("BRL", "America/Sao_Paulo"),
    "br": ("BRL", "America/Sao_Paulo"),
}


def guess_currency(columns: Sequence[Column]) -> tuple[str, str]:
    """Return an ISO 4217 code and why it is guessed."""
    for column in columns:
        if "curr" in plain(column.name) and column.share_code > 0.5:
            return column.examples[0], f"the most frequent value of {column.name}"
    for column in columns:
        for symbol in column.number[2]:
            code = _SIGNS.get(symbol, symbol.upper())
            if re.fullmatch("[A-Z]{3}", code):
                return code, f"{column.name} is written with {symbol}"
    for column in columns:
        for word in re.split(r"[\W_]+", column.name.upper()):
            if word in _CODES:
                return word, f"the name of the column {column.name} says so"
    place = _place(columns)
    if place is not None:
        return _PLACES[plain(place)][0], f"most rows are of {place}"
    return "EUR", "nothing in the files tells"


def guess_time_zone(columns: Sequence[Column]) -> tuple[str, str]:
    """Return an IANA time zone and why it is guessed."""
    place = _place(columns)
    if place is not None:
        return _PLACES[plain(place)][1], f"most rows are of {place}; days begin at its midnight"
    if any(column.has_offset for column in columns):
        return "UTC", "instants carry an offset, but where the shop's day begins is not said"
    return "UTC", "nothing in the files tells; name the shop's own, such as Europe/Berlin"


def _place(columns: Sequence[Column]) -> str | None:
    for column in columns:
        if plain(column.name) in ("country", "countrycode") and column.examples:
            place = column.examples[0]
            return place if plain(place) in _PLACES else None
    return None
