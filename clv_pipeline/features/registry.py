"""The feature registry: what dbt's yml says of each feature, for models, checks and documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from clv_pipeline.dbt_project import packaged_dbt_project
from clv_pipeline.dbt_yaml import expand_documents, read_documents, stamp_documents
from clv_pipeline.ingest.contract import CONTRACTS

FeatureKind = Literal["numeric", "categorical", "flag"]
_JOINED_VIEW = "customer_features"
_KINDS = ("numeric", "categorical", "flag")
_KEYS = {
    *("kind", "window_days", "min", "max", "null_meaning", "tags", "input"),
    *("entity", "owner", "version", "inputs"),
}
_TAGS = {"personal", "protected", "sensitive", "consent", "calendar"}
# The keys of customer_features: what a feature is looked up by.
KEY_TYPES = {"customer_id": "varchar", "cutoff_date": "date"}


class RegistryError(ValueError):
    """The yml says something of a feature that can't be; the message names file and column."""


@dataclass(frozen=True)
class Feature:
    """One column that describes a customer at a cutoff.

    Attributes
    ----------
    name
        Column in ``features.customer_features``.
    view
        The ``feat_*`` model that computes it.
    kind
        numeric, categorical (text, 'unknown' where missing) or flag (boolean).
    data_type
        DuckDB type, in lower case.
    description
        What it means, in a sentence.
    window_days
        Days before the cutoff that it looks at; None for the whole history.
    minimum, maximum
        Range that values lie in, both included; None for no limit.
    null_meaning
        What a null says; None where a null is not allowed.
    tags
        personal, protected, sensitive, consent; calendar is what moves for everybody every day.
    is_model_input
        Whether a model may read it.
    entity
        Whom it describes; its key is ``<entity>_id``.
    owner
        Who answers for it.
    version
        Raised when the same name begins to mean something else.
    inputs
        The inputs (contracts) that it is made from.
    """

    name: str
    view: str
    kind: FeatureKind
    data_type: str
    description: str
    window_days: int | None
    minimum: float | None
    maximum: float | None
    null_meaning: str | None
    tags: frozenset[str]
    is_model_input: bool
    entity: str = "customer"
    owner: str = ""
    version: int = 1
    inputs: tuple[str, ...] = ()

    @property
    def is_of_calendar(self) -> bool:
        """Whether it moves for everybody every day, which says nothing of the data."""
        return "calendar" in self.tags


def load_features(project_dir: Path | None = None) -> tuple[Feature, ...]:
    """Read every feature from the yml beside the ``feat_*`` models.

    Parameters
    ----------
    project_dir
        The dbt project; the one that came with the package when None.

    Returns
    -------
    tuple of Feature
        In the order of ``features.customer_features``.

    Raises
    ------
    RegistryError
        If a column of a ``feat_*`` model has no entry, an entry lacks its kind, type, description,
        entity, owner or version, has an unknown key, is protected and yet a model input, or if two
        views have a feature of one name.
    """
    folder = project_dir or packaged_dbt_project()
    return _load_features(folder, stamp_documents(folder))


# Assets ask for the registry many times in a run, and parsing it takes half a second.
@lru_cache(maxsize=4)
def _load_features(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> tuple[Feature, ...]:
    documents = expand_documents(read_documents(folder), ())
    found: dict[str, Feature] = {}
    for path, document in documents.items():
        for model in document.get("models") or ():
            if not model["name"].startswith("feat_"):
                continue
            for column in model.get("columns") or ():
                if column["name"] in KEY_TYPES:
                    continue
                feature = _read_feature(path, model["name"], column)
                if feature.name in found:
                    raise RegistryError(
                        f"{path}: '{feature.name}' is a feature of {found[feature.name].view} too; "
                        "give one of them another name."
                    )
                found[feature.name] = feature
    joined = _joined_order(documents.values())
    left_out = sorted(set(found) - set(joined))
    if left_out:
        raise RegistryError(
            f"'{left_out[0]}' is a feature of {found[left_out[0]].view}, but customer_features "
            "lacks that view: add it to the views in customer_features.sql and to its yml."
        )
    return tuple(found[name] for name in joined if name in found)


def model_inputs(features: Iterable[Feature]) -> tuple[Feature, ...]:
    """Return the features that a model may read."""
    return tuple(feature for feature in features if feature.is_model_input)


def online_schema(features: Iterable[Feature]) -> dict[str, str]:
    """Return the columns of an online store of these features: column to DuckDB type, keys first.

    The key of a row is ``customer_id``; ``cutoff_date`` says as of when the values are.
    """
    return {**KEY_TYPES, **{feature.name: feature.data_type for feature in features}}


def require_registered(names: Iterable[str], features: Iterable[Feature]) -> None:
    """Refuse names that are no features.

    Raises
    ------
    RegistryError
        Naming those that the registry does not know.
    """
    unknown = sorted(set(names) - {feature.name for feature in features})
    if unknown:
        raise RegistryError(
            f"{', '.join(unknown)}: no such feature is registered. Give each an entry in the yml "
            "beside its feat_* model."
        )


def _read_feature(path: str, view: str, column: dict[str, Any]) -> Feature:
    where = f"{path}: feature '{column['name']}'"
    entry = column.get("config", {}).get("meta", {}).get("feature")
    if entry is None:
        raise RegistryError(f"{where} has no entry: write config.meta.feature in its yml.")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise RegistryError(f"{where} has the key '{unknown[0]}'; allowed are {sorted(_KEYS)}.")
    if entry.get("kind") not in _KINDS:
        raise RegistryError(f"{where} needs a kind, one of {', '.join(_KINDS)}.")
    if not column.get("data_type") or not column.get("description"):
        raise RegistryError(f"{where} needs a data_type and a description.")
    for key in ("entity", "owner", "version"):
        if not entry.get(key):
            raise RegistryError(
                f"{where} needs its {key}, in its entry or in the feature_view of {view}."
            )
    tags = frozenset(entry.get("tags", ()))
    if tags - _TAGS:
        raise RegistryError(
            f"{where} has the tag '{min(tags - _TAGS)}'; allowed are {', '.join(sorted(_TAGS))}."
        )
    inputs = tuple(entry.get("inputs", ()))
    if set(inputs) - set(CONTRACTS):
        raise RegistryError(
            f"{where} is made from '{min(set(inputs) - set(CONTRACTS))}', which is no input; there "
            f"are {', '.join(CONTRACTS)}."
        )
    is_input = bool(entry.get("input", True))
    if is_input and "protected" in tags:
        raise RegistryError(f"{where} is protected, so it needs `input: false`.")
    return Feature(
        name=column["name"],
        view=view,
        kind=entry["kind"],
        data_type=column["data_type"].lower(),
        description=" ".join(column["description"].split()),
        window_days=entry.get("window_days"),
        minimum=entry.get("min"),
        maximum=entry.get("max"),
        null_meaning=entry.get("null_meaning"),
        tags=tags,
        is_model_input=is_input,
        entity=entry["entity"],
        owner=entry["owner"],
        version=int(entry["version"]),
        inputs=inputs,
    )


def _joined_order(documents: Iterable[dict[str, Any]]) -> list[str]:
    for document in documents:
        for model in document.get("models") or ():
            if model["name"] == _JOINED_VIEW:
                return [column["name"] for column in model["columns"]]
    raise RegistryError(f"The project has no model '{_JOINED_VIEW}'.")
