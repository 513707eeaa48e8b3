"""Our features for those who run Feast: a repository of entities, views, services, and Parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clv_pipeline.drawing import whole_days
from clv_pipeline.features.registry import Feature, load_features
from clv_pipeline.features.services import FeatureService, load_services
from clv_pipeline.features.store import SNAPSHOTS, RetrievalError
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import (
    has_table,
    open_warehouse,
    quote_identifier,
    quote_literal,
    read_row,
    write_atomically,
)

DATA = Path("data") / "customer_features.parquet"
DEFINITIONS = "clv_features.py"
TIMESTAMP = "event_timestamp"
_TYPES = {
    "double": "Float64",
    "varchar": "String",
    "boolean": "Bool",
    "bigint": "Int64",
    "integer": "Int32",
    "date": "UnixTimestamp",
}
_YAML = """\
project: {project}
provider: local
registry: data/registry.db
offline_store:
  type: file
online_store:
  type: sqlite
  path: data/online_store.db
entity_key_serialization_version: 3
"""
_HEAD = '''\
"""Features of {project}, written by `clv features export --feast`; do not edit, export again."""

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import {types}
from feast.value_type import ValueType

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
snapshots = FileSource(
    name="customer_features",
    path=str(Path(__file__).resolve().parent / {folder} / {file}),
    timestamp_field="{timestamp}",
)
# A snapshot of day D serves from the end of D on, until it is older than features.max_age_days.
ttl = timedelta(days={days}) - timedelta(microseconds=1)
'''
_VIEW = """
{name} = FeatureView(
    name="{name}",
    entities=[customer],
    source=snapshots,
    ttl=ttl,
    schema=[
{fields}
    ],
)
"""
_SERVICE = """
{name} = FeatureService(
    name="{name}",
    description={description},
    features=[
{views}
    ],
)
"""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    folder
        The Feast repository.
    rows
        Customers and snapshots in its Parquet file.
    views, services
        Their names.
    """

    folder: Path
    rows: int
    views: tuple[str, ...]
    services: tuple[str, ...]


def export_repository(settings: Settings, folder: Path) -> Exported:
    """Write a Feast repository with every snapshot that the warehouse holds.

    Parameters
    ----------
    settings
        Name the warehouse, the time zone and the greatest age of a snapshot.
    folder
        Made where it is missing; what an earlier export wrote is replaced, one file at a time.

    Raises
    ------
    RetrievalError
        If there are no features yet.
    """
    installed = settings.paths.dbt_project
    project = installed if installed.exists() else None
    features, services = load_features(project), load_services(project)
    rows = _export_snapshots(settings, features, folder / DATA)
    name = re.sub(r"\W", "_", settings.project.name)
    text = render_definitions(name, features, services.values(), settings.features.max_age_days + 1)
    write_atomically(folder / DEFINITIONS, text.encode())
    write_atomically(folder / "feature_store.yaml", _YAML.format(project=name).encode())
    return Exported(folder, rows, _views(features), tuple(services))


def render_definitions(
    project: str, features: Sequence[Feature], services: Iterable[FeatureService], days: int
) -> str:
    """Write the Python file of a repository.

    Parameters
    ----------
    days
        From the end of a snapshot's day until another one is needed.
    """
    types = sorted({_TYPES[feature.data_type] for feature in features})
    parts = [
        _HEAD.format(
            project=project,
            types=", ".join(types),
            folder=json.dumps(DATA.parent.name),
            file=json.dumps(DATA.name),
            timestamp=TIMESTAMP,
            days=days,
        )
    ]
    for view in _views(features):
        fields = [
            f"        Field(name={json.dumps(f.name)}, dtype={_TYPES[f.data_type]}, "
            f"description={json.dumps(f.description)}),"
            for f in features
            if f.view == view
        ]
        parts.append(_VIEW.format(name=view, fields="\n".join(fields)))
    for service in services:
        views = [
            f"        {view}[{json.dumps([f.name for f in service.features if f.view == view])}],"
            for view in _views(service.features)
        ]
        parts.append(
            _SERVICE.format(
                name=service.name,
                description=json.dumps(service.description),
                views="\n".join(views),
            )
        )
    return "".join(parts)


def _views(features: Iterable[Feature]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(feature.view for feature in features))


def _export_snapshots(settings: Settings, features: Sequence[Feature], path: Path) -> int:
    columns = ", ".join(quote_identifier(feature.name) for feature in features)
    zone = quote_literal(settings.project.time_zone)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open_warehouse(settings, read_only=True) as connection:
        if not has_table(connection, *SNAPSHOTS.split(".")):
            raise RetrievalError("There are no features yet: run `clv run` first.")
        # The moment at which the snapshot's day was over, in the business time zone.
        over = f"timezone({zone}, (cutoff_date + 1)::TIMESTAMP)"
        days = whole_days(connection, SNAPSHOTS)
        listed = ", ".join(quote_literal(str(day)) for day in days)
        whole = f"WHERE list_contains([{listed}]::DATE[], cutoff_date) "
        connection.execute(
            f"COPY (SELECT customer_id, {over} AS {TIMESTAMP}, {columns} FROM {SNAPSHOTS} {whole}"
            f"ORDER BY cutoff_date, customer_id) TO {quote_literal(str(temporary))} "
            "(FORMAT parquet)"
        )
        (rows,) = read_row(connection, f"SELECT count(*) FROM {SNAPSHOTS} {whole}")
    temporary.replace(path)
    return int(rows)
