"""Settings: clv.toml and CLV_* variables become one frozen object. The only reader of either."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from clv_pipeline.paths import Paths
from clv_pipeline.settings.base import Section
from clv_pipeline.settings.inputs import Exclusion, InputName, InputSettings, SqlColumn
from clv_pipeline.settings.learning import EvaluationSettings, ModelSettings, NetworkSettings
from clv_pipeline.settings.sections import (
    CadenceSettings,
    EngineSettings,
    FeatureSettings,
    GateSettings,
    ProjectSettings,
    PublishSettings,
    ServingSettings,
    TextSettings,
    ValueSettings,
)

__all__ = [
    "CONFIG_NAME",
    "EngineSettings",
    "Exclusion",
    "InputSettings",
    "MissingConfigError",
    "ModelSettings",
    "NetworkSettings",
    "ServingSettings",
    "Settings",
    "SettingsError",
    "SqlColumn",
    "TextSettings",
    "ValueSettings",
    "build_settings",
    "load_settings",
]

CONFIG_NAME = "clv.toml"


class SettingsError(ValueError):
    """A setting that can't be used; the message names the key, the value and what is allowed."""


class MissingConfigError(SettingsError):
    """There is no clv.toml where it was looked for."""


class Settings(Section):
    """Everything that a run may depend on besides the data.

    Attributes
    ----------
    root
        Folder of clv.toml; file globs and ``project.home`` are relative to it.
    """

    root: Path = Field(description="Folder of clv.toml; not a setting of its own.")
    project: ProjectSettings = ProjectSettings()
    value: ValueSettings = ValueSettings()
    cadence: CadenceSettings = CadenceSettings()
    model: ModelSettings = ModelSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gates: GateSettings = GateSettings()
    features: FeatureSettings = FeatureSettings()
    texts: TextSettings = TextSettings()
    publish: PublishSettings = PublishSettings()
    serving: ServingSettings = ServingSettings()
    engine: EngineSettings = EngineSettings()
    inputs: dict[InputName, InputSettings] = Field(default={})

    @property
    def paths(self) -> Paths:
        """Where things lie below the project's home."""
        return Paths((self.root / self.project.home).resolve())


def load_settings(
    path: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read clv.toml and the CLV_* variables.

    ``CLV_CONFIG`` names the file where ``path`` does not. ``CLV_<SECTION>__<KEY>`` overrides a key,
    for instance ``CLV_PROJECT__TIME_ZONE=Europe/Berlin`` or ``CLV_VALUE__HORIZONS=[30,90]``.

    Parameters
    ----------
    path
        The file, or the folder that holds it; the working directory when None.
    environ
        Variables to read; those of the process when None.

    Raises
    ------
    SettingsError
        Naming the file, the key, the value and what is allowed.
    """
    environ = os.environ if environ is None else environ
    file = Path(path or environ.get("CLV_CONFIG") or ".").expanduser()
    file = (file / CONFIG_NAME if file.is_dir() else file).resolve()
    if not file.is_file():
        raise MissingConfigError(
            f"There is no {file.name} in {file.parent}. "
            "Write one with `clv init FILE...`, or name another folder with --config."
        )
    try:
        document: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} can't be read as TOML: {error}.") from None
    for name, text in sorted(environ.items()):
        section, _, key = name.removeprefix("CLV_").lower().partition("__")
        if name.startswith("CLV_") and key:
            document.setdefault(section, {})[key] = _parse_override(text)
    return build_settings(file.parent, document, source=str(file))


def build_settings(
    root: Path, document: Mapping[str, Any], source: str = "the settings"
) -> Settings:
    """Check a parsed document and freeze it.

    Raises
    ------
    SettingsError
        Naming every key that can't be used, its value and what is allowed.
    """
    if "root" in document:
        raise SettingsError(f"{source}: 'root' is not a setting.")
    try:
        return Settings.model_validate({**document, "root": root})
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise SettingsError(f"{source}: " + " ".join(problems)) from None


def _parse_override(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _describe(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], known, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"'{key}' is not a setting.{hint} Allowed here: {', '.join(known)}."
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = f" = {value!r}" if isinstance(value, str | int | float | bool | list | tuple) else ""
    return f"'{key}'{shown} can't be used: {message}."


def _known_keys(location: list[str]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in location:
        if part == "inputs":
            model = InputSettings
            continue
        field = model.model_fields.get(part)
        if field is not None and isinstance(field.annotation, type):
            model = field.annotation
    return sorted(name for name in model.model_fields if name != "root")
