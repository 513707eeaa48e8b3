"""The README's example of a new feature, carried out to the letter on a copy of the project."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from clv_pipeline import dbt_project, transform
from clv_pipeline.documentation import describe_features
from clv_pipeline.features.registry import load_features, online_schema
from clv_pipeline.features.services import find_service
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame
from data_quality.suites import features as suites
from data_quality.suites.run import Run
from tests.features.building import build_features
from tests.support import fill_raw

ROOT = Path(__file__).resolve().parents[2]
NAME = "best_day_share"
D = Cutoff.parse("2024-01-31")
ORDERS = pd.DataFrame(
    {
        "user_id": ["a", "a", "b"],
        "ts": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-02"]),
        "amount": [10.0, 30.0, 0.0],
    }
)


def snippet(what: str) -> str:
    """Return what the README says to write."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- a feature: {what} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found is not None, what
    return found.group(1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the dbt project with one more column and one more entry."""
    project = tmp_path / "dbt_project"
    shutil.copytree(dbt_project.packaged_dbt_project(), project)
    for module in (dbt_project, transform):
        monkeypatch.setattr(module, "packaged_dbt_project", lambda: project)
    folder = project / "models" / "features"
    for file, before, what in (
        ("feat_rfm.sql", "    max_order_day_value,\n", "the column"),
        ("feat_rfm.yml", "      - name: std_days_between_orders\n", "the entry"),
    ):
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count(before) == 1
        (folder / file).write_text(text.replace(before, snippet(what) + before), encoding="utf-8")
    return project


def test_a_feature_takes_one_column_and_one_entry(project: Path, settings: Settings) -> None:
    fill_raw(settings, {"transactions": ORDERS})
    build_features(settings, [D], D, "feature_registry")

    features = {feature.name: feature for feature in load_features(project)}
    assert set(features) - {feature.name for feature in load_features(ROOT / "dbt_project")} == {
        NAME
    }
    added = features[NAME]
    assert (added.view, added.owner, added.version) == ("feat_rfm", "customer-analytics", 1)

    with open_warehouse(settings, read_only=True) as connection:
        table = read_frame(connection, "SELECT * FROM features.customer_features ORDER BY 1")
        row = read_frame(
            connection, "SELECT * FROM clv.feature_registry WHERE feature_name = ?", [NAME]
        )
    assert table[NAME].tolist()[:1] == [0.75]
    assert pd.isna(table[NAME].iloc[1])
    assert row["description"].tolist() == [added.description]
    assert row["is_model_input"].tolist() == [True]

    service = find_service(settings)  # reads the installed project
    assert NAME in [feature.name for feature in service.inputs]
    assert NAME in Encoder.fit(table, service.inputs).names
    assert online_schema(service.features)[NAME] == "double"
    rules = suites.values(Run(settings, D, "run", frozenset()), tuple(features.values())).rules
    assert [rule.name for rule in rules if rule.column == NAME] == ["in_range"]
    assert f"`{NAME}`" in describe_features(project)
