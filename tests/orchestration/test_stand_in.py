"""A night on which no model can be read: something answers, says what it is, and why."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.models import store
from clv_pipeline.orchestration import commands, serving
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.orchestration.conftest import yesterday


def scored(settings: Settings, cutoff: Cutoff) -> pd.DataFrame:
    with open_warehouse(settings, read_only=True) as connection:
        query = (
            "SELECT * FROM scores.customer_predictions WHERE cutoff_date = ? "
            "ORDER BY customer_id, horizon_days"
        )
        return read_frame(connection, query, [cutoff.day])


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
    serving.score(trained, cutoff, "night", told.append)
    predictions = scored(trained, cutoff)
    assert len(told) == 1 and words in told[0]
    assert "buy-till-you-die" in told[0] and "run `clv train`" in told[0]
    assert np.isfinite(predictions["clv"]).all() and predictions["clv"].sum() > 0
    version = predictions["model_version"].unique().item()
    manifest = store.read_manifest(folder, version)
    assert manifest["is_stand_in"] and manifest["notes"][0] == told[0]
    assert {entry["served_by"] for entry in manifest["horizons"].values()} == {"btyd"}
    # What comes after the predictions knows it by its version.
    assert serving.stand(trained, cutoff) == 400
    with open_warehouse(trained, read_only=True) as connection:
        query = "SELECT * FROM scores.customer_standing WHERE cutoff_date = ?"
        standing = read_frame(connection, query, [cutoff.day])
    assert standing["reason_1"].notna().any() and standing["p_alive"].notna().any()
    assert (standing["model_version"] == version).all()
    assert not serving.total(trained, cutoff).empty
    # It is for that day alone: the next `clv run` trains, and the next night makes its own.
    assert commands.find_obstacle(trained) is not None
    serving.score(trained, cutoff, "night", told.append)
    assert scored(trained, cutoff).equals(predictions) and told[0] == told[1]
