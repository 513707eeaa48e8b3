"""What every room's tests share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from clv_pipeline.settings import Settings, build_settings

# Files that take minutes: they begin first, so that no worker is left with one at the end.
LONGEST_FIRST = (
    "test_end_to_end.py",
    "test_live.py",
    "test_runs.py",
    "test_wheel.py",
    "test_simulated_shop.py",
    "test_code_location.py",
    "test_invariants_real.py",
    "test_feast.py",
    "test_project.py",
    "test_against_oracle.py",
    "test_incremental_days.py",
    "test_training.py",
    "test_gates_cdnow.py",
    "test_reuse.py",
    "test_training_gaps.py",
    "test_search.py",
)
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# A worker of pytest-xdist runs no file. PySpark, which Great Expectations imports where it finds
# it, takes a process whose main module has neither a file nor a spec for its own doctests, and ends
# it. (A file would be run again by every process that multiprocessing starts; a spec is not.)
_MAIN = sys.modules["__main__"]
if _MAIN.__spec__ is None and not hasattr(_MAIN, "__file__"):
    _MAIN.__spec__ = ModuleSpec("__main__", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    place = {name: k for k, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Make settings whose home lies in the test's own folder."""

    def make(**sections: Any) -> Settings:
        return build_settings(tmp_path, sections)

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public data sets, where they lie beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the public data sets do not lie beside this checkout")
    return SHARED_DATA
