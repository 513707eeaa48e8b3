"""The gates on the bundled data as dbt builds them, and a model of dbt that peeks."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pytest

from clv_pipeline.dbt_project import install_dbt_project
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages, prepare_sources
from data_quality.gates import Gate, record_results, run_gate

CUTOFF = Cutoff.parse("1998-03-31")
TRAINING = Cutoff.parse("1997-12-31")
PEEKING_DAYS = """
    select
        cutoffs.cutoff_date, days.user_id as customer_id, days.activity_date,
        sum(days.delta_count_orders) as count_orders, sum(days.delta_value) as value,
        sum(days.delta_refunds) as refunds
    from {{ ref('int_customer_days') }} as days
    inner join ({{ cutoffs() }}) as cutoffs on days.activity_date <= cutoffs.cutoff_date + 7
    group by 1, 2, 3
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cdnow(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("cdnow")
    bundled = Path(str(resources.files("clv_pipeline.datasets")))
    (root / "data").mkdir()
    shutil.copy(bundled / "cdnow.csv.gz", root / "data" / "cdnow.csv.gz")
    shutil.copy(bundled / "cdnow.toml", root / "clv.toml")
    settings = load_settings(root)
    land_inputs(settings, "run 1")
    install_dbt_project(settings)
    prepare_sources(settings)
    build_stages(settings, (TRAINING, CUTOFF), CUTOFF, "run 1")
    return settings


@pytest.mark.parametrize("gate", ["raw", "staging", "as_of", "features"])
def test_bundled_data_pass(cdnow: Settings, gate: Gate) -> None:
    report = run_gate(cdnow, gate, CUTOFF, "run 1")
    broken = report.results[~report.results["is_passed"]]
    assert broken.empty, broken[["check_name", "message"]].to_string()
    assert record_results(cdnow, report) == len(report.results)


def test_model_that_peeks_is_caught(cdnow: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One feature view sees a week too much; dbt's own tests of the as-of tables hold."""
    model = cdnow.paths.dbt_project / "models" / "features" / "feat_windows.sql"
    sound = model.read_text(encoding="utf-8")
    peeking = sound.replace("{{ days_at_cutoffs(windows | max) }}", PEEKING_DAYS)
    assert peeking != sound
    model.write_text(peeking, encoding="utf-8")
    # What is installed is run as it is.
    monkeypatch.setattr("clv_pipeline.transform.install_dbt_project", lambda _: model.parents[2])
    build_stages(cdnow, (CUTOFF,), CUTOFF, "run 2", ("features",))
    report = run_gate(cdnow, "as_of", CUTOFF, "run 2")
    assert not report.is_passed
    assert "features of a sample differ from what the landed rows say as known at the cutoff" in (
        report.sentence
    )
    failed = set(report.results.loc[~report.results["is_passed"], "check_name"])
    assert failed == {"no_peeking"}
