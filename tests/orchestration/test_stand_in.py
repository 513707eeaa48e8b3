"""A night on which no model can be read: something answers, says what it is, and why."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from clv_pipeline.models import store
from clv_pipeline.orchestration import commands, serving
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from tests.orchestration.conftest import yesterday


@pytest.mark.parametrize("damage", ["no model was ever trained", "no model can be read"])
def test_a_night_without_a_model_is_scored_by_purchase_histories(
    trained: Settings, damage: str
) -> None:
    folder, cutoff = trained.paths.models, Cutoff(yesterday())
    if damage == "no model can be read":
        (folder / str(store.champion_version(folder)) / "model.json").write_text("{}")
        words = "No model can be read"
    else:
        shutil.rmtree(folder)
        words = "No model has been promoted yet"
    told: list[str] = []
    predictions = serving.score(trained, cutoff, "night", told.append)
    assert len(told) == 1 and words in told[0]
    assert "buy-till-you-die" in told[0] and "run `clv train`" in told[0]
    assert np.isfinite(predictions["clv"]).all() and predictions["clv"].sum() > 0
    version = predictions["model_version"].unique().item()
    manifest = store.read_manifest(folder, version)
    assert manifest["is_stand_in"] and manifest["notes"][0] == told[0]
    assert {entry["served_by"] for entry in manifest["horizons"].values()} == {"btyd"}
    # What comes after the predictions knows it by its version.
    standing = serving.stand(trained, cutoff)
    assert standing["reason_1"].notna().any() and standing["p_alive"].notna().any()
    assert (standing["model_version"] == version).all()
    assert not serving.total(trained, cutoff).empty
    # It is for that day alone: the next `clv run` trains, and the next night makes its own.
    assert commands.find_obstacle(trained) is not None
    again = serving.score(trained, cutoff, "night", told.append)
    assert again.equals(predictions) and told[0] == told[1]
