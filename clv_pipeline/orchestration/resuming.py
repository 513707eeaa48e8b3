"""A run that was killed is gone on with: what it had finished is not done again.

A step that ends leaves its name and a fingerprint of everything that it depends on: the code, the
settings, the files that have landed. The next run of the same job for the same cutoff, with no
other run in between, takes a step with the same fingerprint as done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from clv_pipeline.dbt_project import packaged_dbt_project
from clv_pipeline.orchestration.ledger import FINISHED, RunRecord
from clv_pipeline.orchestration.project import Project
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import has_table, open_warehouse, replace_rows

Done = TypeVar("Done")
_LANDED = "SELECT file_id, input, sha256, settings_hash FROM ops.landed_files ORDER BY file_id"


def do_once(
    project: Project,
    step: str,
    do: Callable[[], Done],
    recall: Callable[[], Done],
    tell: Callable[[str], object],
) -> Done:
    """Do a step, or recall what it gave where the run that this one goes on with has done it.

    Parameters
    ----------
    project
        Names the run.
    step
        Its name; a run has one of each.
    do
        Does the work.
    recall
        Finds what the work has left.
    tell
        Told in a sentence that nothing was done again.
    """
    mark = fingerprint(project.settings)
    earlier = interrupted_run(project.settings, project.record)
    if earlier is not None and _has_finished(project.settings, earlier, step, mark):
        tell(f"Finished by run {earlier}, before it was interrupted.")
        found = recall()
    else:
        found = do()
    if project.record is not None:
        _note_finished(project.settings, project.record, step, mark)
    return found


def fingerprint(settings: Settings) -> str:
    """Return a hash of the code, the settings and the files that have landed."""
    with open_warehouse(settings) as connection:
        landed: list[Any] = []
        if has_table(connection, "ops", "landed_files"):
            landed = connection.execute(_LANDED).fetchall()
    parts = [_code_hash(), settings.model_dump_json(), json.dumps(landed, default=str)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def interrupted_run(settings: Settings, record: RunRecord | None) -> str | None:
    """Return the run that a run goes on with: the one before it, of the same job and cutoff."""
    if record is None or record.cutoff is None:
        return None
    with open_warehouse(settings, read_only=True) as connection:
        rows = connection.execute(
            "SELECT run_id, job, cutoff_date, status FROM ops.pipeline_runs WHERE run_id <> ? "
            "ORDER BY started_at DESC, job LIMIT 1",
            [record.run_id],
        ).fetchall()
    before = (record.job, record.cutoff.day, "interrupted")
    return rows[0][0] if rows and rows[0][1:] == before else None


def is_trained(settings: Settings, cutoff: Cutoff, training: str, scoring: str) -> str | None:
    """Return the training that a scoring followed which was interrupted; None without one."""
    if not settings.paths.warehouse.exists():
        return None
    with open_warehouse(settings) as connection:
        if not has_table(connection, "ops", "pipeline_runs"):
            return None
        rows = connection.execute(
            "SELECT run_id, job, cutoff_date, status FROM ops.pipeline_runs "
            "ORDER BY started_at DESC, job LIMIT 2"
        ).fetchall()
    wanted = [(scoring, cutoff.day, "interrupted"), (training, cutoff.day, "succeeded")]
    if [row[1:] for row in rows] != wanted:
        return None
    mark = fingerprint(settings)
    return rows[1][0] if _has_finished(settings, rows[1][0], "champion", mark) else None


def _has_finished(settings: Settings, run_id: str, step: str, mark: str) -> bool:
    with open_warehouse(settings, read_only=True) as connection:
        if not has_table(connection, *FINISHED.split(".")):
            return False
        query = f"SELECT 1 FROM {FINISHED} WHERE run_id = ? AND step = ? AND fingerprint = ?"
        return bool(connection.execute(query, [run_id, step, mark]).fetchall())


def _note_finished(settings: Settings, record: RunRecord, step: str, mark: str) -> None:
    row = {"run_id": record.run_id, "step": step, "fingerprint": mark}
    with open_warehouse(settings) as connection:
        replace_rows(
            connection,
            FINISHED,
            pa.Table.from_pylist([row]),
            {"run_id": record.run_id, "step": step},
        )


@cache
def _code_hash() -> str:
    """Return a hash of every source of the pipeline."""
    root = Path(__file__).resolve().parents[1]
    folders = {root: "*.py", root.with_name("data_quality"): "*.py", packaged_dbt_project(): "*"}
    digest = hashlib.sha256()
    for folder, pattern in folders.items():
        for path in sorted(folder.rglob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
