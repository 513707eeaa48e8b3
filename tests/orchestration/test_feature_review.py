"""What features bring and cost, on a project that was trained; and what of them is published."""

from __future__ import annotations

import pandas as pd
import pytest
from click.testing import CliRunner

from clv_pipeline import cli
from clv_pipeline.features.registry import load_features
from clv_pipeline.features.services import find_service
from clv_pipeline.models import store
from clv_pipeline.orchestration.feature_review import (
    Review,
    ReviewError,
    list_features,
    review_features,
)
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from tests.orchestration.support import query_warehouse, read_published


def test_features_are_reviewed_on_what_no_model_had_seen(trained: Settings) -> None:
    folder = trained.paths.models
    manifest = store.read_manifest(folder, str(store.champion_version(folder)))
    service = find_service(trained)
    assert manifest["feature_service"] == manifest["recipe"]["feature_service"] == service.name
    assert set(manifest["recipe"]["features"]) == {feature.name for feature in service.inputs}

    before = query_warehouse(trained, "SELECT count(*) FROM features.customer_features")
    review = review_features(trained)
    assert query_warehouse(trained, "SELECT count(*) FROM features.customer_features") == before
    assert review.service == service.name
    as_of, horizon = Cutoff.parse(manifest["as_of"]), review.horizon_days
    assert review.evaluation.is_matured(horizon, as_of.day)
    assert sorted(review.features["name"]) == sorted(feature.name for feature in service.inputs)
    assert set(review.views["name"]) == {feature.view for feature in service.inputs}
    assert (review.views["seconds"] > 0).all()
    # The shop has no texts and no events: their views cost time and bring nothing.
    silent = review.views.set_index("name").loc[["feat_text", "feat_campaigns"], "loss"]
    assert silent.tolist() == [0, 0]
    useless = review.useless
    assert set(useless.loc[useless["view"] == "feat_text", "drop"]) == {"the view"}
    assert review.views.set_index("name").loc["feat_rfm", "loss"] > 0

    published = read_published(trained, "feature_registry")
    assert sorted(published["feature_name"]) == sorted(f.name for f in load_features())
    health = read_published(trained, "feature_health")
    assert set(health["feature"]) == set(published["feature_name"])
    listed = list_features(trained).set_index("feature")
    assert listed.loc["mean_sentiment", "null_share"] == 1
    assert listed.loc["frequency", ["null_share", "owner"]].tolist() == [0, "customer-analytics"]


def test_a_review_needs_a_champion(project: Settings) -> None:
    with pytest.raises(ReviewError, match="no champion yet: run `clv train` first"):
        review_features(project)


def test_features_are_listed_before_anything_has_run(project: Settings) -> None:
    result = CliRunner().invoke(cli.cli, ["features", "list", "--config", str(project.root)])
    assert result.exit_code == 0, result.output
    assert "mean_sentiment" in result.output
    assert "customer-analytics" in result.output


def test_a_view_is_useless_only_when_all_of_it_is() -> None:
    features = pd.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "view": ["one", "one", "two", "two"],
            "loss": [0.0, 0.0, 0.0, 0.1],
            "spread": 0.0,
            "is_useful": [False, False, False, True],
            "seconds": [2.0, 2.0, 9.0, 9.0],
        }
    )
    views = pd.DataFrame({"name": ["one", "two"], "is_useful": [False, True]})
    found = Review(30, Cutoff.parse("2024-01-31"), "value_v1", views, features).useless
    assert found["name"].tolist() == ["a", "b", "c"]
    assert found["drop"].tolist() == ["the view", "the view", "the feature"]
