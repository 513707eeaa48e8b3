"""What dbt has built already: a step whose inputs are the same is not built again.

``ops.built_steps`` holds, for each step of the project and each cutoff of it, a fingerprint of all
that decides its rows: the definition, the files that landed, the variables and the step before.
Rows are forgotten before dbt rewrites what they speak of, so a run that is killed leaves none that
is wrong, and the next run goes on at the step that was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from clv_pipeline.dbt_process import NodeResult
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import has_table, open_warehouse, quote_identifier, read_row

# What each step builds, in order; a step reads the one before.
STEPS: dict[str, tuple[str, ...]] = {
    "staging": ("staging", "intermediate"),
    "as_of": ("as_of",),
    "features": ("features",),
}
# These differ from run to run without changing a row; cutoffs and their draws are looked at one by
# one.
_IMMATERIAL = {"run_id", "cutoffs", "drawn_cutoffs", "drawn_halvings", "max_staleness_days"}
# Only what is derived for a cutoff depends on these.
_OF_CUTOFFS = {"data_through", "horizons", "auxiliary_horizons"}
# What Python writes beside the landed rows.
_WRITTEN_BESIDE = ("raw.exchange_rates", "ops.holidays", "ops.text_scores", "ops.text_basis")
_MAKE_LEDGER = """
CREATE TABLE IF NOT EXISTS ops.built_steps (
    step VARCHAR, cutoff VARCHAR, fingerprint VARCHAR, counts_json VARCHAR, results_json VARCHAR,
    run_id VARCHAR
)
"""


@dataclass(frozen=True)
class Claim:
    """What a step would be built from, and what is known of it.

    Attributes
    ----------
    step
        A key of ``STEPS``.
    fingerprints
        Of each cutoff, or of ``""`` where the step knows no cutoffs; empty where the step before
        was not built as a whole.
    results
        What dbt said when it built exactly this; None if it must build.
    built_by
        The run that did.
    """

    step: str
    fingerprints: Mapping[str, str]
    results: tuple[NodeResult, ...] | None = None
    built_by: str | None = None


def claim_step(settings: Settings, step: str, variables: Mapping[str, Any]) -> Claim:
    """Look up whether a step stands as it would be built.

    Parameters
    ----------
    step
        A key of ``STEPS``.
    variables
        dbt's.
    """
    with open_warehouse(settings) as connection:
        connection.execute(_MAKE_LEDGER)
        engine = {"engine": settings.engine.name}
        fingerprints = _fingerprint(connection, step, {**variables, **engine})
        known = {
            cutoff: (fingerprint, counts, results, run_id)
            for cutoff, fingerprint, counts, results, run_id in connection.execute(
                "SELECT cutoff, fingerprint, counts_json, results_json, run_id "
                "FROM ops.built_steps WHERE step = ?",
                [step],
            ).fetchall()
        }
        for cutoff, fingerprint in fingerprints.items():
            if cutoff not in known or known[cutoff][0] != fingerprint:
                return Claim(step, fingerprints)
            counts = json.loads(known[cutoff][1])
            if counts != _count_rows(connection, list(counts), cutoff):
                return Claim(step, fingerprints)
    if not fingerprints:
        return Claim(step, {})
    # The tests of a step look at all its cutoffs, so the newest answer speaks for all.
    _, _, results, run_id = known[max(fingerprints)]
    found = tuple(NodeResult(**entry) for entry in json.loads(results))
    return Claim(step, fingerprints, found, run_id)


def forget_steps(
    settings: Settings, steps: Sequence[str], variables: Mapping[str, Any] | None = None
) -> None:
    """Forget that steps, and those that read them, were built; call it before they are rewritten.

    Parameters
    ----------
    steps
        Keys of ``STEPS``.
    variables
        dbt's: of a step that is built cutoff by cutoff, these alone are forgotten. None for all.
    """
    if not steps:
        return
    order = list(STEPS)
    first = min(order.index(step) for step in steps)
    with open_warehouse(settings) as connection:
        connection.execute(_MAKE_LEDGER)
        cutoffs = None if variables is None or first == 0 else list(variables["cutoffs"])
        connection.execute(
            "DELETE FROM ops.built_steps WHERE step IN (SELECT unnest(?)) "
            "AND (? IS NULL OR cutoff IN (SELECT unnest(?)))",
            [order[first:], cutoffs, cutoffs],
        )


def note_step(settings: Settings, claim: Claim, results: Sequence[NodeResult], run_id: str) -> None:
    """Note that dbt has built a step from what a claim says, without a failure."""
    if not claim.fingerprints:
        return
    with open_warehouse(settings) as connection:
        tables = _tables_among(connection, results)
        said = json.dumps([asdict(entry) for entry in results])
        for cutoff, fingerprint in claim.fingerprints.items():
            counts = json.dumps(_count_rows(connection, tables, cutoff))
            connection.execute(
                "DELETE FROM ops.built_steps WHERE step = ? AND cutoff = ?", [claim.step, cutoff]
            )
            connection.execute(
                "INSERT INTO ops.built_steps VALUES (?, ?, ?, ?, ?, ?)",
                [claim.step, cutoff, fingerprint, counts, said, run_id],
            )


def _fingerprint(
    connection: duckdb.DuckDBPyConnection, step: str, variables: Mapping[str, Any]
) -> dict[str, str]:
    material = {name: value for name, value in variables.items() if name not in _IMMATERIAL}
    if step == "staging":
        for name in _OF_CUTOFFS:
            material.pop(name, None)
        return {"": _hash(material, _describe_sources(connection))}
    before = list(STEPS)[list(STEPS).index(step) - 1]
    built = dict(
        connection.execute(
            "SELECT cutoff, fingerprint FROM ops.built_steps WHERE step = ?", [before]
        ).fetchall()
    )
    keys = {cutoff: "" if before == "staging" else cutoff for cutoff in variables["cutoffs"]}
    if not built.keys() >= set(keys.values()):
        return {}
    drawn = dict.fromkeys(variables["drawn_cutoffs"], variables["drawn_halvings"])
    return {
        cutoff: _hash(step, material, cutoff, drawn.get(cutoff, 0), built[key])
        for cutoff, key in keys.items()
    }


def _describe_sources(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    files = connection.execute(
        "SELECT count(*), bit_xor(hash(file_id, input, sha256, status, settings_hash, "
        "count_rows_kept)) FROM ops.landed_files"
    ).fetchall()
    definition = connection.execute("SELECT definition FROM ops.built_definition").fetchall()
    raw = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'raw' ORDER BY table_name"
    ).fetchall()
    counts = [
        (name, read_row(connection, f'SELECT count(*) FROM raw."{name}"')[0]) for (name,) in raw
    ]
    beside = [
        connection.execute(
            f"SELECT '{name}', count(*), bit_xor(hash(beside)) FROM {name} AS beside"
        ).fetchall()
        for name in _WRITTEN_BESIDE
        if has_table(connection, *name.split("."))
    ]
    return [definition, files, counts, beside]


def _tables_among(
    connection: duckdb.DuckDBPyConnection, results: Sequence[NodeResult]
) -> list[str]:
    # What another engine has built is a view here.
    tables = {
        f"{schema}.{name}"
        for schema, name in connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
        ).fetchall()
    }
    named = (
        ".".join(entry.relation.replace('"', "").replace("`", "").split(".")[-2:])
        for entry in results
        if entry.relation
    )
    # Those of feature views are counted where they are kept.
    return sorted({rows_of(connection, name)[0] for name in tables.intersection(named)})


def rows_of(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[str, str]:
    """Say where the rows of a model are kept, and which columns there are its own.

    To read a feature view is to compute it, and for the cutoffs of the newest run alone.

    Parameters
    ----------
    connection
        The warehouse.
    relation
        The model's schema and name, quoted or not.

    Returns
    -------
    tuple of str
        A relation, and columns as SQL names them.
    """
    schema, name = relation.replace('"', "").replace("`", "").split(".")[-2:]
    if schema != "features" or not name.startswith("feat_"):
        return relation, "*"
    own = _columns_of(connection, schema, name)
    if not set(own) <= set(_columns_of(connection, schema, "customer_features")):
        return relation, "*"
    return "features.customer_features", ", ".join(map(quote_identifier, own))


def _columns_of(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> list[str]:
    rows = connection.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position",
        [schema, name],
    ).fetchall()
    return [str(row[0]) for row in rows]


def _count_rows(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[str], cutoff: str
) -> dict[str, int]:
    """Return the rows of tables, of one cutoff where one is named; -1 for a table that is gone."""
    counts = {}
    for table in tables:
        if not has_table(connection, *table.split(".")):
            counts[table] = -1
            continue
        only = " WHERE cutoff_date = CAST(? AS DATE)" if cutoff else ""
        query = f"SELECT count(*) FROM {table}{only}"
        try:
            counts[table] = int(read_row(connection, query, [cutoff] if cutoff else [])[0])
        except duckdb.Error:  # a view, and the files of the other engine are gone
            counts[table] = -1
    return counts


def _hash(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
