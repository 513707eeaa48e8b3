"""Feature services: versioned sets of features with a name, each for one use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clv_pipeline.dbt_project import packaged_dbt_project
from clv_pipeline.dbt_yaml import load_document
from clv_pipeline.features.registry import Feature, RegistryError, load_features, model_inputs
from clv_pipeline.settings import Settings

FILE = "feature_services.yml"
_KEYS = {"name", "version", "description", "features"}


@dataclass(frozen=True)
class FeatureService:
    """A set of features that belongs together: what a model reads, or what an application does.

    Attributes
    ----------
    name
        ``<base name>_v<version>``.
    description
        What it is for.
    features
        Its features, in the order of ``features.customer_features``.
    """

    name: str
    description: str
    features: tuple[Feature, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of ``features.customer_features`` that it holds."""
        return tuple(feature.name for feature in self.features)

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """Those of its features that a model may read."""
        return model_inputs(self.features)

    @cached_property
    def fingerprint(self) -> str:
        """Eight digits of a hash of each feature's name, version and type."""
        text = "\n".join(f"{f.name} {f.version} {f.data_type}" for f in self.features)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def load_services(project_dir: Path | None = None) -> dict[str, FeatureService]:
    """Read every feature service of the project, by name.

    Parameters
    ----------
    project_dir
        The dbt project; the one that came with the package when None.

    Raises
    ------
    RegistryError
        If a service lacks a part, names a view or feature that is not registered, or comes twice.
    """
    project = project_dir or packaged_dbt_project()
    path = project / FILE
    document = load_document(path.read_text(encoding="utf-8"))
    features = load_features(project)
    found: dict[str, FeatureService] = {}
    for entry in document["services"]:
        service = _read_service(path.name, entry, features)
        if service.name in found:
            raise RegistryError(f"{path.name}: the service '{service.name}' is there twice.")
        found[service.name] = service
    return found


def find_service(
    settings: Settings, name: str | None = None, project_dir: Path | None = None
) -> FeatureService:
    """Return a service by name; the one that models are trained on when None.

    Parameters
    ----------
    settings
        ``features.service`` names the default, and ``paths.dbt_project`` the installed project.
    project_dir
        The dbt project; the installed one when None, or the packaged one where none is installed.

    Raises
    ------
    RegistryError
        If there is no such service.
    """
    installed = settings.paths.dbt_project
    services = load_services(project_dir or (installed if (installed / FILE).exists() else None))
    wanted = name or settings.features.service
    if wanted not in services:
        raise RegistryError(
            f"There is no feature service '{wanted}'; there are {', '.join(services)}."
        )
    return services[wanted]


def _read_service(
    path: str, entry: dict[str, Any], features: tuple[Feature, ...]
) -> FeatureService:
    where = f"{path}: service '{entry.get('name')}'"
    if set(entry) != _KEYS:
        raise RegistryError(f"{where} needs {', '.join(sorted(_KEYS))}, and nothing else.")
    chosen = _choose(where, entry["features"], features)
    return FeatureService(
        f"{entry['name']}_v{int(entry['version'])}",
        " ".join(entry["description"].split()),
        tuple(feature for feature in features if feature.name in chosen),
    )


def _choose(where: str, named: Iterable[str], features: tuple[Feature, ...]) -> set[str]:
    views = {feature.view for feature in features}
    names = {feature.name for feature in features}
    chosen: set[str] = set()
    for item in named:
        if item in views:
            chosen |= {feature.name for feature in features if feature.view == item}
        elif item in names:
            chosen.add(item)
        else:
            raise RegistryError(
                f"{where} names '{item}', which is neither a feature nor a view that is registered."
            )
    return chosen
