"""``clv init``: look at files and write a clv.toml with the best guess, and why it is guessed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb

from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.ingest.guessing import Guess, guess_input, is_named, plain
from clv_pipeline.ingest.horizons import horizon_lines
from clv_pipeline.ingest.joining import Join, propose_join
from clv_pipeline.ingest.places import guess_currency, guess_time_zone
from clv_pipeline.ingest.profiling import Column, covered_days, profile
from clv_pipeline.ingest.report import LandingError
from clv_pipeline.warehouse import open_database, quote_identifier, quote_literal, read_row

_DATABASES = (".duckdb", ".db", ".ddb")


@dataclass(frozen=True)
class Finding:
    """A guess, and what more is known of its content.

    Attributes
    ----------
    days
        First and last day of the orders.
    notes
        Sentences for the comments of the section.
    """

    guess: Guess
    days: tuple[date, date] | None = None
    notes: tuple[str, ...] = ()


def propose_config(files: Sequence[Path | str], folder: Path | str = ".") -> str:
    """Look at files and return the text of a clv.toml that maps them.

    Parameters
    ----------
    files
        CSV files (also gzipped), Parquet files and DuckDB files, whose tables are all looked at.
    folder
        Where the clv.toml will lie; files below it are named relative to it.

    Raises
    ------
    LandingError
        If a file is missing or can't be read.
    """
    root = Path(folder).resolve()
    findings = look_at_files([Path(file) for file in files], root)
    chosen, rest = _choose(findings)
    transactions = chosen.get("transactions", [])
    told = transactions[:1] + findings
    columns = [column for finding in told for column in finding.guess.profile.columns]
    currency, why_currency = guess_currency(columns)
    zone, why_zone = guess_time_zone(columns)
    lines = [
        "# Written by `clv init`: a best guess. Read it, correct what is wrong, then run "
        "`clv doctor`.",
        "",
        "[project]",
        f"name = {_text(re.sub(r'[^A-Za-z0-9_-]', '-', root.name)[:60] or 'shop')}",
        f"time_zone = {_text(zone)} # confirm: {why_zone}",
        f"reporting_currency = {_text(currency)} # confirm: {why_currency}",
        'home = ".clv" # everything that a run writes lies below this folder',
        "",
        *horizon_lines([finding.days for finding in transactions if finding.days is not None]),
    ]
    for name, group in sorted(chosen.items(), key=lambda item: item[0] != "transactions"):
        lines += ["", *_section(name, group, root)]
    if not transactions:
        join = propose_join([finding.guess for finding in findings])
        lines += ["", *_no_transactions(join, rest, root)]
        joined = (join.orders, join.lines, join.people) if join else ()
        rest = [finding for finding in rest if finding.guess not in joined]
    if rest:
        lines += ["", "# Not used:"]
        lines += [f"# - {_source_name(f, root)}: {_why_unused(f)}" for f in rest]
    return "\n".join(lines) + "\n"


def look_at_files(files: Sequence[Path], root: Path) -> list[Finding]:
    """Guess what each file is, or each table of a DuckDB file.

    Raises
    ------
    LandingError
        If a file is missing or can't be read.
    """
    findings = []
    with open_database() as connection:
        for file in files:
            if not file.is_file():
                raise LandingError(f"There is no file {file.resolve()}.")
            is_database = file.suffix.lower() in _DATABASES
            tables = _tables(connection, file) if is_database else [None]
            for table in tables:
                try:
                    guess = guess_input(profile(connection, root, file.resolve(), table))
                except duckdb.Error as error:
                    message = str(error).strip().splitlines()[0]
                    raise LandingError(f"{file} can't be read: {message}") from error
                findings.append(_look_closer(connection, root, guess))
    return findings


def _tables(connection: duckdb.DuckDBPyConnection, file: Path) -> list[str | None]:
    connection.execute(f"ATTACH '{str(file).replace(chr(39), chr(39) * 2)}' AS _clv (READ_ONLY)")
    try:
        found = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() "
            "WHERE database_name = '_clv' ORDER BY 1"
        ).fetchall()
    finally:
        connection.execute("DETACH _clv")
    return [row[0] for row in found]


def _look_closer(connection: duckdb.DuckDBPyConnection, root: Path, guess: Guess) -> Finding:
    if guess.input != "transactions":
        return Finding(guess)
    instant = guess.profile.column(guess.columns["ts"])
    days = covered_days(connection, root, guess.profile, instant)
    prefix = _refund_prefix(connection, guess)
    notes = _notes(connection, guess, prefix)
    return Finding(replace(guess, refund_prefix=prefix), days, notes)


def _value(guess: Guess, column: str) -> str:
    """Return SQL for a number of the sample, read as it seems to be written."""
    found = guess.profile.column(column)
    text = f"CAST({quote_identifier(column)} AS VARCHAR)"
    decimal, thousands, symbols = found.number
    for mark in (*symbols, *([thousands] if thousands else [])):
        text = f"replace({text}, '{mark.replace(chr(39), chr(39) * 2)}', '')"
    if decimal == ",":
        text = f"replace({text}, ',', '.')"
    return f"TRY_CAST(trim({text}) AS DOUBLE)"


def _refund_prefix(connection: duckdb.DuckDBPyConnection, guess: Guess) -> str | None:
    """Return the letter with which the orders of negative amounts begin, and hardly any other."""
    if "transaction_id" not in guess.columns or "is_refund" in guess.columns:
        return None
    signed = guess.columns.get("quantity") if guess.price else guess.columns["amount"]
    number = quote_identifier(guess.columns["transaction_id"])
    found = connection.execute(
        f"SELECT upper(left(trim(CAST({number} AS VARCHAR)), 1)) AS letter, "
        f"count(*) FILTER ({_value(guess, signed or '')} < 0), "
        f"count(*) FILTER ({_value(guess, signed or '')} >= 0) FROM _clv_sample "
        "GROUP BY 1 HAVING regexp_full_match(letter, '[A-Z]')"
    ).fetchall()
    for letter, negative, positive in found:
        if negative >= 5 and positive <= 0.02 * negative:
            return str(letter)
    return None


def _notes(
    connection: duckdb.DuckDBPyConnection, guess: Guess, prefix: str | None
) -> tuple[str, ...]:
    notes = []
    user = guess.profile.column(guess.columns["user_id"])
    if user.count_blank:
        notes.append(
            f"{_share(user.count_blank, user.count)} of the lines have no {user.name}: guests, "
            "whose revenue is shown beside the customers'."
        )
    if user.is_unique:
        notes.append(
            f"Every line has a {user.name} of its own, so nobody ever came back: is it the "
            "person, or the order?"
        )
    if guess.price:
        pieces, price = guess.columns["quantity"], guess.price
        mark = quote_identifier(guess.columns.get("transaction_id", pieces))
        not_refund = f"NOT starts_with(CAST({mark} AS VARCHAR), '{prefix}')" if prefix else "false"
        odd, unpaid = read_row(
            connection,
            f"SELECT count(*) FILTER ({_value(guess, pieces)} < 0 AND {not_refund}), "
            f"count(*) FILTER ({_value(guess, price)} <= 0) FROM _clv_sample",
        )
        if odd:
            notes.append(
                f"{odd:,} lines count negative pieces without being marked as refunds: stock "
                "corrections? An [[inputs.transactions.exclude]] sets them aside."
            )
        if unpaid:
            notes.append(f"{unpaid:,} lines have no price above zero: they are hardly sales.")
    notes += [
        f"{column.name} has the values {', '.join(column.examples)}, ...: should some of them be "
        "excluded?"
        for column in guess.profile.columns
        if "status" in column.name.lower() and column.count_distinct <= 20
    ]
    return tuple(notes)


def _choose(findings: Iterable[Finding]) -> tuple[dict[str, list[Finding]], list[Finding]]:
    """Return the findings per input, those with the same columns together, and the rest.

    Of several groups that could be an input, the one is taken that tells most of its columns.
    """
    groups: dict[tuple[str | None, ...], list[Finding]] = {}
    for finding in findings:
        guess = finding.guess
        table = guess.profile.source.table or ""
        key = (guess.input, table, *(column.name for column in guess.profile.columns))
        groups.setdefault(key, []).append(finding)
    chosen: dict[str, list[Finding]] = {}
    for (name, *_), group in groups.items():
        if name is not None and _telling(group) > _telling(chosen.get(name, [])):
            chosen[name] = group
    used = [finding for group in chosen.values() for finding in group]
    return chosen, [finding for finding in findings if finding not in used]


def _telling(group: list[Finding]) -> tuple[bool, int, int]:
    """How much a group of files says of its input: whether its amount has a name, its columns."""
    if not group:
        return False, -1, 0
    guess = group[0].guess
    is_paid = "amount" in guess.columns and is_named("amount", guess.columns["amount"])
    return is_paid, len(guess.columns), sum(finding.guess.profile.count for finding in group)


def _section(name: str, group: list[Finding], root: Path) -> list[str]:
    guess = group[0].guess
    source = guess.profile.source
    contract = CONTRACTS[name]
    lines = [f"[inputs.{name}] # {contract.description}"]
    lines += [f"# {note}" for finding in group[:1] for note in finding.notes]
    if source.table is not None:
        lines += [f"duckdb = {_text(_path(source.file, root))}", f"table = {_text(source.table)}"]
    else:
        lines.append(f"files = [{', '.join(map(_text, _patterns(group, root)))}]")
    lines += _reading(name, guess)
    if name == "transactions":
        lines.append(_grain(group))
    lines += ["", f"[inputs.{name}.columns]"]
    for wanted in contract.fields:
        lines += _column_line(name, wanted.name, guess)
    used = {*guess.columns.values(), *(guess.refund_word or ())[:1]}
    left = [c.name for c in guess.profile.columns if c.name not in used]
    if left:
        fate = "kept as attributes" if contract.keeps_further_columns else "left out"
        lines.append(f"# {fate}: {', '.join(left)}")
    return lines


def _column_line(name: str, wanted: str, guess: Guess) -> list[str]:
    column = guess.columns.get(wanted)
    if wanted == "amount" and guess.price:
        terms = [
            quote_identifier(c)
            if guess.profile.column(c).type != "VARCHAR"
            else f"TRY_CAST({quote_identifier(c)} AS DECIMAL(18, 4))"
            for c in (guess.columns["quantity"], guess.price)
        ]
        return [f"amount = {{ sql = {_text(' * '.join(terms))} }} # the price is that of a piece"]
    if wanted == "is_refund" and guess.refund_prefix:
        order = quote_identifier(guess.columns["transaction_id"])
        sql = f"starts_with(CAST({order} AS VARCHAR), '{guess.refund_prefix}')"
        why = f"negative lines have numbers that begin with {guess.refund_prefix}"
        return [f"is_refund = {{ sql = {_text(sql)} }} # {why}"]
    if wanted == "is_refund" and guess.refund_word:
        name, word = guess.refund_word
        sql = f"{quote_identifier(name)} = {quote_literal(word)}"
        return [f"is_refund = {{ sql = {_text(sql)} }} # confirm: by {_text(name)}"]
    if column is None:
        return []
    by = "by its name" if plain(column) == plain(wanted) else "by its name and content"
    if CONTRACTS[name].field(wanted).personal:
        # A configuration is passed around and kept in version control; people's data are not.
        return [f"{wanted} = {_text(column)} # {by}"]
    examples = ", ".join(guess.profile.column(column).examples[:3])
    examples = re.sub(r"[\x00-\x1f\x7f]", " ", examples)[:60]
    return [f"{wanted} = {_text(column)} # {by}; for instance {examples}"]


def _reading(name: str, guess: Guess) -> list[str]:
    lines = []
    if guess.profile.settings.encoding != "utf-8":
        encoding = guess.profile.settings.encoding
        lines.append(f"encoding = {_text(encoding)} # the bytes are no UTF-8")
    wanted = [field.name for field in CONTRACTS[name].fields if field.kind in ("money", "number")]
    numbers = [guess.profile.column(guess.columns[one]) for one in wanted if one in guess.columns]
    # Decimals tell the separators; what is counted in whole numbers may not.
    numbers.sort(key=lambda column: not column.has_decimals)
    lines += _number_lines(numbers[0]) if numbers else []
    forms = [
        c for c in map(guess.profile.column, guess.columns.values()) if c.date_format is not None
    ]
    if forms:
        why = f"as in {forms[0].examples[0]}" if forms[0].examples else "by its content"
        if forms[0].is_ambiguous:
            why += "; confirm: day and month could be the other way round"
        lines.append(f"date_format = {_text(forms[0].date_format or '')} # {why}")
    return lines


def _number_lines(money: Column) -> list[str]:
    decimal, thousands, symbols = money.number
    lines = []
    if decimal != ".":
        lines.append(f"decimal_separator = {_text(decimal)} # as in {money.examples[0]}")
    if thousands:
        lines.append(f"thousands_separator = {_text(thousands)}")
    if symbols:
        lines.append(f"currency_symbols = [{', '.join(map(_text, symbols))}] # removed")
    return lines


def _grain(group: list[Finding]) -> str:
    number = group[0].guess.columns.get("transaction_id")
    if number is None:
        return 'grain = "line" # there is no order number: every line is an order of its own'
    if all(finding.guess.profile.column(number).is_unique for finding in group):
        return f'grain = "order" # every {number} comes once'
    return f'grain = "line" # several lines share a {number}'


def _no_transactions(join: Join | None, rest: list[Finding], root: Path) -> list[str]:
    lines = [
        "# There is no [inputs.transactions] yet, which every run needs: no file has customer, day",
        "# and amount together.",
    ]
    if join is None:
        unknown = sorted(rest, key=lambda f: len(f.guess.columns) if f.guess.missing else -1)
        return lines + (_template(unknown[-1], root) if unknown else [])
    lines += [
        "# These files have them between them. Join them once with DuckDB (confirm the keys):",
        *(f"#   {line}" for line in join.sql(root / "transactions.parquet").splitlines()),
        "",
        "[inputs.transactions]",
        'files = ["transactions.parquet"] # what the statement above writes',
        'grain = "line"',
    ]
    return lines


def _template(finding: Finding, root: Path) -> list[str]:
    """Return a section for its reader to complete: what was found, and which columns there are."""
    guess, source = finding.guess, finding.guess.profile.source
    known = {name: guess.columns.get(name, "...") for name in (*guess.missing, *guess.columns)}
    lines = [
        f"Say which of these is which: {', '.join(c.name for c in guess.profile.columns)}.",
        "[inputs.transactions]",
        f"files = [{_text(_path(source.file, root))}]",
        *_reading("transactions", guess),
        "[inputs.transactions.columns]",
        *(f"{name} = {_text(column)}" for name, column in known.items()),
    ]
    return [f"# {line}" for line in lines]


def _why_unused(finding: Finding) -> str:
    guess = finding.guess
    if guess.input is not None:
        return f"also looks like {guess.input}, but has other columns"
    return f"no {', no '.join(guess.missing)} was found in it"


def _patterns(group: list[Finding], root: Path) -> list[str]:
    """Return the files of a group: one glob where their names differ in digits alone."""
    paths = [_path(finding.guess.profile.source.file, root) for finding in group]
    globs = {re.sub(r"\d+", "*", path) for path in paths}
    is_safe = not any(re.search(r"[*?\[]", path) for path in paths)
    return [globs.pop()] if len(paths) > 1 and len(globs) == 1 and is_safe else paths


def _source_name(finding: Finding, root: Path) -> str:
    source = finding.guess.profile.source
    return _path(source.file, root) + (f"#{source.table}" if source.table else "")


def _path(file: Path, root: Path) -> str:
    full = file.resolve()
    if full.is_relative_to(root):
        return Path(os.path.relpath(full, root)).as_posix()
    return full.as_posix()


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _text(text: str) -> str:
    # TOML's basic strings are JSON's.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
