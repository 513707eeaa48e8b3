"""Which column of a source is which column of the contract."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from clv_pipeline.ingest.contract import Contract
from clv_pipeline.ingest.report import LandingError, Notice
from clv_pipeline.settings import InputSettings
from clv_pipeline.warehouse import quote_identifier


@dataclass(frozen=True)
class Mapping:
    """How a source's columns become the contract's.

    Attributes
    ----------
    expressions
        SQL over the source's columns, per contract column that the source has.
    computed
        Contract columns whose SQL the user wrote.
    extra
        Columns of the source that no contract column uses.
    """

    expressions: dict[str, str]
    computed: frozenset[str]
    extra: tuple[str, ...]


def map_columns(
    contract: Contract, settings: InputSettings, columns: Sequence[str], where: str
) -> Mapping:
    """Find the source column, or the user's expression, of each contract column.

    A column that ``settings.columns`` does not mention is matched by its name, whatever its case.

    Parameters
    ----------
    columns
        Names that the source has.
    where
        The source's name for messages.

    Raises
    ------
    LandingError
        If the settings name a column that neither the contract nor the source has, or if a
        required column is found nowhere.
    """
    names = [field.name for field in contract.fields]
    for name in settings.columns:
        if name not in names:
            raise LandingError(
                f"'inputs.{contract.name}.columns.{name}' is no column of {contract.name}."
                f"{nearest(name, names)} Its columns are {', '.join(names)}."
            )
    expressions: dict[str, str] = {}
    computed: set[str] = set()
    used: set[str] = set()
    for field in contract.fields:
        chosen = settings.columns.get(field.name)
        if chosen is not None and not isinstance(chosen, str):
            expressions[field.name] = f"({chosen.sql})"
            computed.add(field.name)
            used.update(column for column in columns if _mentions(chosen.sql, column))
            continue
        found = find_column(chosen or field.name, columns)
        if found is not None:
            expressions[field.name] = quote_identifier(found)
            used.add(found)
        elif chosen is not None:
            raise LandingError(
                f"{where} has no column '{chosen}', which 'inputs.{contract.name}.columns."
                f"{field.name}' names.{nearest(chosen, columns)} It has {', '.join(columns)}."
            )
        elif field.required:
            raise LandingError(
                f"{where} has no column '{field.name}', which {contract.name} need."
                f"{nearest(field.name, columns)} It has {', '.join(columns)}. Name the right one "
                f'in clv.toml under [inputs.{contract.name}.columns]: {field.name} = "...".'
            )
    extra = tuple(column for column in columns if column not in used)
    return Mapping(expressions, frozenset(computed), extra)


def compare_columns(
    contract: Contract, where: str, mapping: Mapping, columns: Sequence[str], earlier: Set[str]
) -> list[Notice]:
    """Say which columns of a source nobody uses, and which ones it lacks that others had.

    Parameters
    ----------
    columns
        Names that the source has.
    earlier
        The contract's columns that other sources of the input had.
    """
    notices = []
    if mapping.extra:
        fate = "kept as attributes" if contract.keeps_further_columns else "left out"
        message = (
            f"{where} has columns that {contract.name} do not know, which are {fate}: "
            f"{', '.join(mapping.extra)}."
        )
        notices.append(Notice("extra_column", message))
    for gone in sorted(earlier - mapping.expressions.keys()):
        message = (
            f"{where} lacks the column '{gone}', which other files of {contract.name} have."
            f"{nearest(gone, columns)}"
        )
        notices.append(Notice("missing_column", message))
    return notices


def find_column(name: str, columns: Sequence[str]) -> str | None:
    """Return the column of that name; one that differs in case alone where there is no other."""
    if name in columns:
        return name
    return next((column for column in columns if column.lower() == name.lower()), None)


def nearest(name: str, candidates: Sequence[str]) -> str:
    """Return ' The nearest name is ...', or nothing when none is near."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), list(lowered), 1, cutoff=0.5)
    return f" The nearest name there is '{lowered[near[0]]}'." if near else ""


def _mentions(sql: str, column: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", sql, re.IGNORECASE) is not None
