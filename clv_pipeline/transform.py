"""dbt: run the stages of the installed project in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from clv_pipeline.dbt_process import (
    NodeResult,
    SliceTeller,
    TransformError,
    close_connections,
    close_logs,
    environment_of,
    explain_failure,
    quiet_options,
    read_results,
)
from clv_pipeline.dbt_project import (
    PARSED_UNDER,
    constant_variables,
    dbt_environment,
    dbt_variables,
    definition_files,
    find_project_files,
    hash_files,
    install_dbt_project,
    packaged_dbt_project,
    parse_variables,
)
from clv_pipeline.dbt_yaml import SOURCES
from clv_pipeline.engines.building import DUCKDB, finish_engine, prepare_engine, split_by_engine
from clv_pipeline.engines.lake import drop_lake
from clv_pipeline.engines.session import EngineError
from clv_pipeline.ingest.fingerprints import prepare_fingerprints
from clv_pipeline.reuse import STEPS, claim_step, forget_steps, note_step
from clv_pipeline.settings import Settings
from clv_pipeline.signals import prepare_holidays, prepare_texts
from clv_pipeline.tables import create_tables
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse

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
# What this process has parsed, newest last: dbt's manifest, by the project's content and variables.
_parsed: dict[str, Any] = {}
_MOST_PARSED = 4


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


def prepare_sources(settings: Settings) -> None:
    """Make every table that dbt reads exist and drop what was derived under another definition.

    Public holidays and scores of texts are added for what has landed since the last time.

    Time zone, reporting currency, the definition of value and the SQL itself decide what derived
    rows mean. When one of them changed since they were built, rows of both kinds would mix; so they
    are dropped, and the next build makes them again from ``raw``. So they are when a file was read
    anew under other settings: its rows have the same numbers and another content.
    """
    constants = constant_variables(settings)
    if settings.engine.name != "duckdb":
        constants["engine"] = settings.engine.name
    definition = hash_files(
        {
            **definition_files(packaged_dbt_project()),
            "variables": json.dumps(constants, sort_keys=True).encode(),
        }
    )
    with open_warehouse(settings) as connection:
        for schema, tables in SOURCES.items():
            create_tables(connection, schema, tables)
        prepare_fingerprints(connection)
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


def run_dbt(
    settings: Settings,
    arguments: Sequence[str],
    variables: Mapping[str, Any],
    tell: Callable[[str], object] | None = None,
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
    tell
        Told a sentence on how far it has come, where that takes long.

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
        outcome = _invoke(settings, part, variables, target, tell)
        results += read_results(outcome)
        if not outcome.success:
            raise TransformError(explain_failure(arguments, outcome, settings), results)
    return results


def build_step(
    settings: Settings,
    step: str,
    variables: Mapping[str, Any],
    tell: Callable[[str], object] | None = None,
) -> tuple[tuple[NodeResult, ...], str | None]:
    """Build and test all models of a step, unless they stand as they would be built.

    Parameters
    ----------
    step
        A key of `clv_pipeline.reuse.STEPS`.
    variables
        From `dbt_variables`.
    tell
        Told a sentence on how far it has come, where that takes long.

    Returns
    -------
    tuple
        What became of each model and test, and the run that built them; None if this call did.

    Raises
    ------
    TransformError
        Naming each model or test that failed, and why.
    """
    install_dbt_project(settings)
    prepare_sources(settings)
    claim = claim_step(settings, step, variables)
    if claim.results is not None:
        return claim.results, claim.built_by
    selectors = [STAGES[stage] for stage in STEPS[step]]
    results = run_dbt(settings, ["build", "--select", *selectors], variables, tell)
    note_step(settings, claim, results, str(variables["run_id"]))
    return results, None


def _rewritten_steps(arguments: Sequence[str]) -> list[str]:
    """Name the steps whose tables a dbt command may write."""
    if arguments[0] not in ("build", "run", "seed", "snapshot", "retry", "clone"):
        return []
    models = packaged_dbt_project() / "models"
    selected = [part for part in arguments[1:] if not part.startswith("-")]
    stages = {selector: stage for stage, selector in STAGES.items()}
    stages |= {path.stem: path.parent.name for path in models.glob("*/*.sql")}
    if not selected or not stages.keys() >= set(selected):
        return list(STEPS)
    return [step for step, parts in STEPS.items() if {stages[s] for s in selected} & {*parts}]


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
        raise TransformError(explain_failure(arguments, outcome, settings))
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
    tell: Callable[[str], object] | None = None,
) -> Any:
    # Imported late: it takes a second that most commands need not wait for.
    from dbt.cli.main import dbtRunner

    project = install_dbt_project(settings)
    if arguments[0] != "parse":  # parsing must work while a run holds the warehouse
        prepare_sources(settings)
        forget_steps(settings, _rewritten_steps(arguments), variables)
    command = _command(arguments, project, variables, target)
    try:
        engine = prepare_engine(settings, target)
    except EngineError as error:
        raise TransformError(str(error)) from error
    parses = list(arguments) == ["parse"]
    environment = dbt_environment(settings, target)
    with environment_of(environment | PARSED_UNDER if parses else environment):
        try:
            manifest = None
            builds = arguments[0] == "build" and "--resource-type" not in arguments
            if builds or arguments[0] == "compile":
                manifest = _parse_once(settings, project, target)
            hears: list[Callable[[Any], None]] = [] if tell is None else [SliceTeller(tell)]
            outcome = dbtRunner(manifest, callbacks=hears).invoke(command)
            if parses and outcome.success:
                _keep_parsed(_project_key(settings, project, target), outcome.result)
        finally:
            close_connections()
            close_logs()
    built = [r.relation for r in read_results(outcome) if r.relation and r.status == "success"]
    finish_engine(engine, settings, built)
    return outcome


def _command(
    arguments: Sequence[str], project: Path, variables: Mapping[str, Any], target: str
) -> list[str]:
    return [
        *arguments,
        *quiet_options(arguments),
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
            with environment_of(PARSED_UNDER):
                _keep_parsed(key, dbtRunner().invoke(command).result)
        finally:
            close_logs()  # the command that follows opens them anew
    return _parsed.get(key)


def _keep_parsed(key: str, manifest: Any) -> None:
    if manifest is not None:
        _parsed[key] = manifest
        while len(_parsed) > _MOST_PARSED:
            del _parsed[next(iter(_parsed))]


def _project_key(settings: Settings, project: Path, target: str = DUCKDB) -> str:
    # What lies there counts, not what was installed: a model may have been edited in place. Homes
    # with the same content share what was parsed, for nothing in it depends on the folder.
    files = {str(p.relative_to(project)): p.read_bytes() for p in find_project_files(project)[0]}
    variables = json.dumps(parse_variables(settings), sort_keys=True).encode()
    return hash_files({**files, "variables": variables, "target": target.encode()})


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
