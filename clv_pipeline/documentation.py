"""Pages that are rendered from what the code says: settings, inputs, features, published tables.

``python -m clv_pipeline.documentation [FOLDER]`` writes them into a folder, docs/ unless named.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clv_pipeline.dbt_project import packaged_dbt_project
from clv_pipeline.dbt_yaml import expand_documents, read_documents
from clv_pipeline.features.registry import Feature, load_features
from clv_pipeline.features.services import FeatureService, load_services
from clv_pipeline.ingest.contract import CONTRACTS, DUCKDB_TYPES, Contract, Field
from clv_pipeline.settings import (
    Exclusion,
    InputSettings,
    NetworkSettings,
    Settings,
    SqlColumn,
    ValueSettings,
)
from clv_pipeline.warehouse import write_atomically

BEGIN = "<!-- columns: written by `make docs` -->"
END = "<!-- end of columns -->"
_WRITTEN = "Written by `make docs` from {source}; a test holds them equal."
_MARTS = "models/marts"
_OVERRIDES = """\
## Variables instead of lines

A variable of the environment overrides a line of `clv.toml`, for one run or in a container.

- `CLV_CONFIG=/etc/clv/clv.toml` names the file, or its folder, where `--config` does not.
- `CLV_<SECTION>__<KEY>` overrides one key, with two underscores between section and key. The value
  is read as TOML where it is TOML, and as text where not. A key that is not known stops the run.
- `CLV_INPUTS__<INPUT>` replaces all that is said of one input, by a table in braces.

```sh
{examples}
```
"""
OVERRIDES = (
    "CLV_PROJECT__HOME=/var/lib/clv",
    "CLV_PROJECT__TIME_ZONE=Europe/Berlin",
    "CLV_VALUE__HORIZONS='[30, 90]'",
    "CLV_CADENCE__LAST_CUTOFF=2024-06-30",
    "CLV_MODEL__THREADS=2",
    "CLV_GATES__MAX_STALENESS_DAYS=7",
    "CLV_ENGINE__MEMORY_LIMIT=8GB",
    """CLV_INPUTS__USERS='{ files = ["users/*.parquet"] }'""",
)
_KIND_WORDS = {
    "key": "text that may not be blank where a value is needed",
    "text": "text",
    "instant": "date and time; a date is its midnight",
    "day": "date",
    "money": "decimal number, four decimals",
    "number": "number",
    "flag": "true or false",
    "json": "JSON",
}


class DocumentationError(ValueError):
    """A page can't be written; the message names it and what to do."""


def describe_settings() -> str:
    """Render every setting with its allowed values, default and meaning, as docs/settings.md."""
    parts = [
        "# Settings",
        "Every key of `clv.toml`. A key that is left out has its default; a key that is not in "
        "these tables stops the run. " + _WRITTEN.format(source="`clv_pipeline/settings/`"),
        _OVERRIDES.replace("{examples}", "\n".join(OVERRIDES)).rstrip(),
    ]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts += _describe_section(f"[{name}]", field.annotation)
    parts += _describe_section("[model.networks.<model>]", NetworkSettings)
    parts += _describe_section("[inputs.<input>]", InputSettings)
    parts += _describe_section("[inputs.<input>.columns]: column = { ... }", SqlColumn)
    parts += _describe_section("[[inputs.<input>.exclude]]", Exclusion)
    return "\n\n".join(parts) + "\n"


def describe_inputs() -> str:
    """Render the columns of every input, as the part of docs/inputs.md between the markers."""
    parts = [
        "Each table is a contract of `clv_pipeline/ingest/contract.py`. *Required*: what the "
        "source must have; a row without a required value is quarantined. *Default*: what a "
        "missing column or value counts as. *Personal*: it identifies or describes a person.",
        _table(
            ("kind", "what it holds", "in DuckDB"),
            [(kind, _KIND_WORDS[kind], f"`{DUCKDB_TYPES[kind]}`") for kind in DUCKDB_TYPES],
        ),
    ]
    for contract in CONTRACTS.values():
        parts += _describe_contract(contract)
    return "\n\n".join(parts) + "\n"


