"""The dbt project below home: its files, its variables and its environment."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from clv_pipeline.dbt_yaml import (
    dump_document,
    expand_documents,
    read_documents,
    sources_document,
)
from clv_pipeline.drawing import NOBODY_DRAWN, Draw
from clv_pipeline.engines.building import DUCKDB, SPARK
from clv_pipeline.paths import Paths
from clv_pipeline.settings import InputSettings, Settings
from clv_pipeline.spilling import spill_limit
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import duckdb_config, write_atomically

_HASH_FILE = ".content"
# Of the project's files, those on which no row depends that is kept from night to night.
_OF_NO_KEPT_ROWS = ("models/marts/", "tests/", "feature_services.yml")
_WORDS = ("description", "data_tests")
# What differs from run to run. No model's name, config or reference depends on it, only its SQL.
_PARSE_DAY = "2000-01-01"
_RUN_VARIABLES = {
    "cutoffs": [_PARSE_DAY],
    "data_through": _PARSE_DAY,
    "drawn_cutoffs": [],
    "drawn_halvings": 0,
    "run_id": "parse",
}


def packaged_dbt_project() -> Path:
    """Return the folder of the dbt project as it came with the package or the checkout."""
    here = Path(__file__).resolve().parent
    packaged = here / "_dbt_project"
    return packaged if packaged.is_dir() else here.parent / "dbt_project"


def install_dbt_project(settings: Settings) -> Path:
    """Copy the dbt project below home, with sources and per-horizon columns written out.

    Does nothing when what would be written is there already.

    Returns
    -------
    Path
        The installed project's folder.
    """
    source = packaged_dbt_project()
    files = project_files(source, settings)
    content = hash_files(files)
    target = settings.paths.dbt_project
    marker = target / _HASH_FILE
    if marker.is_file() and marker.read_text(encoding="utf-8") == content:
        return target
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name, text in files.items():
        write_atomically(temporary / name, text)
    write_atomically(temporary / _HASH_FILE, content.encode())
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    return target


def dbt_variables(
    settings: Settings,
    cutoffs: Sequence[Cutoff],
    data_through: Cutoff,
    run_id: str,
    draw: Draw = NOBODY_DRAWN,
) -> dict[str, Any]:
    """Return the variables of one dbt run.

    Parameters
    ----------
    settings
        Give time zone, currency, definition of value and horizons.
    cutoffs
        The cutoffs to build; at least one.
    data_through
        The last complete day: labels end there, and hold what was known by its end.
    run_id
        Name of the run.
    draw
        Which of the cutoffs hold a share of the customers; all of them hold everybody unless said.

    Raises
    ------
    ValueError
        If there is no cutoff, or one lies after ``data_through``.
    """
    if not cutoffs:
        raise ValueError("dbt needs at least one cutoff to build.")
    late = [str(cutoff) for cutoff in cutoffs if cutoff > data_through]
    if late:
        raise ValueError(
            f"The cutoffs {', '.join(late)} lie after {data_through}, the last complete day of "
            "data: choose earlier ones."
        )
    return {
        **constant_variables(settings),
        "cutoffs": sorted({str(cutoff) for cutoff in cutoffs}),
        "data_through": str(data_through),
        "horizons": list(settings.value.horizons),
        "auxiliary_horizons": list(settings.value.auxiliary_horizons),
        "drawn_cutoffs": sorted(str(cutoff) for cutoff in draw.cutoffs),
        "drawn_halvings": draw.halvings,
        "max_staleness_days": settings.gates.max_staleness_days,
        "run_id": run_id,
    }


# What dbt kept of a parsed project holds as long as the profile stays the same. Nothing is opened
# while it parses, so what differs from one process, home or machine to the next is left out of it.
# The warehouse's name is not: dbt calls the database by it.
PARSED_UNDER = {
    "CLV_DBT_WAREHOUSE": Paths(Path()).warehouse.name,
    "CLV_DBT_MEMORY_LIMIT": "1 GB",
    "CLV_DBT_THREADS": "1",
    "CLV_DBT_SPILL": "",
    "CLV_DBT_SPILL_LIMIT": "1 MB",
}


def dbt_environment(settings: Settings, target: str = DUCKDB) -> dict[str, str]:
    """Return the environment variables that dbt, profiles.yml and the macros of a target read."""
    config = duckdb_config(settings)
    folder = settings.paths.dbt_target
    if target != DUCKDB:
        folder /= target  # what dbt keeps of a parsed project holds for one target
    return {
        "CLV_DBT_WAREHOUSE": str(settings.paths.warehouse),
        "CLV_DBT_MEMORY_LIMIT": str(config["memory_limit"]),
        "CLV_DBT_THREADS": str(config["threads"]),
        "CLV_DBT_SPILL": str(config["temp_directory"]),
        "CLV_DBT_SPILL_LIMIT": spill_limit(settings),
        "CLV_DBT_DISABLED_OPTIMIZERS": str(config["disabled_optimizers"]),
        # What one statement of a first build may take; more is built in slices.
        "CLV_DBT_BYTES_AT_ONCE": str(settings.engine.memory_bytes()),
        **({"CLV_SPARK_LAKE": settings.paths.lake.as_uri()} if target == SPARK else {}),
        "DBT_TARGET_PATH": str(folder),
        "DBT_LOG_PATH": str(folder / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
        "DO_NOT_TRACK": "1",
    }


def parse_variables(settings: Settings) -> dict[str, Any]:
    """Return variables under which the project is parsed, for whatever run."""
    return {
        **constant_variables(settings),
        "horizons": list(settings.value.horizons),
        "auxiliary_horizons": list(settings.value.auxiliary_horizons),
        **_RUN_VARIABLES,
    }


def constant_variables(settings: Settings) -> dict[str, Any]:
    """Return the variables that decide what derived rows mean; the same in every run."""
    transactions = settings.inputs.get("transactions")
    default_grain = InputSettings.model_fields["grain"].default
    return {
        "time_zone": settings.project.time_zone,
        "reporting_currency": settings.project.reporting_currency,
        "value_definition": settings.value.definition,
        "transaction_grain": transactions.grain if transactions else default_grain,
        "text_scorer": settings.texts.scorer,
    }


def project_files(source: Path, settings: Settings) -> dict[str, bytes]:
    """Return every file of the project as it is to be installed, by its path in the project."""
    paths, states = find_project_files(source)
    return dict(_read_project(source, paths, states, tuple(settings.value.horizons)))


def definition_files(source: Path) -> dict[str, bytes]:
    """Return the files that decide what rows mean which are kept from night to night.

    What only describes, tests or publishes them is left out, so that better words do not make
    anybody build years anew.
    """
    return dict(_read_definition(source, *find_project_files(source)))


def find_project_files(
    source: Path,
) -> tuple[tuple[Path, ...], tuple[tuple[int, int], ...]]:
    """Return the files of a dbt project, and when each was changed and how large it is."""
    left_out = {"target", "logs", "__pycache__"}
    paths = tuple(
        path
        for path in sorted(source.rglob("*"))
        if path.is_file() and not left_out & set(path.relative_to(source).parts)
    )
    return paths, tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)


@lru_cache(maxsize=8)
def _read_project(
    source: Path,
    paths: tuple[Path, ...],
    states: tuple[tuple[int, int], ...],
    horizons: tuple[int, ...],
) -> dict[str, bytes]:
    # YAML takes a second to read and write, and every stage of a run asks for the same files.
    files = {str(path.relative_to(source)): path.read_bytes() for path in paths}
    documents = expand_documents(read_documents(source), horizons)
    documents["models/sources.yml"] = sources_document()
    for name, document in documents.items():
        text = dump_document(document)
        files[name] = text.encode()
    return files


@lru_cache(maxsize=8)
def _read_definition(
    source: Path, paths: tuple[Path, ...], states: tuple[tuple[int, int], ...]
) -> dict[str, bytes]:
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in paths}
    for name, document in expand_documents(read_documents(source), ()).items():
        files[name] = dump_document(_leave_out_words(document)).encode()
    return {name: text for name, text in files.items() if not name.startswith(_OF_NO_KEPT_ROWS)}


def _leave_out_words(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _leave_out_words(value) for key, value in part.items() if key not in _WORDS}
    return [_leave_out_words(item) for item in part] if isinstance(part, list) else part


def hash_files(files: Mapping[str, bytes]) -> str:
    """Return a hash of names and contents, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()
