"""What every room's tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clv_pipeline.settings import Settings, build_settings

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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
