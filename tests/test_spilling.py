from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import duckdb
import pytest

from clv_pipeline import spilling
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.warehouse import WarehouseError, open_warehouse

Usage = namedtuple("Usage", "total used free")


def small(root: Path, **engine: object) -> Settings:
    return build_settings(root, {"engine": {"memory_limit": "60MB", "threads": 1, **engine}})


def test_what_does_not_fit_into_memory_goes_to_the_folder_of_the_process(tmp_path: Path) -> None:
    settings = small(tmp_path)
    folder = spilling.spill_folder(settings)
    query = "CREATE TEMP TABLE spilled AS SELECT range AS n, hash(range) AS h FROM range(9000000)"
    with open_warehouse(settings) as connection:
        connection.execute(query)
        assert sum(file.stat().st_size for file in folder.iterdir()) > 2**20
    assert not folder.exists() or not list(folder.iterdir())


def test_spilling_ends_at_its_limit_with_a_sentence(tmp_path: Path) -> None:
    settings = small(tmp_path, spill_limit="1MB")
    query = "CREATE TEMP TABLE spilled AS SELECT md5(range::VARCHAR) AS text FROM range(3000000)"
    with (
        open_warehouse(settings) as connection,
        pytest.raises(duckdb.OutOfMemoryException, match="max_temp_directory_size"),
    ):
        connection.execute(query)


def test_leftovers_of_killed_processes_are_removed_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tmp_path)
    dead, alive = settings.paths.spill / "4194301", settings.paths.spill / "4194302"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"left")
    monkeypatch.setattr(spilling, "_is_alive", lambda process: process != 4194301)
    with open_warehouse(settings):
        pass
    assert not dead.exists()
    assert alive.exists()


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 5 * 2**20))
    says = r"Only 5 MiB are free on the disk of .* larger disk"
    with pytest.raises(WarehouseError, match=says), open_warehouse(settings):
        pass