def describe_features(project_dir: Path | None = None) -> str:
    """Render the feature registry, as docs/features.md.

    Parameters
    ----------
    project_dir
        The dbt project; the one that came with the package when None.
    """
    features = load_features(project_dir)
    services = load_services(project_dir)
    about = {model["name"]: model["description"] for model in _models(project_dir)}
    parts = [
        "# Features",
        f"The {len(features)} columns that describe a customer at a cutoff, in "
        "`features.customer_features`. They look at days up to and including the cutoff, as they "
        "were known by then. "
        + _WRITTEN.format(source="the yml beside `dbt_project/models/features/feat_*.sql`"),
        "*Window*: days before the cutoff that are looked at; empty for the whole history. *Null*: "
        "what a missing value says; empty where none is allowed. *Model*: whether a model may read "
        "it.",
        "## Feature services",
        "Named, versioned sets of features. `[features] service` in `clv.toml` names the one that "
        "models are trained on; each model's manifest says which that was.",
        _table(
            ("service", "features", "what for", "made of"),
            [
                (
                    f"`{service.name}`",
                    str(len(service.features)),
                    service.description,
                    ", ".join(f"`{name}`" for name in _members(service)),
                )
                for service in services.values()
            ],
        ),
    ]
    for view in dict.fromkeys(feature.view for feature in features):
        rows = [_feature_row(feature) for feature in features if feature.view == view]
        header = ("feature", "kind", "type", "window", "range", "null", "model", "tags", "meaning")
        one = next(feature for feature in features if feature.view == view)
        said = (
            f"{_flat(about[view])} Entity: {one.entity}. Owner: {one.owner}. Version: "
            f"{one.version}. Made from: {', '.join(one.inputs)}."
        )
        parts += [f"## {view}", said, _table(header, rows)]
    return "\n\n".join(parts) + "\n"


def describe_tables(project_dir: Path | None = None) -> str:
    """Render the columns of the published tables under the default horizons, as docs/tables.md.

    Parameters
    ----------
    project_dir
        The dbt project; the one that came with the package when None.
    """
    horizons = ValueSettings().horizons
    models = _models(project_dir, horizons, _MARTS)
    parts = [
        "# Published tables",
        "What `<home>/published/clv.duckdb` holds; a Parquet file of each lies beside it. "
        "Columns per horizon are shown for the default horizons "
        f"({', '.join(map(str, horizons))} days); other ones give other columns. "
        + _WRITTEN.format(source="`dbt_project/models/marts/marts.yml`"),
    ]
    for model in models:
        rows = [
            (f"`{column['name']}`", column["data_type"].lower(), column["description"])
            for column in model["columns"]
        ]
        parts += [
            f"## {model['name']}",
            _flat(model["description"]),
            _table(("column", "type", "meaning"), rows),
        ]
    return "\n\n".join(parts) + "\n"


def render_pages(folder: Path) -> dict[Path, str]:
    """Return every page with the text that it should have.

    Parameters
    ----------
    folder
        Holds inputs.md, of which only the part between its markers is rendered.

    Raises
    ------
    DocumentationError
        If inputs.md is missing, or does not have each marker once.
    """
    inputs = folder / "inputs.md"
    if not inputs.is_file():
        raise DocumentationError(
            f"There is no {inputs}: name the folder that holds the project's pages."
        )
    text = inputs.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise DocumentationError(f"{inputs} must hold '{BEGIN}' once, and then '{END}' once.")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return {
        folder / "settings.md": describe_settings(),
        inputs: f"{before}{BEGIN}\n{describe_inputs()}{END}{after}",
        folder / "features.md": describe_features(),
        folder / "tables.md": describe_tables(),
    }


def write_pages(folder: Path) -> None:
    """Write every page into a folder.

    Raises
    ------
    DocumentationError
        If inputs.md is missing, or does not have each marker once.
    """
    for path, text in render_pages(folder).items():
        write_atomically(path, text.encode())


