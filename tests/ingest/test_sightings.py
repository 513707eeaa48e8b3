"""A file that has not changed is not read again; one that has is, however it hides it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clv_pipeline.ingest import landing, sightings
from tests.ingest.conftest import ROWS, Shop, as_csv

TOTAL = "SELECT count(*), sum(amount) FROM raw.transactions"


@pytest.fixture
def read_paths(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read, filled as they are; nothing changed within a tick."""
    names: list[str] = []
    look_at, now = landing.look_at, time.time_ns

    def look(root: Path, file: Path, *arguments: object) -> object:
        names.append(file.name)
        return look_at(root, file, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(landing, "look_at", look)
    monkeypatch.setattr(time, "time_ns", lambda: now() + 4_000_000_000)
    return names


def rows_and_read(shop: Shop, names: list[str]) -> tuple[object, list[str]]:
    names.clear()
    shop.land()
    return shop.query(TOTAL)[0], sorted(names)


def test_what_has_landed_is_not_read_again(shop: Shop, read_paths: list[str]) -> None:
    shop.inputs["transactions"]["files"] = ["*.csv"]
    shop.write("a.csv", as_csv(ROWS))
    first, names = rows_and_read(shop, read_paths)
    assert names == ["a.csv"]
    assert rows_and_read(shop, read_paths) == (first, [])
    # The night's file is read; a copy under another name is found out and counted once.
    shop.write("b.csv", as_csv(ROWS))
    assert rows_and_read(shop, read_paths) == (first, ["b.csv"])
    assert shop.query("SELECT kind FROM ops.landing_warnings") == [("duplicate_file",)]
    assert rows_and_read(shop, read_paths) == (first, [])
    assert shop.query("SELECT kind FROM ops.landing_warnings") == [("duplicate_file",)]


def hide_in_place(path: Path) -> None:
    """Change an amount; length, inode and the time of the change stay what they were."""
    before = path.stat()
    with path.open("r+b") as stream:
        content = stream.read()
        stream.seek(0)
        stream.write(content.replace(b"20.50", b"90.50"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def hide_by_renaming(path: Path) -> None:
    """Put another file of the same length and time in its place."""
    before = path.stat()
    other = path.with_suffix(".tmp")
    other.write_bytes(path.read_bytes().replace(b"20.50", b"90.50"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("hide", [hide_in_place, hide_by_renaming])
def test_a_change_that_keeps_length_and_time_is_seen(
    shop: Shop, read_paths: list[str], hide: Callable[[Path], None]
) -> None:
    path = shop.write("a.csv", as_csv(ROWS))
    assert "20.50" in path.read_text()
    (count, amount), _ = rows_and_read(shop, read_paths)  # type: ignore[misc]
    shop.inputs["transactions"]["when_changed"] = "replace"
    hide(path)
    found, names = rows_and_read(shop, read_paths)
    assert names == ["a.csv"]
    assert found == (count, amount + 70)


def test_a_file_that_changed_as_it_was_read_is_read_again(
    shop: Shop, read_paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write("a.csv", as_csv(ROWS))
    monkeypatch.setattr(sightings, "TICK_NS", 10**18)
    assert rows_and_read(shop, read_paths)[1] == ["a.csv"]
    assert rows_and_read(shop, read_paths)[1] == ["a.csv"]


def test_other_settings_read_a_known_file_again(shop: Shop, read_paths: list[str]) -> None:
    shop.write("a.csv", as_csv(ROWS))
    shop.land()
    shop.inputs["transactions"]["negative_amounts"] = "quarantine"
    assert rows_and_read(shop, read_paths)[1] == ["a.csv"]
