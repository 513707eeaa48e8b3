from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clv_pipeline.features.registry import RegistryError, load_features, model_inputs
from clv_pipeline.transform import packaged_dbt_project

RFM = "models/features/feat_rfm.yml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(packaged_dbt_project() / "models", tmp_path / "models")
    return tmp_path


def replace(project: Path, old: str, new: str) -> None:
    path = project / RFM
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_every_feature_says_what_it_is() -> None:
    features = load_features()
    names = [feature.name for feature in features]
    assert len(names) == len(set(names)) >= 60
    assert {"frequency", "recency", "T", "monetary_value", "count_order_days"} <= set(names)
    for feature in features:
        assert feature.description.endswith("."), feature.name
        assert (
            feature.minimum is None
            or feature.maximum is None
            or (feature.minimum <= feature.maximum)
        )
        assert (feature.kind == "categorical") == (feature.data_type == "varchar")


def test_windows_are_written_out_as_numbers() -> None:
    feature = next(f for f in load_features() if f.name == "count_orders_90d")
    assert feature.window_days == 90
    assert feature.view == "feat_windows"
    assert feature.description == "Orders in the last 90 days."


def test_protected_features_are_no_model_inputs() -> None:
    features = load_features()
    protected = {feature.name for feature in features if "protected" in feature.tags}
    assert protected == {"gender", "age_band"}
    assert not protected & {feature.name for feature in model_inputs(features)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: numeric, min: 0", "kind: amount, min: 0", "'frequency' needs a kind"),
        ("kind: numeric, min: 0", "kind: numeric, minimum: 0", "has the key 'minimum'"),
        ("kind: numeric, min: 0", "kind: numeric, tags: [protected]", "needs `input: false`"),
        ("- name: frequency", "- name: count_orders_7d", "is a feature of"),
    ],
)
def test_an_entry_that_can_not_be_is_refused(
    project: Path, old: str, new: str, message: str
) -> None:
    replace(project, old, new)
    with pytest.raises(RegistryError, match=message):
        load_features(project)