def _describe_section(title: str, model: type[BaseModel]) -> list[str]:
    schema = model.model_json_schema()
    rows = [
        (f"`{name}`", _allowed(part), _default(part), part["description"])
        for name, part in schema["properties"].items()
    ]
    header = ("key", "allowed", "default", "meaning")
    return [f"## `{title}`", _flat(model.__doc__ or ""), _table(header, rows)]


def _allowed(part: Mapping[str, Any]) -> str:
    """Say in words what a part of a JSON schema allows."""
    if "anyOf" in part:
        choices = (_allowed(choice) for choice in part["anyOf"])
        return " or ".join(choice for choice in choices if choice)
    if "$ref" in part:
        return "table (see below)"
    if "enum" in part:
        return ", ".join(_code(value) for value in part["enum"])
    kind = part["type"]
    if kind == "array":
        fewest, most = part.get("minItems"), part.get("maxItems")
        several = f"{most} of " if fewest == most else f"{fewest} to {most} of "
        count = several if most else "list of "
        return count + _allowed(part["items"])
    if kind == "object":
        return "table of " + _allowed(part["additionalProperties"])
    if kind == "string" and part.get("format") == "date":
        return "date"
    if kind == "string" and part.get("maxLength"):
        return f"text of {part['maxLength']}"
    if kind == "boolean":
        return "true or false"
    words = {"integer": "whole number", "number": "number", "string": "text", "null": ""}
    return " ".join(filter(None, (words[kind], _bounds(part))))


def _bounds(part: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return ", ".join(f"{sign} {part[key]:g}" for key, sign in signs.items() if key in part)


def _default(part: Mapping[str, Any]) -> str:
    if "default" not in part:
        return "none: needed"
    return "unset" if part["default"] is None else _code(part["default"])


def _code(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _describe_contract(contract: Contract) -> list[str]:
    needed = " (required)" if contract.required else ""
    further = (
        "Columns that are not listed are kept as JSON in `attributes_json`."
        if contract.keeps_further_columns
        else "Columns that are not listed are left out, with a warning."
    )
    rows = [_contract_row(field) for field in contract.fields]
    header = ("column", "kind", "required", "default", "personal", "meaning")
    return [
        f"### `{contract.name}`{needed}",
        f"{contract.description} {further}",
        _table(header, rows),
    ]


def _contract_row(field: Field) -> tuple[str, ...]:
    required = (("column", field.required), ("value", not field.nullable))
    meaning = field.description
    if field.values:
        meaning += " Any other value counts as 'unknown', with a warning."
    return (
        f"`{field.name}`",
        field.kind,
        " and ".join(word for word, holds in required if holds),
        "" if field.default is None else f"`{field.default}`",
        "yes" if field.personal else "",
        meaning,
    )


def _members(service: FeatureService) -> list[str]:
    """Name the views that a service holds whole, and its other features."""
    views = {feature.view for feature in service.features}
    whole = {view: f"{view} ({sum(f.view == view for f in service.features)})" for view in views}
    listed = dict.fromkeys(feature.view for feature in service.features)
    if len(service.features) > 2 * len(views):
        return [whole[view] for view in listed]
    return list(service.feature_names)


def _feature_row(feature: Feature) -> tuple[str, ...]:
    return (
        f"`{feature.name}`",
        feature.kind,
        feature.data_type,
        "" if feature.window_days is None else str(feature.window_days),
        _range(feature.minimum, feature.maximum),
        feature.null_meaning or "",
        "yes" if feature.is_model_input else "no",
        ", ".join(sorted(feature.tags)),
        feature.description,
    )


def _range(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f"{minimum:g} to {maximum:g}"
    if minimum is not None:
        return f"≥ {minimum:g}"
    return "" if maximum is None else f"≤ {maximum:g}"


def _models(
    project_dir: Path | None, horizons: Sequence[int] = (), folder: str = "models"
) -> list[dict[str, Any]]:
    project = project_dir or packaged_dbt_project()
    documents = expand_documents(read_documents(project), horizons)
    return [
        model
        for path, document in documents.items()
        if Path(path).is_relative_to(folder)
        for model in document.get("models") or ()
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return _flat(text).replace("|", "\\|")


def _flat(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    try:
        write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
    except DocumentationError as problem:
        sys.exit(str(problem))
