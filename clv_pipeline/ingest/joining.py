"""Orders whose customer, day and amount lie in different files: the statement that joins them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clv_pipeline.ingest.guessing import SYNONYMS, Guess, plain
from clv_pipeline.warehouse import quote_identifier, quote_literal


@dataclass(frozen=True)
class Join:
    """How orders come together.

    Attributes
    ----------
    orders
        The file that has the order's number, its day and its customer.
    lines
        The file that has the order's number and amounts.
    people
        A file that says which person a customer number of ``orders`` belongs to.
    """

    orders: Guess
    lines: Guess
    people: Guess | None = None

    def sql(self, target: Path) -> str:
        """Return the statement that writes the joined rows into a Parquet file."""
        order = quote_identifier(self.orders.columns["transaction_id"])
        other = quote_identifier(self.lines.columns["transaction_id"])
        user = f"orders.{quote_identifier(self.orders.columns['user_id'])}"
        person = ""
        if self.people is not None:
            person = f"\n  JOIN {_scan(self.people)} AS people ON people.{user[7:]} = {user}"
            user = f"people.{quote_identifier(self.people.columns['user_id'])}"
        further = ""
        for name in ("sku", "quantity", "variable_cost"):
            if name in self.lines.columns:
                column = quote_identifier(self.lines.columns[name])
                further += f",\n    lines.{column} AS {name}"
        return (
            f"COPY (\n  SELECT\n    orders.{order} AS transaction_id,\n    {user} AS user_id,\n"
            f"    orders.{quote_identifier(self.orders.columns['ts'])} AS ts,\n"
            f"    lines.{quote_identifier(self.lines.columns['amount'])} AS amount{further}\n"
            f"  FROM {_scan(self.lines)} AS lines\n"
            f"  JOIN {_scan(self.orders)} AS orders ON orders.{order} = lines.{other}{person}\n"
            f") TO {quote_literal(str(target))} (FORMAT parquet)"
        )


def propose_join(guesses: Sequence[Guess]) -> Join | None:
    """Return how files that are no transactions by themselves make transactions together."""
    files = [guess for guess in guesses if guess.profile.source.table is None]
    orders = [g for g in files if {"transaction_id", "user_id", "ts"} <= g.columns.keys()]
    orders = [g for g in orders if g.profile.column(g.columns["transaction_id"]).is_unique]
    lines = [
        g
        for g in files
        if {"transaction_id", "amount"} <= g.columns.keys() and "user_id" not in g.columns
    ]
    if not orders or not lines:
        return None
    # What was sold tells more than what was paid with.
    best = max(lines, key=lambda guess: len(guess.columns))
    return Join(orders[0], best, _people(orders[0], files))


def _people(orders: Guess, files: Sequence[Guess]) -> Guess | None:
    """Return a file with the same customer number and a better name for a person beside it."""
    key = orders.columns["user_id"]
    place = {word: number for number, word in enumerate(SYNONYMS["user_id"])}
    for guess in files:
        better = guess.columns.get("user_id")
        names = [column.name for column in guess.profile.columns]
        if guess is orders or better is None or better == key or key not in names:
            continue
        if place.get(plain(better), len(place)) < place.get(plain(key), len(place)):
            return guess
    return None


def _scan(guess: Guess) -> str:
    return quote_literal(str(guess.profile.source.file))
