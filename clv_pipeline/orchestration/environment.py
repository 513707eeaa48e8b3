"""What a process needs around it before Dagster, dbt or a model runs in it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from clv_pipeline.settings import Settings

DAGSTER_YAML = Path(__file__).with_name("dagster.yaml")

# Idle OpenMP threads that spin slow XGBoost down twentyfold while other cores are busy.
_DEFAULTS = {
    "OMP_WAIT_POLICY": "passive",
    "MPLBACKEND": "Agg",
    "GX_ANALYTICS_ENABLED": "false",
    "DAGSTER_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
}


def prepare_environment(settings: Settings) -> None:
    """Set the variables of this process, and make the folder in which Dagster keeps its runs.

    Variables that are set already stay, except ``DAGSTER_HOME``: it belongs to the project.
    """
    prepare_process()
    home = settings.paths.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    if not (home / DAGSTER_YAML.name).exists():
        shutil.copyfile(DAGSTER_YAML, home / DAGSTER_YAML.name)
    os.environ["DAGSTER_HOME"] = str(home)


def prepare_process() -> None:
    """Set what does not depend on a project: quiet libraries, and this environment's programs."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    # sys.executable is not resolved: the link in a virtual environment lies beside its programs.
    programs = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "")
    if path.split(os.pathsep)[0] != programs:
        os.environ["PATH"] = os.pathsep.join(part for part in (programs, path) if part)
