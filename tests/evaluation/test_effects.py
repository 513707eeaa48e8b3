"""What drives a model that has no SHAP values of its own: found again where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from clv_pipeline.evaluation.effects import COLUMNS, COUNT_DRIVERS, describe_models, join_effects
from clv_pipeline.models.panel import Matrix, PanelError
from clv_pipeline.tables import EVALUATION_TABLES
from clv_pipeline.timeline import Cutoff

DAY = Cutoff.parse("2024-03-31")


@pytest.fixture(scope="module", name="X")
def make_matrix() -> Matrix:
    rng = np.random.default_rng(0)
    n = 900
    values = rng.normal(size=(n, 5)).astype(np.float32)
    values[:, 4] = rng.integers(0, 3, n)
    names = ("up", "down", "noise", "more", "kind")
    days = np.full(n, "2024-03-31", "datetime64[D]")
    return Matrix(np.arange(n).astype(object), days, names, values, frozenset({"kind"}))


def test_drivers_and_directions_are_those_that_the_model_follows(X):
    answers = {
        "svm": np.exp(2 + 1.0 * X.column("up") - 0.6 * X.column("down")),
        "mlp": np.where(X.column("kind") == 2, 90.0, 10.0),
        "flat": np.full(len(X), 7.0),
    }
    found = describe_models(X, answers, 90, DAY)
    assert tuple(found) == COLUMNS
    svm = found[found["model"] == "svm"].set_index("driver")
    assert svm.index[:2].tolist() == ["up", "down"]
    assert svm.loc["up", "direction"] == "up" and svm.loc["down", "direction"] == "down"
    assert svm["fidelity"].iloc[0] > 0.9 and svm["share"].sum() == pytest.approx(1)
    mlp = found[found["model"] == "mlp"]
    assert mlp["driver"].iloc[0] == "kind" and mlp["share"].iloc[0] > 0.95
    assert mlp["direction"].iloc[0] == "mixed"  # codes of categories have no direction
    assert "flat" not in set(found["model"])  # nothing drives what is the same for everyone
    assert found.groupby("model")["driver_rank"].max().le(COUNT_DRIVERS).all()


def test_the_table_is_that_which_is_published():
    stamps = {"model_version", "run_id"}
    assert {c.name for c in EVALUATION_TABLES["model_effects"].columns} == {*COLUMNS, *stamps}
    assert tuple(join_effects([None])) == COLUMNS


def test_columns_are_selected_by_name(X):
    part = X.select(["kind", "up"])
    np.testing.assert_array_equal(part.column("up"), X.column("up"))
    assert part.categorical == {"kind"} and X.select(["up"]).categorical == frozenset()
    with pytest.raises(PanelError, match="nois"):
        X.select(["nois"])
