"""Rows that are kept are built anew when what decides them changed, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clv_pipeline.dbt_project import definition_files, packaged_dbt_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(packaged_dbt_project(), tmp_path / "dbt_project"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("models/features/feat_rfm.sql", "select", "select distinct"),
        ("models/staging/stg_users.sql", "select", "select distinct"),
        ("macros/as_of.sql", "<=", "<"),
        ("models/features/feat_windows.yml", "data_type: double", "data_type: float"),
        ("dbt_project.yml", "+materialized: incremental", "+materialized: table"),
        ("dbt_project.yml", "append_new_columns", "ignore"),
    ],
)
def test_what_decides_rows_is_part_of_it(project: Path, name: str, old: str, new: str) -> None:
    before = definition_files(project)
    edit(project / name, old, new)
    assert definition_files(project) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("models/features/feat_windows.yml", "description: ", "description: Rather "),
        ("models/staging/staging.yml", "description: '", "description: 'Rather "),
        ("models/marts/clv_totals.sql", "select", "select distinct"),
        ("tests/generic/{}", "select", "select distinct"),
    ],
)
def test_words_tests_and_publications_are_not(project: Path, name: str, old: str, new: str) -> None:
    before = definition_files(project)
    generic = sorted(file.name for file in (project / "tests" / "generic").glob("*.sql"))
    edit(project / name.format(generic[0]), old, new)
    assert definition_files(project) == before
