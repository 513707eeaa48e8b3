"""What dbt's yml files say: sources from the contracts, and columns that are written once.

Short forms keep a column's description in one place. ``install_dbt_project`` writes them out:

- ``{name: "clv_{h}d", for_each: horizons, ...}`` makes a column for each horizon; ``for_each`` may
  also be a list of numbers, and the placeholder is whatever single name stands in braces.
- ``feature_view: {entity: ..., owner: ..., version: ...}`` in the ``meta`` of a model's config
  holds for each of its features whose own entry does not say otherwise.
- ``{columns_of: feat_rfm}`` takes the columns of another model of the project, or of a source table
  such as ``scores.customer_standing``; ``except: [...]`` leaves some out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clv_pipeline.ingest import fingerprints
from clv_pipeline.ingest.contract import CONTRACTS, DUCKDB_TYPES
from clv_pipeline.tables import EVALUATION_TABLES, OPS_TABLES, SCORE_TABLES, Column, Table

# The same loader and dumper in C, where the platform has them, are ten times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def _raw_tables() -> dict[str, Table]:
    tables = {}
    for contract in CONTRACTS.values():
        columns = [
            Column(field.name, DUCKDB_TYPES[field.kind], field.description)
            for field in contract.fields
        ]
        if contract.keeps_further_columns:
            columns.append(Column("attributes_json", "VARCHAR", "Further columns, as JSON."))
        columns.append(Column("_file_id", "BIGINT", "The file it came in, see ops.landed_files."))
        columns.append(Column("_row_number", "BIGINT", "Its row in that file, from 1."))
        if contract.name == "transactions":
            columns.append(Column(fingerprints.COLUMN, fingerprints.TYPE, fingerprints.DESCRIPTION))
        tables[contract.name] = Table(contract.description, tuple(columns))
    return tables


SOURCES: dict[str, dict[str, Table]] = {
    "raw": _raw_tables(),
    "ops": OPS_TABLES,
    "scores": SCORE_TABLES | EVALUATION_TABLES,
}
_SOURCE_DESCRIPTIONS = {
    "raw": "Rows as they were delivered, typed; bad rows are in ops.quarantine.",
    "ops": "What was delivered, checked and run.",
    "scores": "What the models and the rules on top of them say.",
}


def sources_document() -> dict[str, Any]:
    """Build dbt's description of every table that Python writes."""
    return {
        "version": 2,
        "sources": [
            {
                "name": schema,
                "schema": schema,
                "description": _SOURCE_DESCRIPTIONS[schema],
                "tables": [_source_table(schema, name, table) for name, table in tables.items()],
            }
            for schema, tables in SOURCES.items()
        ],
    }


def _source_table(schema: str, name: str, table: Table) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": name,
        "description": table.description,
        "columns": [
            {"name": column.name, "data_type": column.kind, "description": column.description}
            for column in table.columns
        ],
    }
    if schema == "raw":
        # Fresh is what was delivered lately, whatever days the rows are of.
        document["config"] = {
            "loaded_at_query": "select max(landed_at) from ops.landed_files "
            f"where input = '{name}'",
            "freshness": {
                "warn_after": {"count": 2, "period": "day"},
                "error_after": {"count": 7, "period": "day"},
            }
            if CONTRACTS[name].required
            else None,
        }
    return document


def expand_documents(
    documents: Mapping[str, Mapping[str, Any]], horizons: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Write out the short forms in the yml files of a project.

    Parameters
    ----------
    documents
        Path -> parsed yml.
    horizons
        Days that ``for_each: horizons`` stands for.

    Returns
    -------
    dict of str to dict
        The same documents with plain columns only.

    Raises
    ------
    ValueError
        If ``columns_of`` names no model or table, or names form a circle.
    """
    documents = copy.deepcopy(dict(documents))
    models = {
        model["name"]: model
        for document in documents.values()
        for model in document.get("models") or ()
    }
    for model in models.values():
        _fill_in_view(model)

    def columns_of(name: str, asking: tuple[str, ...]) -> list[dict[str, Any]]:
        if name in asking:
            raise ValueError(f"columns_of goes round in a circle: {' -> '.join((*asking, name))}")
        if name in models:
            return expand(models[name].get("columns") or [], (*asking, name))
        schema, _, table = name.partition(".")
        if table not in SOURCES.get(schema, {}):
            raise ValueError(f"columns_of: '{name}' is neither a model nor a source table")
        return [
            {"name": c.name, "data_type": c.kind, "description": c.description}
            for c in SOURCES[schema][table].columns
        ]

    def expand(columns: list[dict[str, Any]], asking: tuple[str, ...]) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        for column in columns:
            if "columns_of" in column:
                left_out = {c["name"] for c in written} | set(column.get("except", ()))
                # What is tested there need not be tested again here.
                written.extend(
                    {key: part for key, part in other.items() if key != "data_tests"}
                    for other in columns_of(column["columns_of"], asking)
                    if other["name"] not in left_out
                )
            elif "for_each" in column:
                numbers = column["for_each"]
                for number in horizons if numbers == "horizons" else numbers:
                    template = {k: v for k, v in column.items() if k != "for_each"}
                    written.append(_fill(template, int(number)))
            else:
                written.append(copy.deepcopy(column))
        return written

    expanded: dict[str, dict[str, Any]] = {}
    for path, document in documents.items():
        result = dict(document)
        for model in result.get("models") or ():
            if "columns" in model:
                model["columns"] = expand(model["columns"], (model["name"],))
        expanded[path] = result
    return expanded


def _fill_in_view(model: dict[str, Any]) -> None:
    """Write what a model says of all its features into each feature's entry."""
    said = model.get("config", {}).get("meta", {}).get("feature_view")
    for column in model.get("columns") or () if said else ():
        meta = column.get("config", {}).get("meta", {})
        if "feature" in meta:
            # A copy, because anchors let several columns share one entry.
            entry = {**said, **meta["feature"]}
            column["config"] = {**column["config"], "meta": {**meta, "feature": entry}}


def _fill(template: Any, number: int) -> Any:
    if isinstance(template, str):
        # A placeholder that stands alone is a number, as in `window_days: "{w}"`.
        if _PLACEHOLDER.fullmatch(template):
            return number
        return _PLACEHOLDER.sub(str(number), template)
    if isinstance(template, dict):
        return {key: _fill(value, number) for key, value in template.items()}
    if isinstance(template, list):
        return [_fill(value, number) for value in template]
    return template


def load_document(text: str) -> Any:
    """Read a YAML text that holds plain data."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - the safe loader, in C


def dump_document(document: Any) -> str:
    """Write plain data as YAML, in the order in which it is given."""
    return yaml.dump(document, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=100)


def read_documents(project_dir: Path) -> dict[str, dict[str, Any]]:
    """Read the yml files of a project's models, by their path in the project."""
    return {
        str(path.relative_to(project_dir)): load_document(path.read_text(encoding="utf-8"))
        for path in _document_paths(project_dir)
    }


def stamp_documents(project_dir: Path) -> tuple[tuple[str, int, int], ...]:
    """Return path, time of change and size of each yml file: the same while none was edited."""
    return tuple(
        (str(path), (found := path.stat()).st_mtime_ns, found.st_size)
        for path in _document_paths(project_dir)
    )


def _document_paths(project_dir: Path) -> list[Path]:
    return sorted((project_dir / "models").rglob("*.yml"))
