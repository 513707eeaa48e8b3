"""The wheel alone, outside the checkout: dbt project, suites and settings travel with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow
# What is asked is whether all of it is there, not how well it learns.
QUICK = """\
[model]
trees = 10

[cadence]
training_cutoffs = 2
backtest_folds = 1
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return site


def run_clv(site: Path, folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "clv_pipeline.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("CLV_CONFIG", None)
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_init_doctor_and_run_work_in_any_folder(site: Path, tmp_path: Path) -> None:
    orders = pd.read_csv(ROOT / "clv_pipeline" / "datasets" / "cdnow.csv.gz", dtype=str)
    few = orders[orders["customer_id"].str.endswith("00")]
    few.to_csv(tmp_path / "orders.csv", index=False)

    run_clv(site, tmp_path, "init", "orders.csv")
    config = tmp_path / "clv.toml"
    text = config.read_text()
    horizons = next(line for line in text.splitlines() if line.startswith("horizons"))
    text = text.replace(horizons, "horizons = [60]")
    assert text.count("[cadence]\n") == 1
    config.write_text(text.replace("[cadence]\n", QUICK))

    assert "can carry a model" in run_clv(site, tmp_path, "doctor")
    run_clv(site, tmp_path, "run", "--cutoff", "1998-06-30")
    answer = run_clv(site, tmp_path, "sql", "--csv", "SELECT count(*) AS n FROM customer_clv")
    assert str(few["customer_id"].nunique()) in answer

    where = [sys.executable, "-c", "import clv_pipeline; print(clv_pipeline.__file__)"]
    found = subprocess.run(
        where,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(site)
    # All that the run wrote lies in the folder of clv.toml, and nothing beside the code.
    assert not list(site.rglob("target"))
    assert not list(site.rglob("*.duckdb"))
