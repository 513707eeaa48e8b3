"""The code location as Dagster loads it: its graph, its jobs, and how it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from clv_pipeline.orchestration.code_location import build_definitions, build_placeholder
from clv_pipeline.orchestration.commands import WORKSPACE
from clv_pipeline.orchestration.common import OWNER
from clv_pipeline.orchestration.model_assets import ChallengerConfig
from clv_pipeline.settings import Settings, load_settings
from tests.orchestration.support import environment

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("asset_graph.json")


@pytest.fixture(scope="module")
def definitions(trained_folder: Path) -> dg.Definitions:
    return build_definitions(load_settings(trained_folder))


def describe_graph(definitions: dg.Definitions) -> dict[str, Any]:
    """Write the graph down: groups, what each asset waits for, what each job runs."""
    graph = definitions.resolve_asset_graph()
    assets = {
        key.to_user_string(): {
            "group": graph.get(key).group_name,
            "after": sorted(k.to_user_string() for k in graph.get(key).parent_keys),
        }
        for key in sorted(graph.materializable_asset_keys)
    }
    gates = sorted(
        f"{key.asset_key.to_user_string()}: {key.name}"
        for key in graph.asset_check_keys
        if key.name.endswith("_gate")
    )
    jobs = {}
    for name in ("daily_scoring", "training"):
        layer = definitions.resolve_job_def(name).asset_layer
        jobs[name] = sorted(key.to_user_string() for key in layer.selected_asset_keys)
    return {"assets": assets, "gates": gates, "jobs": jobs}


def test_the_asset_graph_is_what_was_agreed(definitions: dg.Definitions) -> None:
    # Where a change is meant: python -m tests.orchestration.write_asset_graph
    assert describe_graph(definitions) == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_every_asset_says_what_it_is_and_who_answers(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        name = key.to_user_string()
        assert node.description, name
        assert node.owners == [OWNER], name
        assert node.kinds, name
        assert node.group_name and node.group_name != "default", name
        assert node.partitions_def is not None, name
        assert node.backfill_policy == dg.BackfillPolicy.multi_run(1), name
        assert node.pools == {"warehouse"}, name


def test_passing_faults_are_tried_again(definitions: dg.Definitions) -> None:
    for job in ("daily_scoring", "training"):
        for node in definitions.resolve_job_def(job).nodes:
            policy = node.definition.retry_policy  # type: ignore[attr-defined]
            assert policy is not None, node.name
            assert policy.max_retries == 2


def test_gates_stand_between_the_stages(definitions: dg.Definitions) -> None:
    """What depends on a gated asset waits for the gate, in Dagster's own plan."""
    from dagster._core.execution.api import create_execution_plan

    plan = create_execution_plan(definitions.resolve_job_def("daily_scoring"))
    waits = plan.get_all_step_deps()

    def waits_for(step: str) -> set[str]:
        found: set[str] = set()
        todo = [step]
        while todo:
            for earlier in waits[todo.pop()]:
                if earlier not in found:
                    found.add(earlier)
                    todo.append(earlier)
        return found

    gates = {
        step: next(s for s in waits if s.endswith(f"_{step}_gate"))
        for step in ("raw", "staging", "as_of", "features", "predictions")
    }
    assert gates["raw"] in waits_for("dbt_staging")
    assert gates["staging"] in waits_for("dbt_as_of")
    assert {gates["as_of"], gates["features"]} <= waits_for("scores__customer_predictions")
    assert gates["predictions"] in waits_for("scores__customer_standing")
    assert set(gates.values()) <= waits_for("published_tables")


def test_the_launchpad_refuses_what_is_out_of_range(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("training")
    good = {"ops": {"challenger_model": {"config": {"clusters": 4}}}}
    assert dg.validate_run_config(job, good)
    for wrong in ({"clusters": "many"}, {"colour": "red"}, {"candidates": "all"}):
        with pytest.raises(dg.DagsterInvalidConfigError):
            dg.validate_run_config(job, {"ops": {"challenger_model": {"config": wrong}}})
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job, {"ops": {"dbt_as_of": {"config": {"purpose": "fun"}}}})
    # Ranges are looked at when the step begins: Dagster's own schema knows types alone.
    for field, value in (("clusters", 1), ("clusters", 21), ("trees", 0), ("seed", -1)):
        with pytest.raises(ValueError, match=field):
            ChallengerConfig.model_validate({field: value})


@pytest.mark.slow
def test_definitions_validate_with_the_workspace(project: Settings) -> None:
    result = subprocess.run(
        [
            str(Path(sys.executable).parent / "dagster"),
            "definitions",
            "validate",
            "-w",
            str(ROOT / "workspace.yaml"),
        ],
        env=environment(project) | {"DAGSTER_HOME": str(project.root)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Validation successful" in result.stdout + result.stderr


def test_clv_dev_serves_the_same_workspace_from_any_folder() -> None:
    assert yaml.safe_load(WORKSPACE) == yaml.safe_load((ROOT / "workspace.yaml").read_text())


def test_without_clv_toml_the_location_loads_and_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "import clv_pipeline.definitions as d\n"
        "graph = d.defs.resolve_asset_graph()\n"
        "print([graph.get(k).description for k in graph.materializable_asset_keys])\n"
    )
    free = {name: value for name, value in os.environ.items() if not name.startswith("CLV_")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=free,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "clv init" in result.stdout
    assert str(tmp_path) in result.stdout


def test_the_placeholder_fails_with_the_reason() -> None:
    definitions = build_placeholder("Write a clv.toml.")
    with dg.instance_for_test() as instance:
        assets = list(definitions.assets or [])
        result = dg.materialize(assets, instance=instance, raise_on_error=False)
    assert not result.success


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, clv_pipeline.orchestration.code_location\n"
        "heavy = {'xgboost', 'great_expectations', 'matplotlib', 'sklearn', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
