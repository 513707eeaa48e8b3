from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.evaluation.importance import LEAST_LOSS, permutation_importance

ROWS = 800


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(ROWS, 4)), columns=["strong", "weak", "twin", "idle"])
    return frame.assign(same="x", twin=frame["strong"])


def predict(rows: pd.DataFrame) -> np.ndarray:
    # A model that refuses twins that differ, as a purchase history that contradicts itself is.
    assert (rows["strong"] == rows["twin"]).all()
    return np.exp(rows["strong"] + 0.3 * rows["weak"]).to_numpy()


def test_a_feature_is_worth_what_shuffling_it_loses(rows: pd.DataFrame) -> None:
    groups = {"twins": ["strong", "twin"], "weak": ["weak"], "idle": ["idle", "absent"],
              "same": ["same"]}  # fmt: skip
    found = permutation_importance(predict, rows, predict(rows), groups, seed=1)
    assert found["name"].tolist()[:2] == ["twins", "weak"]
    by_name = found.set_index("name")
    assert by_name["is_useful"].to_dict() == {
        "twins": True,
        "weak": True,
        "idle": False,
        "same": False,
    }
    assert by_name.loc["idle", "loss"] == by_name.loc["same", "loss"] == 0
    assert by_name.loc["twins", "loss"] > 0.6 > by_name.loc["weak", "loss"] > 0.05
    assert (by_name["spread"] >= 0).all()


def test_noise_is_no_use(rows: pd.DataFrame) -> None:
    """What a model fitted to chance lost and won by shuffling averages to nothing."""
    rng = np.random.default_rng(7)
    actual = rng.exponential(size=ROWS)
    found = permutation_importance(lambda asked: asked["idle"].to_numpy(), rows, actual,
                                   {"idle": ["idle"]}, repeats=30)  # fmt: skip
    assert abs(found["loss"].iloc[0]) < 0.1
    assert LEAST_LOSS > 0
    again = permutation_importance(lambda asked: asked["idle"].to_numpy(), rows, actual,
                                   {"idle": ["idle"]}, repeats=30)  # fmt: skip
    pd.testing.assert_frame_equal(found, again)
