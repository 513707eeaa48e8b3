"""dbt: install the project below home, and run its stages in this process."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from clv_pipeline.dbt_yaml import (
    SOURCES,
    dump_document,
    expand_documents,
    read_documents,
    sources_document,
)
from clv_pipeline.engines.building import (
    DUCKDB,
    SPARK,
    finish_engine,
    prepare_engine,
    split_by_engine,
)
from clv_pipeline.engines.lake import drop_lake
from clv_pipeline.engines.session import EngineError
from clv_pipeline.settings import InputSettings, Settings
from clv_pipeline.signals import prepare_holidays, prepare_texts
from clv_pipeline.spilling import spill_limit
from clv_pipeline.tables import create_tables
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import duckdb_config, open_warehouse, write_atomically

# Stage -> what dbt selects for it, in the order in which they run.
STAGES: dict[str, str] = {
    "staging": "path:models/staging",
    "intermediate": "path:models/intermediate",
    "as_of": "path:models/as_of",
    "features": "path:models/features",
    "marts": "path:models/marts",
}
# What is derived from raw.* under one definition, and dropped when the definition changes.
_DERIVED_SCHEMAS = ("features", "as_of", "intermediate", "staging")
# Landed files that were read anew under other settings since rows were derived, and new ones.
_COUNT_FILES = """
SELECT
    count(*) FILTER (WHERE built.file_id IS NOT NULL
        AND built.settings_hash IS DISTINCT FROM landed.settings_hash),
    count(*) FILTER (WHERE built.file_id IS NULL)
