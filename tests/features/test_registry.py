from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pytest

from clv_pipeline.dbt_project import packaged_dbt_project
from clv_pipeline.features.registry import (
    RegistryError,
    load_features,
    model_inputs,
    require_registered,
)
from clv_pipeline.features.services import find_service, load_services
from clv_pipeline.models.clusters import BEHAVIOUR
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.history import HISTORY
from clv_pipeline.models.panel import ALWAYS_KEPT
from clv_pipeline.settings import Settings

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
        ("kind: numeric, min: 0", "kind: numeric, tags: [secret]", "has the tag 'secret'"),
        ("kind: numeric, min: 0", "kind: numeric, inputs: [weather]", "'weather', which is no"),
        ("owner: customer-analytics", "owner: ''", "needs its owner, in its entry or in the"),
        ("version: 1", "version: 0", "needs its version"),
        (
            "config: {meta: {feature: {kind: numeric, min: 0}}}",
            "config: {}",
            "'frequency' has no entry",
        ),
    ],
)
def test_an_entry_that_can_not_be_is_refused(
    project: Path, old: str, new: str, message: str
) -> None:
    replace(project, old, new)
    with pytest.raises(RegistryError, match=message):
        load_features(project)


def test_an_entry_may_say_otherwise_than_its_view(project: Path) -> None:
    replace(project, "kind: numeric, min: 0", "kind: numeric, min: 0, owner: finance, version: 3")
    features = {feature.name: feature for feature in load_features(project)}
    assert (features["frequency"].owner, features["frequency"].version) == ("finance", 3)
    assert (features["recency"].owner, features["recency"].version) == ("customer-analytics", 1)
    assert features["recency"].entity == "customer"
    assert features["recency"].inputs == ("transactions",)


def test_a_view_that_is_not_joined_is_refused(project: Path) -> None:
    joined = project / "models/features/customer_features.yml"
    joined.write_text(joined.read_text().replace("      - columns_of: feat_text", ""))
    with pytest.raises(RegistryError, match="customer_features lacks that view"):
        load_features(project)


def test_what_models_read_is_registered_and_served() -> None:
    """Every column that code names is a feature, and every model's service holds it."""
    features = load_features()
    by_code = {*ALWAYS_KEPT, *HISTORY, *BEHAVIOUR}
    require_registered(by_code, features)
    for name, service in load_services().items():
        if name.startswith("value_"):
            assert by_code <= set(service.feature_names), name
            assert {feature.name for feature in service.inputs} <= {
                feature.name for feature in model_inputs(features)
            }
    with pytest.raises(RegistryError, match="shoe_size: no such feature is registered"):
        require_registered(["shoe_size", "frequency"], features)


def test_the_encoder_reads_nothing_that_is_not_registered() -> None:
    frame = pd.DataFrame({"frequency": [1.0, 2.0], "gender": ["a", "b"], "shoe_size": [40, 41]})
    assert Encoder.fit(frame, load_features()).names == ("frequency",)


def test_services_are_versioned_sets(settings: Settings) -> None:
    services = load_services()
    assert {"value_v1", "value_v2"} <= set(services)
    assert set(services["value_v1"].feature_names) < set(services["value_v2"].feature_names)
    assert find_service(settings) == services[settings.features.service]
    assert services["value_v1"].fingerprint != services["value_v2"].fingerprint
    newer = tuple(dataclasses.replace(f, version=2) for f in services["value_v1"].features)
    changed = dataclasses.replace(services["value_v1"], features=newer)
    assert changed.fingerprint != services["value_v1"].fingerprint
    with pytest.raises(RegistryError, match="no feature service 'value_v77'; there are"):
        find_service(settings, "value_v77")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("      - country\n", "      - shoe_size\n", "names 'shoe_size', which is neither"),
        ("  - name: contact\n    version: 1", "  - name: value\n    version: 2", "is there twice"),
        ("    description: Every signal", "    why: Every signal", "needs description, features"),
    ],
)
def test_a_service_that_can_not_be_is_refused(
    project: Path, old: str, new: str, message: str
) -> None:
    file = project / "feature_services.yml"
    text = (packaged_dbt_project() / "feature_services.yml").read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(RegistryError, match=message):
        load_services(project)
