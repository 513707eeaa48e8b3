"""What of a source can be kept: map its columns, read their values, and find out what can't stay.

The outcome, part by part, is a query: the contract's columns, ``_clv_row``, the column and the
reason on account of which a row can't be kept, and its record as delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import duckdb

from clv_pipeline.ingest.contract import DUCKDB_TYPES, Contract, Field
from clv_pipeline.ingest.mapping import Mapping
from clv_pipeline.ingest.parsing import Parser
from clv_pipeline.ingest.readers import MARKERS, Rows
from clv_pipeline.ingest.report import LandingError
from clv_pipeline.settings import InputSettings
from clv_pipeline.warehouse import quote_identifier, quote_literal, read_row

_SHAPE = "_clv_shape"


@dataclass(frozen=True)
class Judge:
    """Decides row by row what of one input can be kept.

    Attributes
    ----------
    contract, settings
        Of the input.
    parser
        How values are read.
    reporting_currency
        Currency of amounts that name none.
    """

    contract: Contract
    settings: InputSettings
    parser: Parser
    reporting_currency: str

    def judge(
        self, connection: duckdb.DuckDBPyConnection, rows: Rows, mapping: Mapping, where: str
    ) -> Iterator[str]:
        """Yield a query for each part of a source; it can be asked until the next part is taken.

        Parameters
        ----------
        where
            The source's name for messages.

        Raises
        ------
        LandingError
            If an expression of the settings is no SQL over the source's columns.
        """
        self._make_shape(connection, rows)
        types = self._bind_columns(connection, mapping, where)
        self._bind_exclusions(connection, rows, mapping, types, where)
        for relation in rows.parts:
            yield self._query(relation, list(rows.columns), mapping, types)

    def _make_shape(self, connection: duckdb.DuckDBPyConnection, rows: Rows) -> None:
        """Make an empty table like the source, to bind expressions without reading anything."""
        markers = dict(zip(MARKERS, ("BIGINT", "VARCHAR", "VARCHAR"), strict=True))
        columns = ", ".join(
            f"{quote_identifier(name)} {kind}" for name, kind in {**markers, **rows.columns}.items()
        )
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {_SHAPE} ({columns})")

    def _bind_columns(
        self, connection: duckdb.DuckDBPyConnection, mapping: Mapping, where: str
    ) -> dict[str, str]:
        """Return the type that each contract column has in the source."""
        types = {}
        for name, expression in mapping.expressions.items():
            try:
                described = read_row(
                    connection, f"DESCRIBE SELECT {expression} AS chosen FROM {_SHAPE}"
                )
            except duckdb.Error as error:
                raise self._refuse(f"columns.{name}", expression, where, error) from error
            types[name] = str(described[1])
        return types

    def _bind_exclusions(
        self,
        connection: duckdb.DuckDBPyConnection,
        rows: Rows,
        mapping: Mapping,
        types: dict[str, str],
        where: str,
    ) -> None:
        visible = self._visible(_SHAPE, list(rows.columns), mapping, types)
        for number, rule in enumerate(self.settings.exclude):
            try:
                read_row(
                    connection,
                    f"DESCRIBE SELECT CASE WHEN ({rule.sql}) THEN 1 END FROM ({visible})",
                )
            except duckdb.Error as error:
                raise self._refuse(f"exclude[{number}]", rule.sql, where, error) from error

    def _refuse(self, key: str, sql: str, where: str, error: Exception) -> LandingError:
        return LandingError(
            f"'inputs.{self.contract.name}.{key}' = {sql} can't be computed over the columns of "
            f"{where}: {str(error).strip().splitlines()[0]} Columns of CSV files are text: write "
            'TRY_CAST("column" AS DOUBLE) to compute with them.'
        )

    def _visible(
        self, relation: str, columns: list[str], mapping: Mapping, types: dict[str, str]
    ) -> str:
        """Return a query whose columns are what an exclusion may name, and what judging needs.

        The contract's columns carry typed values; the source's columns stay as delivered, except
        where a contract column has the same name.
        """
        sources = [f'"_clv_source_{number}"' for number in range(len(columns))]
        kept = [f"{quote_identifier(c)} AS {s}" for c, s in zip(columns, sources, strict=True)]
        mapped = []
        for name, expression in mapping.expressions.items():
            is_tried = name in mapping.computed and not self.contract.field(name).nullable
            # A row for which a needed value can't be computed is quarantined, not the end.
            chosen = f"TRY({expression})" if is_tried else expression
            mapped.append(f'{chosen} AS "_clv_mapped_{name}"')
        values = [f'{self._value(field, types)} AS "_clv_value_{field.name}"' for field in self._f]
        names = {field.name.lower() for field in self._f}
        rest = [quote_identifier(c) for c in columns if c.lower() not in names]
        filled = [f'{self._fill(field)} AS "{field.name}"' for field in self._f]
        passed = [f'"_clv_mapped_{name}"' for name in mapping.expressions]
        raw = [f'"_clv_value_{field.name}"' for field in self._f]
        return (
            f"SELECT {_list(MARKERS, sources, passed, raw, rest, filled)} FROM ("
            f"SELECT *, {_list(values)} FROM ("
            f"SELECT *, {_list(kept, mapped)} FROM {relation}))"
        )

    @property
    def _f(self) -> tuple[Field, ...]:
        return self.contract.fields

    def _value(self, field: Field, types: dict[str, str]) -> str:
        kind = DUCKDB_TYPES[field.kind]
        if field.name not in types:
            default = "NULL" if field.default is None else quote_literal(field.default)
            return f"CAST({default} AS {kind})"
        column = f'"_clv_mapped_{field.name}"'
        return f"CAST({self.parser.value(field, column, types[field.name])} AS {kind})"

    def _fill(self, field: Field) -> str:
        """Return SQL for the value with what a missing or unknown one means."""
        value = f'"_clv_value_{field.name}"'
        if field.values:
            listed = ", ".join(map(quote_literal, field.values))
            known = f"{value} IS NULL OR {value} IN ({listed})"
            return f"CASE WHEN {known} THEN {value} ELSE 'unknown' END"
        if self.contract.name == "transactions":
            if field.name == "currency":
                return f"coalesce({value}, {quote_literal(self.reporting_currency)})"
            if field.name == "is_refund":
                is_negative = '"_clv_value_amount" < 0'
                presumed = is_negative if self.settings.negative_amounts == "refund" else "false"
                return f"coalesce({value}, {presumed})"
        return value

    def _problems(self, types: dict[str, str]) -> Iterable[str]:
        for field in self._f:
            if field.name in types:
                column, value = f'"_clv_mapped_{field.name}"', f'"_clv_value_{field.name}"'
                yield self.parser.problem(field, column, types[field.name], value)
        no_code = (
            "CASE WHEN NOT regexp_full_match(currency, '[A-Z]{3}') "
            "THEN 'currency is no ISO 4217 code' END"
        )
        if self.contract.name == "transactions":
            if self.settings.negative_amounts == "quarantine":
                yield (
                    "CASE WHEN amount < 0 AND NOT is_refund THEN "
                    "'amount is negative on a row that is no refund' END"
                )
            if self.settings.zero_amounts == "quarantine":
                yield "CASE WHEN amount = 0 THEN 'amount is zero' END"
            yield no_code
        elif self.contract.name == "exchange_rates":
            yield no_code
            yield "CASE WHEN rate <= 0 THEN 'rate is not above zero' END"

    def _query(
        self, relation: str, columns: list[str], mapping: Mapping, types: dict[str, str]
    ) -> str:
        visible = self._visible(relation, columns, mapping, types)
        cases = " ".join(
            f"WHEN ({rule.sql}) THEN {quote_literal(rule.reason)}" for rule in self.settings.exclude
        )
        excluded = f"CASE {cases} END" if cases else "CAST(NULL AS VARCHAR)"
        names = [f'"{field.name}"' for field in self._f]
        unknown = [
            f'CASE WHEN "{field.name}" <> "_clv_value_{field.name}" '
            f'THEN "_clv_value_{field.name}" END AS "_clv_unknown_{field.name}"'
            for field in self._f
            if field.values
        ]
        carried = [quote_identifier(f"_clv_unknown_{f.name}") for f in self._f if f.values]
        attributes = []
        if self.contract.keeps_further_columns:
            pairs = _pairs(columns, mapping.extra)
            kept = f"CAST(to_json({{{pairs}}}) AS VARCHAR)" if pairs else "CAST(NULL AS VARCHAR)"
            attributes.append(f"{kept} AS attributes_json")
        sources = [f'"_clv_source_{number}"' for number in range(len(columns))]
        is_fine = "_clv_excluded IS NULL AND _clv_problem IS NULL"
        return (
            f"SELECT {_list('_clv_row', names, attributes, carried)}, "
            "coalesce(_clv_malformed, _clv_excluded, _clv_problem) AS _clv_reason, "
            "CASE WHEN _clv_malformed IS NULL AND _clv_excluded IS NULL "
            "THEN split_part(_clv_problem, ' ', 1) END AS _clv_column, "
            "CASE WHEN _clv_malformed IS NOT NULL "
            "THEN CAST(to_json({'line': _clv_text}) AS VARCHAR) "
            f"WHEN {is_fine} THEN NULL "
            f"ELSE CAST(to_json({{{_pairs(columns, columns)}}}) AS VARCHAR) END AS _clv_record "
            f"FROM (SELECT {_list(MARKERS, sources, names, unknown)}, "
            f"{excluded} AS _clv_excluded, "
            f"coalesce(NULL, {', '.join(self._problems(types))}) AS _clv_problem FROM ({visible}))"
        )


def _pairs(columns: Sequence[str], chosen: Sequence[str]) -> str:
    """Return the inside of a struct that holds the chosen columns as text."""
    return ", ".join(
        f'{quote_literal(name)}: CAST("_clv_source_{number}" AS VARCHAR)'
        for number, name in enumerate(columns)
        if name in chosen
    )


def _list(*groups: str | Sequence[str]) -> str:
    return ", ".join(
        part for group in groups for part in ([group] if isinstance(group, str) else group)
    )