FROM ops.landed_files AS landed
LEFT JOIN ops.built_files AS built ON landed.file_id = built.file_id
"""
_HASH_FILE = ".content"
# What differs from run to run. No model's name, config or reference depends on it, only its SQL.
_PARSE_DAY = "2000-01-01"
_RUN_VARIABLES = {"cutoffs": [_PARSE_DAY], "data_through": _PARSE_DAY, "run_id": "parse"}
# What this process has parsed, newest last: dbt's manifest, by the project's content and variables.
_parsed: dict[str, Any] = {}
_MOST_PARSED = 4


@dataclass(frozen=True)
class NodeResult:
    """What became of one model or test.

    Attributes
    ----------
    node
        dbt's unique id.
    relation
        The quoted name of what a model made; None for a test.
    status
        In dbt's words: success, pass, warn, fail, error, skipped, ...
    seconds
        How long it took.
    count_failed
        Rows that broke a test's rule.
    message
        What dbt says of it.
    """

    node: str
    relation: str | None
    status: str
    seconds: float
    count_failed: int
    message: str | None


@dataclass(frozen=True)
class CompiledModel:
    """The SQL of one model.

    Attributes
    ----------
    schema, name
        Where its rows go.
    sql
        A query.
    """

    schema: str
    name: str
    sql: str


class TransformError(RuntimeError):
    """dbt could not build what was asked for; the message names the model or test, and why.

    Parameters
    ----------
    message
        The sentence.
    results
        What ended before or by the failure.
    """

    def __init__(self, message: str, results: tuple[NodeResult, ...] = ()) -> None:
        super().__init__(message)
        self.results = results


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
    files = _project_files(source, settings)
    content = _hash_files(files)
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


def prepare_sources(settings: Settings) -> None:
    """Make every table that dbt reads exist and drop what was derived under another definition.

    Public holidays and scores of texts are added for what has landed since the last time.

    Time zone, reporting currency, the definition of value and the SQL itself decide what derived
    rows mean. When one of them changed since they were built, rows of both kinds would mix; so they
    are dropped, and the next build makes them again from ``raw``. So they are when a file was read
    anew under other settings: its rows have the same numbers and another content.
    """
    constants = _constant_variables(settings)
    if settings.engine.name != "duckdb":
        constants["engine"] = settings.engine.name
    definition = _hash_files(
        {
            **_project_files(packaged_dbt_project(), settings, horizons=()),
            "variables": json.dumps(constants, sort_keys=True).encode(),
        }
    )
    with open_warehouse(settings) as connection:
        for schema, tables in SOURCES.items():
            create_tables(connection, schema, tables)
        prepare_holidays(connection)
        prepare_texts(connection, settings)
        connection.execute("CREATE TABLE IF NOT EXISTS ops.built_definition (definition VARCHAR)")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS ops.built_files (file_id BIGINT, settings_hash VARCHAR)"
        )
        built = connection.execute("SELECT definition FROM ops.built_definition").fetchall()
        ((count_changed, count_new),) = connection.execute(_COUNT_FILES).fetchall()
        is_current = built == [(definition,)] and not count_changed
        if is_current and not count_new:
            return
        connection.begin()
        for schema in () if is_current else _DERIVED_SCHEMAS:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        if not is_current:
            drop_lake(settings)
        connection.execute("DELETE FROM ops.built_definition")
        connection.execute("INSERT INTO ops.built_definition VALUES (?)", [definition])
        connection.execute("DELETE FROM ops.built_files")
        connection.execute(
            "INSERT INTO ops.built_files SELECT file_id, settings_hash FROM ops.landed_files"
        )
        connection.commit()


def dbt_variables(
    settings: Settings, cutoffs: Sequence[Cutoff], data_through: Cutoff, run_id: str
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
        **_constant_variables(settings),
        "cutoffs": sorted({str(cutoff) for cutoff in cutoffs}),
        "data_through": str(data_through),
        "horizons": list(settings.value.horizons),
        "auxiliary_horizons": list(settings.value.auxiliary_horizons),
        "run_id": run_id,
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
        **({"CLV_SPARK_LAKE": settings.paths.lake.as_uri()} if target == SPARK else {}),
        "DBT_TARGET_PATH": str(folder),
        "DBT_LOG_PATH": str(folder / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
        "DO_NOT_TRACK": "1",
    }


def run_dbt(
    settings: Settings, arguments: Sequence[str], variables: Mapping[str, Any]
) -> tuple[NodeResult, ...]:
    """Run a dbt command in this process, and leave no connection open.

    Installs the project and prepares its sources first.

    Parameters
    ----------
    settings
        Name the home.
    arguments
        The command and its options, such as ``["build", "--select", STAGES["staging"]]``. Unit
        tests of the project are run only where they are selected by ``--resource-type``.
    variables
        From `dbt_variables`.

    Returns
    -------
    tuple of NodeResult
        In the order in which they ended.

    Raises
    ------
    TransformError
        Naming each model or test that failed, and why.
    """
    results: tuple[NodeResult, ...] = ()
    for target, part in _split_by_engine(settings, arguments):
        outcome = _invoke(settings, part, variables, target)
        results += _read_results(outcome)
        if not outcome.success:
            raise TransformError(_explain_failure(arguments, outcome, settings), results)
    return results


def _split_by_engine(settings: Settings, arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    marts = {path.stem for path in (packaged_dbt_project() / "models" / "marts").glob("*.sql")}
    return split_by_engine(settings, arguments, STAGES, marts)


def compile_models(
    settings: Settings, selector: str, variables: Mapping[str, Any]
) -> tuple[CompiledModel, ...]:
    """Return the SQL of models as a first build would run it, nothing being held yet.

    Parameters
    ----------
    settings
        Name the home.
    selector
        What dbt selects, such as ``+customer_features``.
    variables
        From `dbt_variables`.

    Returns
    -------
    tuple of CompiledModel
        Each after those that it reads.

    Raises
    ------
    TransformError
        If a model can't be compiled.
    """
    # Tests are not asked for, but dbt would compile them with the models.
    arguments = ["compile", "--full-refresh", "--select", selector, "--exclude", "test_type:data"]
    outcome = _invoke(settings, arguments, variables)
    if not outcome.success:
        raise TransformError(_explain_failure(arguments, outcome, settings))
    compiled = [result.node for result in outcome.result.results]
    nodes = {node.unique_id: node for node in compiled if node.resource_type == "model"}
    parents = {name: set(node.depends_on.nodes) & set(nodes) for name, node in nodes.items()}
    return tuple(
        CompiledModel(str(nodes[name].schema), str(nodes[name].name), nodes[name].compiled_code)
        for name in TopologicalSorter(parents).static_order()
    )


def _invoke(
    settings: Settings,
    arguments: Sequence[str],
    variables: Mapping[str, Any],
    target: str = DUCKDB,
) -> Any:
    # Imported late: it takes a second that most commands need not wait for.
    from dbt.cli.main import dbtRunner

    project = install_dbt_project(settings)
    if arguments[0] != "parse":  # parsing must work while a run holds the warehouse
        prepare_sources(settings)
    command = _command(arguments, project, variables, target)
    try:
        engine = prepare_engine(settings, target)
    except EngineError as error:
        raise TransformError(str(error)) from error
    with _environment(dbt_environment(settings, target)):
        try:
            manifest = None
            builds = arguments[0] == "build" and "--resource-type" not in arguments
            if builds or arguments[0] == "compile":
                manifest = _parse_once(settings, project, target)
            outcome = dbtRunner(manifest).invoke(command)
            if list(arguments) == ["parse"] and outcome.success:
                _keep_parsed(_project_key(settings, project, target), outcome.result)
        finally:
            _close_connections()
            _close_logs()
    built = [r.relation for r in _read_results(outcome) if r.relation and r.status == "success"]
    finish_engine(engine, settings, built)
    return outcome


def _command(
    arguments: Sequence[str], project: Path, variables: Mapping[str, Any], target: str
) -> list[str]:
    return [
        *arguments,
        *_quiet_options(arguments),
        "--project-dir",
        str(project),
        "--profiles-dir",
        str(project),
        "--target",
        target,
        "--vars",
        json.dumps(dict(variables)),
    ]


def build_stages(
    settings: Settings,
    cutoffs: Sequence[Cutoff],
    data_through: Cutoff,
    run_id: str,
    stages: Sequence[str] = ("staging", "intermediate", "as_of", "features"),
) -> None:
    """Build and test some stages in one dbt run.

    Raises
    ------
    TransformError
        Naming each model or test that failed, and why.
    """
    selectors = [selector for stage in stages for selector in ("--select", STAGES[stage])]
    variables = dbt_variables(settings, cutoffs, data_through, run_id)
    run_dbt(settings, ["build", *selectors], variables)


def _parse_once(settings: Settings, project: Path, target: str) -> Any:
    """Return dbt's manifest of the installed project for a target; None if it can't be parsed.

    Other variables than last time would make dbt parse the whole project anew in every stage of
    every run. They are read again when a model is compiled, so the parsed project serves them all.
    """
    from dbt.cli.main import dbtRunner

    key = _project_key(settings, project, target)
    if key not in _parsed:
        command = _command(["parse"], project, parse_variables(settings), target)
        try:
            _keep_parsed(key, dbtRunner().invoke(command).result)
        finally:
            _close_logs()  # the command that follows opens them anew
    return _parsed.get(key)


def _keep_parsed(key: str, manifest: Any) -> None:
    if manifest is not None:
        _parsed[key] = manifest
        while len(_parsed) > _MOST_PARSED:
            del _parsed[next(iter(_parsed))]


def _project_key(settings: Settings, project: Path, target: str = DUCKDB) -> str:
    # What lies there counts, not what was installed: a model may have been edited in place. Homes
    # with the same content share what was parsed, for nothing in it depends on the folder.
    files = {str(p.relative_to(project)): p.read_bytes() for p in _find_project_files(project)[0]}
    variables = json.dumps(parse_variables(settings), sort_keys=True).encode()
    return _hash_files({**files, "variables": variables, "target": target.encode()})


def parse_project(settings: Settings) -> bytes:
    """Return dbt's manifest of the project as JSON; what this process has parsed serves again.

    Raises
    ------
    TransformError
        If dbt can't parse the project.
    """
    project = install_dbt_project(settings)
    path = settings.paths.dbt_target / "manifest.json"
    known = _parsed.get(_project_key(settings, project))
    if known is None:
        run_dbt(settings, ["parse"], parse_variables(settings))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        known.writable_manifest().write(str(path))
    return path.read_bytes()


def parse_variables(settings: Settings) -> dict[str, Any]:
    """Return variables under which the project is parsed, for whatever run."""
    return {
        **_constant_variables(settings),
        "horizons": list(settings.value.horizons),
        "auxiliary_horizons": list(settings.value.auxiliary_horizons),
        **_RUN_VARIABLES,
    }


def _quiet_options(arguments: Sequence[str]) -> list[str]:
    options = ["--log-level", "none", "--log-level-file", "info", "--no-print"]
    if arguments[0] in ("build", "compile"):
        # Writing the manifest anew takes longer than a stage of a small shop.
        options.append("--no-write-json")
    if arguments[0] == "build" and "--resource-type" not in arguments:
        options += ["--exclude-resource-type", "unit_test"]
    return options


def _constant_variables(settings: Settings) -> dict[str, Any]:
    transactions = settings.inputs.get("transactions")
    default_grain = InputSettings.model_fields["grain"].default
    return {
        "time_zone": settings.project.time_zone,
        "reporting_currency": settings.project.reporting_currency,
        "value_definition": settings.value.definition,
        "transaction_grain": transactions.grain if transactions else default_grain,
        "text_scorer": settings.texts.scorer,
    }


def _project_files(
    source: Path, settings: Settings, horizons: Sequence[int] | None = None
) -> dict[str, bytes]:
    """Return every file of the project as it is to be installed, by its path in the project."""
    paths, states = _find_project_files(source)
    chosen = settings.value.horizons if horizons is None else horizons
    return dict(_read_project(source, paths, states, tuple(chosen)))


def _find_project_files(
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


def _hash_files(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _close_connections() -> None:
    # dbt keeps the database open for the life of the process; nobody else could open it then.
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.adapters.factory import FACTORY

    factory: Any = FACTORY
    manager: Any = DuckDBConnectionManager
    for adapter in factory.adapters.values():
        adapter.cleanup_connections()
    factory.reset_adapters()
    if manager._ENV is not None:
        manager._ENV.close()
    manager.close_all_connections()


def _close_logs() -> None:
    # dbt forgets its log files without closing them.
    from dbt_common.events.event_manager_client import cleanup_event_logger, get_event_manager

    manager: Any = get_event_manager()
    for logger in manager.loggers:
        for handler in getattr(getattr(logger, "_python_logger", None), "handlers", ()):
            if isinstance(handler, logging.FileHandler):
                handler.close()
    cleanup_event_logger()


def _read_results(outcome: Any) -> tuple[NodeResult, ...]:
    found = getattr(outcome.result, "results", None) or ()
    return tuple(
        NodeResult(
            result.node.unique_id,
            getattr(result.node, "relation_name", None),
            str(result.status),
            float(result.execution_time),
            int(result.failures or 0),
            result.message or None,
        )
        for result in found
        if hasattr(result, "node")
    )


def _explain_failure(arguments: Sequence[str], outcome: Any, settings: Settings) -> str:
    failed = []
    for result in getattr(outcome.result, "results", None) or ():
        if str(result.status) in ("error", "fail", "runtime error"):
            message = " ".join(str(result.message or "").split())
            failed.append(f"{result.node.resource_type} {result.node.name}: {message}")
    if not failed:
        failed = [" ".join(str(outcome.exception or "no reason was given").split())]
    return (
        f"dbt {arguments[0]} failed. {' | '.join(failed)} "
        f"(The whole log is in {settings.paths.dbt_target / 'logs'}.)"
    )
