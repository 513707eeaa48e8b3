"""Neural models: the ZILN head, the same bits twice, kept as arrays, sequences in order."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.evaluation.backtest import run_fold
from clv_pipeline.evaluation.metrics import auc, normalized_gini, total_bias
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.candidates import find_candidate
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.fold import Workbench
from clv_pipeline.models.histories import Histories, history_matrix
from clv_pipeline.models.neural import training
from clv_pipeline.models.neural.gru import LENGTH, GRUModel
from clv_pipeline.models.neural.training import Heads, NeuralExtraError, ziln_loss
from clv_pipeline.models.neural.ziln import ZILNModel
from clv_pipeline.models.panel import Matrix, Panel, PanelError, Target
from clv_pipeline.timeline import Cutoff, Fold
from tests.models.panels import make_panel, small_cdnow

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="PyTorch, the extra 'neural', is not installed",
)
TRAIN, TEST = Cutoff.parse("1997-09-30"), Cutoff.parse("1997-12-31")
OPTIONS = FitOptions(90, seed=1, max_rows=3000, trees=8, neural=True)


def order_days(days: pd.DataFrame, cutoffs: list[Cutoff]) -> pd.DataFrame:
    parts = [
        days[days["date"] <= pd.Timestamp(c.day)].assign(cutoff_date=pd.Timestamp(c.day))
        for c in cutoffs
    ]
    return pd.concat(parts).rename(columns={"date": "activity_date", "amount": "value"})


@pytest.fixture(scope="module")
def panel() -> Panel:
    days = small_cdnow(1500)
    made = make_panel(days, [TRAIN, TEST], (90,), Cutoff.parse("1998-03-31"))
    return Panel(made.features, made.labels, made.columns, order_days(days, [TRAIN, TEST]))


def split(panel: Panel):
    (rows, y), (later, target) = (panel.for_cutoffs([c]).matrix(90) for c in (TRAIN, TEST))
    encoder = Encoder.fit(rows, panel.columns)
    return encoder.transform(rows), y, encoder.transform(later), target


def test_without_pytorch_it_says_what_to_install(panel, monkeypatch):
    monkeypatch.setattr(training, "has_torch", lambda: False)
    X, y, _, _ = split(panel)
    with pytest.raises(NeuralExtraError, match=r"clv-pipeline\[neural\]"):
        ZILNModel(OPTIONS).fit(X, y)


def test_neural_models_take_part_only_where_they_are_asked_for():
    assert not FitOptions(30).neural
    assert find_candidate("ziln").is_neural and find_candidate("gru").is_neural
    assert find_candidate("ziln").load is not None


@needs_torch
def test_the_loss_is_the_likelihood_of_a_zero_inflated_lognormal():
    import torch
    from scipy.stats import lognorm

    outputs = np.array([[0.3, 0.5, 0.2], [-1.0, -0.4, 1.0], [2.0, 1.5, -0.5]])
    value = np.array([0.0, 2.5, 0.7])
    heads = Heads.of(outputs)
    expected = [-np.log(1 - heads.chance[0])]
    for k in (1, 2):
        density = lognorm(heads.scale[k], scale=np.exp(heads.location[k])).logpdf(value[k])
        # Wang et al. leave out the constant of the normal density.
        expected.append(-np.log(heads.chance[k]) - density - 0.5 * np.log(2 * np.pi))
    found = float(ziln_loss(torch, torch.from_numpy(outputs), torch.from_numpy(value)))
    assert found == pytest.approx(np.mean(expected))
    mean = lognorm(heads.scale[1], scale=np.exp(heads.location[1])).mean() * heads.chance[1]
    assert heads.mean(highest=99.0)[1] == pytest.approx(mean)
    # No buyer is expected to bring more than the largest value that was seen.
    assert (heads.mean(highest=0.0) <= heads.chance).all()


@needs_torch
def test_ziln_learns_and_survives_saving(panel):
    X, y, later, target = split(panel)
    model = ZILNModel(OPTIONS, epochs=8).fit(X, y)
    value, chance = model.predict(later), model.predict_probability(later)
    assert (value >= 0).all() and np.isfinite(value).all()
    assert normalized_gini(target.value, value) > 0.5
    assert auc(target.has_purchase, chance) > 0.7
    assert abs(total_bias(y.value, model.predict(X))) < 1e-6
    again = ZILNModel.from_files(model.to_files())
    np.testing.assert_array_equal(again.predict(later), value)
    np.testing.assert_array_equal(ZILNModel(OPTIONS, epochs=8).fit(X, y).predict(later), value)


@needs_torch
def test_ziln_reads_categories_and_holes():
    rng = np.random.default_rng(0)
    n = 1200
    code = rng.integers(0, 3, n).astype(np.float32)
    holes = np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)).astype(np.float32)
    ids, day = np.arange(n).astype(object), np.full(n, "2024-01-01", "datetime64[D]")
    X = Matrix(ids, day, ("kind", "x"), np.column_stack([code, holes]), frozenset({"kind"}))
    bought = rng.random(n) < np.array([0.1, 0.5, 0.9])[code.astype(int)]
    value = np.where(bought, rng.lognormal(2.0, 1.0, n), 0.0)
    y = Target(value, bought.astype(float), bought)
    chance = ZILNModel(OPTIONS, epochs=30).fit(X, y).predict_probability(X)
    means = [chance[code == k].mean() for k in range(3)]
    assert means[0] < 0.25 < 0.35 < means[1] < 0.65 < 0.75 < means[2]


def test_sequences_end_with_the_newest_order(panel):
    X = history_matrix(panel.for_cutoffs([TEST]).features)
    model = GRUModel(OPTIONS).with_days(panel.days.sample(frac=1, random_state=0))
    steps, static = model.read_sequences(X)
    counts = X.column("count_order_days")
    np.testing.assert_array_equal(steps[:, :, 3].sum(axis=1), np.minimum(counts, LENGTH))
    k = int(np.argmax((counts > 3) & (counts < LENGTH)))
    own = panel.days[
        (panel.days["customer_id"] == X.customer_id[k])
        & (panel.days["cutoff_date"] == pd.Timestamp(TEST.day))
    ].sort_values("activity_date")
    days = pd.to_datetime(own["activity_date"])
    size = len(own)
    assert (steps[k, : LENGTH - size] == 0).all()
    expected = np.column_stack(
        [
            days.diff().dt.days.fillna(0.0),
            own["value"],
            (pd.Timestamp(TEST.day) - days).dt.days,
        ]
    )
    found = np.expm1(steps[k, LENGTH - size :, :3].astype(float) * 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.expm1(static[:, 0] * 5.0), X.column("T"), rtol=1e-4, atol=1e-3)
    silence = X.column("days_since_last_order")
    np.testing.assert_allclose(np.expm1(static[:, 1] * 5.0), silence, rtol=1e-4, atol=1e-3)
    with pytest.raises(PanelError, match="purchases of each cutoff are missing"):
        GRUModel(OPTIONS).read_sequences(X)


@needs_torch
def test_both_stand_in_the_leaderboard_with_the_rest(panel):
    bench = Workbench(panel, OPTIONS, Histories(panel, 0))
    result = run_fold(bench, Fold(TEST, (TRAIN,), 90), (), with_slow=True)
    for name in ("ziln", "gru"):
        assert normalized_gini(result.target.value, result.value[name]) > 0.5
        assert auc(result.target.has_purchase, result.probability[name]) > 0.7
