from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clv_pipeline.settings import Settings
from data_quality.gates import Gate, run_gate
from data_quality.results import GateReport
from tests.data_quality.quality_shop import (
    CUTOFF,
    RunGate,
    build_shop,
    make_settings,
    publish_shop,
    write_registry,
)
from tests.support import build_once


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean shop, built once; each test spoils a copy."""

    def build(root: Path) -> None:
        settings = make_settings(root)
        build_shop(settings)
        write_registry(settings)
        publish_shop(settings, root / "candidate" / "clv.duckdb")

    return build_once(tmp_path_factory, "clean_shop", build)


@pytest.fixture
def shop(template: Path, tmp_path: Path) -> Settings:
    root = tmp_path / "shop"
    shutil.copytree(template, root)
    return make_settings(root)


@pytest.fixture
def candidate(shop: Settings) -> Path:
    return shop.root / "candidate" / "clv.duckdb"


@pytest.fixture
def check(shop: Settings, candidate: Path) -> RunGate:
    """Run a gate on the test's shop, as the run that landed its second file."""

    def run(gate: Gate) -> GateReport:
        database = candidate if gate == "published" else None
        return run_gate(shop, gate, CUTOFF, "run 2", database)

    return run
