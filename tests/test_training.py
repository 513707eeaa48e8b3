"""From a panel to a challenger: time, honesty, refusals, the store and the gate together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clv_pipeline import training
from clv_pipeline.evaluation import ahead
from clv_pipeline.evaluation.backtest import LEADERBOARD_MEASURES
from clv_pipeline.evaluation.settling import settle
from clv_pipeline.models import store
from clv_pipeline.models.learnable import TrainingRefused
from clv_pipeline.models.panel import Panel
from clv_pipeline.planning import plan_horizon, required_cutoffs
from clv_pipeline.scoring import ScoringError, score_customers
from clv_pipeline.settings import build_settings
from clv_pipeline.training import decide_challenger, train_challenger
from tests.models.panels import small_cdnow
from tests.training_panels import AS_OF, FIRST_DAY, SECTIONS, make, panel_for, save


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    settings = make(tmp_path_factory.mktemp("shop"))
    panel = panel_for(settings, small_cdnow(700))
    told = []
    result = train_challenger(
        settings, panel.columns, panel, AS_OF, "run-1", lambda text, share: told.append(share)
    )
    return settings, panel, result, told


def scores(trained, model=None, rows=None):
    settings, panel, result, _ = trained
    rows = panel.for_cutoffs([AS_OF]).features if rows is None else rows
    return score_customers(model or result.model, rows, settings, "run-1", "v")


# --- which cutoffs -----------------------------------------------------------------------------


def test_every_training_label_had_matured_where_it_is_used(tmp_path):
    settings = make(tmp_path)
    needed = required_cutoffs(settings, AS_OF, FIRST_DAY)
    assert AS_OF in needed
    for horizon in settings.value.horizons:
        plan = plan_horizon(settings, AS_OF, horizon, FIRST_DAY)
        assert all(c.is_matured(horizon, AS_OF.day) for c in plan.training)
        assert all(c.is_matured(horizon, plan.training[-1].day) for c in plan.blend)
        for fold, blend in plan.folds:
            assert fold.evaluation.is_matured(horizon, AS_OF.day)
            assert all(c.is_matured(horizon, fold.evaluation.day) for c in fold.training)
            assert all(c.is_matured(horizon, fold.training[-1].day) for c in blend)
            assert {fold.evaluation, *fold.training, *blend} <= set(needed)
        assert {*plan.training, *plan.blend} <= set(needed)
        # What corrects the intervals was asked, and came true, before; and is fitted anyway.
        newests = [t[-1] for t in (plan.training, *(f.training for f, _ in plan.folds)) if t]
        for newest in newests:
            for cutoff, known in plan.earlier(newest):
                assert cutoff < newest and {cutoff, *known} <= set(needed)
                assert all(c.is_matured(horizon, cutoff.day) for c in known)
                fitted = [f.training for f, _ in plan.folds] + [b for _, b in plan.folds]
                assert known in fitted


def test_a_training_that_was_interrupted_goes_on_with_its_fits(trained, tmp_path, monkeypatch):
    settings, panel, result, _ = trained
    scratch, told = tmp_path / "scratch", []

    def interrupt(text, share):
        told.append(text)
        if text.startswith("the model of"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_challenger(settings, panel.columns, panel, AS_OF, "run-1", interrupt, scratch=scratch)
    held = sorted(path.name.partition("_")[0] for path in scratch.glob("*/*"))
    assert {"experts", "fold"} == set(held)
    folds = held.count("fold")
    real, again = training.run_fold, []
    monkeypatch.setattr(
        training, "run_fold", lambda *a, **k: (again.append(a[1]), real(*a, **k))[1]
    )
    found = train_challenger(settings, panel.columns, panel, AS_OF, "run-1", scratch=scratch)
    assert len(again) == len(found.folds) - folds
    assert found.manifest == result.manifest
    for name in ("leaderboard", "backtest_metrics", "calibration", "comparisons", "effects"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(result, name))
    assert not scratch.exists()
    assert told[-1].split(", ")[-1].endswith("left") and " of " in told[-1]


def test_two_processes_learn_the_same(trained, tmp_path, monkeypatch):
    settings, panel, result, _ = trained
    monkeypatch.setattr(ahead, "LEAST_ROWS", 0)
    engine = settings.engine.model_copy(update={"threads": 2})
    settings = settings.model_copy(update={"engine": engine})
    monkeypatch.setattr(training, "run_fold", None)  # nothing is left for this process
    monkeypatch.setattr(training, "settle", only_untested)
    told = []
    found = train_challenger(
        settings,
        panel.columns,
        panel,
        AS_OF,
        "run-1",
        lambda text, share: told.append((text, share)),
        scratch=tmp_path / "scratch",
    )
    assert found.manifest == result.manifest
    assert found.model.to_files() == result.model.to_files()
    for name in ("leaderboard", "backtest_metrics", "calibration", "comparisons", "effects"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(result, name))
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert not list(settings.paths.spill.rglob("panel_*"))


def only_untested(model, bench, plan, found, as_of):
    assert not found
    return settle(model, bench, plan, found, as_of)


def test_labels_past_the_cutoff_change_nothing(trained):
    settings, panel, result, _ = trained
    future = (
        panel.for_cutoffs([AS_OF])
        .features[["customer_id", "cutoff_date"]]
        .assign(horizon_days=90, label_value=1e6, label_orders=9, has_purchase=True)
    )
    spoilt = Panel.build(
        panel.features, pd.concat([panel.labels, future], ignore_index=True), panel.columns
    )
    again = train_challenger(settings, panel.columns, spoilt, AS_OF, "run-1")
    assert again.manifest == result.manifest


# --- what comes out ----------------------------------------------------------------------------


def test_the_leaderboard_holds_every_candidate(trained):
    _, _, result, told = trained
    board = result.leaderboard
    assert set(board["horizon_days"]) == {90}
    expected = {
        "zero",
        "mean",
        "last_days",
        "rate_times_aov",
        "bg_nbd",
        "pareto_nbd",
        "linear",
        "elastic_net",
        "decision_tree",
        "random_forest",
        "svm",
        "mlp",
        "squared",
        "absolute",
        "hurdle",
        "tweedie",
        "poisson",
        "btyd",
        "btyd_seasonal",
        "ensemble",
    }
    assert set(board["model"]) == expected
    assert set(LEADERBOARD_MEASURES) <= set(board)
    assert board.groupby("horizon_days")["is_champion"].sum().tolist() == [1]
    assert (board.loc[board["model"] == "zero", "normalized_gini"] == 0).all()
    assert (board["model_version"] == result.manifest["model_version"]).all()
    assert told == sorted(told) and told[-1] == 1.0
    wide = board.set_index(["model", "horizon_days"])["normalized_gini"]
    assert wide["ensemble", 90] > 0.6


def test_models_without_shap_values_are_explained_by_a_stand_in(trained):
    effects = trained[2].effects
    assert set(effects["model"]) == {"svm", "mlp"}
    assert set(effects["method"]) == {"surrogate_trees"} and (effects["fidelity"] <= 1).all()
    assert (effects["model_version"] == trained[2].manifest["model_version"]).all()
    assert not effects.duplicated(["model", "horizon_days", "evaluation_date", "driver"]).any()


def test_backtest_metrics_are_sliced(trained):
    metrics = trained[2].backtest_metrics
    assert {"all", "repeat", "tenure", "segment", "rfm_segment"} <= set(metrics["slice_name"])
    key = ["model", "horizon_days", "evaluation_date", "slice_name", "slice_value", "measure"]
    assert not metrics.duplicated(key).any()
    coverage = metrics[(metrics["measure"] == "coverage_80") & (metrics["slice_name"] == "all")]
    assert coverage["figure"].between(0.6, 1).all()
    # The ends that are published are judged, overall and among those who bought.
    figures = metrics[metrics["slice_name"] == "all"].groupby("measure")["figure"]
    for measure in ("interval_80", "interval_95", "interval_80_buyers", "interval_95_buyers"):
        assert figures.get_group(measure).between(0.4, 1).all()
    assert figures.get_group("interval_95").min() >= figures.get_group("interval_80").min()


def test_the_manifest_says_how_each_horizon_is_served(trained):
    manifest = trained[2].manifest
    horizons = manifest["horizons"]
    assert horizons["90"]["confidence"] == "high"
    assert 0 < horizons["90"]["group_spread"] < 0.5
    for untested in ("365", "500"):
        assert horizons[untested]["confidence"] == "low"
        assert horizons[untested]["served_by"] == "ensemble_extended"
        assert "learned over 90 days is extended" in horizons[untested]["reason"]
    assert "were asked about" in horizons["90"]["blend_rule"]
    assert set(manifest["libraries"]) >= {"numpy", "scikit-learn"}
    assert json.loads(json.dumps(manifest)) == manifest


def test_the_same_input_gives_the_same_bits(trained):
    settings, panel, result, _ = trained
    shuffled = Panel.build(
        panel.features.sample(frac=1, random_state=1),
        panel.labels.sample(frac=1, random_state=2),
        panel.columns,
    )
    again = train_challenger(settings, panel.columns, shuffled, AS_OF, "run-1")
    assert again.model.to_files() == result.model.to_files()
    assert again.manifest == result.manifest
    pd.testing.assert_frame_equal(again.leaderboard, result.leaderboard, check_exact=True)


def test_the_version_follows_from_data_settings_and_cutoff(trained):
    settings, panel, result, _ = trained
    version = result.manifest["model_version"]
    assert version.startswith("1998-06-30-")
    changed = panel.labels.copy()
    changed.loc[changed.index[0], "label_value"] += 1.0
    other = Panel.build(panel.features, changed, panel.columns)
    assert (
        train_challenger(settings, panel.columns, other, AS_OF, "run-1").manifest["model_version"]
        != version
    )


# --- scores ------------------------------------------------------------------------------------


def test_scores_are_coherent_and_survive_saving(trained):
    settings, _, result, _ = trained
    found = scores(trained)
    columns = ["clv", "clv_p10", "clv_p50", "clv_p90", "probability_purchase", "expected_orders"]
    assert np.isfinite(found[columns].to_numpy()).all()
    assert (found["clv_p10"] <= found["clv_p50"]).all()
    assert (found["clv_p50"] <= found["clv_p90"]).all()
    assert found["probability_purchase"].between(0, 1).all()
    assert (found["expected_orders"] >= found["probability_purchase"]).all()
    assert (found[columns] >= 0).all(axis=None)
    for column in columns:
        wide = found.pivot(index="customer_id", columns="horizon_days", values=column)
        assert (wide.diff(axis=1).iloc[:, 1:] >= -1e-9).all(axis=None)
    version = save(settings, result)
    model, manifest = store.load_model(settings.paths.models, version)
    pd.testing.assert_frame_equal(scores(trained, model), found, check_exact=True)
    assert manifest["horizons"] == result.manifest["horizons"]


def test_batches_change_nothing(trained, monkeypatch):
    whole = scores(trained)
    monkeypatch.setattr("clv_pipeline.scoring.BATCH_ROWS", 170)
    # Vector instructions round the last bit by a row's place in the batch.
    pd.testing.assert_frame_equal(scores(trained), whole, rtol=1e-6)


def test_nobody_and_odd_customers_get_an_answer(trained):
    panel = trained[1]
    rows = panel.for_cutoffs([AS_OF]).features
    assert scores(trained, rows=rows.iloc[:0]).empty
    numbers = [c for c in rows if c not in ("customer_id", "cutoff_date")]
    odd = pd.concat([rows.iloc[:1]] * 4, ignore_index=True).assign(customer_id=list("abcd"))
    odd[numbers] = odd[numbers].astype(float)
    odd.loc[0, numbers] = np.nan  # signed up, never ordered
    odd.loc[0, ["frequency", "count_order_days", "sum_value"]] = 0.0
    odd.loc[1, numbers] = [0.0 if n != "count_order_days" else 1.0 for n in numbers]  # today
    odd.loc[2, ["frequency", "count_order_days", "recency", "T"]] = [9999, 10000, 540, 545]
    odd.loc[2, ["monetary_value", "sum_value"]] = [20.0, 2e5]
    odd.loc[3, ["sum_value", "monetary_value"]] = 1e9
    found = scores(trained, rows=odd)
    values = found.set_index(["customer_id", "horizon_days"]).drop(
        columns=["cutoff_date", "model_version", "run_id"]
    )
    assert np.isfinite(values.to_numpy()).all()
    assert (values["clv_p10"] <= values["clv_p90"]).all()


def test_discounting_lowers_later_value(trained):
    _, _, result, _ = trained
    plain = scores(trained).set_index(["customer_id", "horizon_days"])["clv"].unstack()
    result.model.yearly_discount_rate = 0.2
    try:
        less = scores(trained).set_index(["customer_id", "horizon_days"])["clv"].unstack()
    finally:
        result.model.yearly_discount_rate = 0.0
    has_value = (plain > 0).all(axis=1)
    ratio = less[has_value] / plain[has_value]
    assert (ratio[90] < 1).all()
    assert ratio[90].to_numpy() == pytest.approx(1.2 ** (-45 / 365))
    assert (ratio[365] <= ratio[90]).all()


def test_scoring_names_what_is_missing(trained):
    settings, panel, result, _ = trained
    rows = panel.for_cutoffs([AS_OF]).features
    with pytest.raises(ScoringError, match="recency"):
        score_customers(result.model, rows.drop(columns="recency"), settings, "r")
    other = build_settings(settings.root, SECTIONS | {"value": {"horizons": [7]}})
    with pytest.raises(ScoringError, match=r"\[7\]"):
        score_customers(result.model, rows, other, "r")


# --- refusals ----------------------------------------------------------------------------------


def test_refuses_a_handful_of_customers(tmp_path):
    settings = make(tmp_path)
    days = small_cdnow(700)
    few = days[days["customer_id"].isin(sorted(days["customer_id"].unique())[:3])]
    panel = panel_for(settings, few)
    with pytest.raises(TrainingRefused, match="3 customers have ordered"):
        train_challenger(settings, panel.columns, panel, AS_OF, "r")


@pytest.mark.parametrize(
    ("value", "orders", "words"), [(0.0, 0, "are zero"), (5.0, 1, "without are needed")]
)
def test_refuses_labels_of_one_kind(trained, value, orders, words):
    settings, panel, _, _ = trained
    labels = panel.labels.assign(label_value=value, label_orders=orders, has_purchase=bool(orders))
    with pytest.raises(TrainingRefused, match=words):
        train_challenger(settings, panel.columns, replace(panel, labels=labels), AS_OF, "r")


def test_refuses_a_panel_without_the_cutoff(trained):
    settings, panel, _, _ = trained
    older = panel.for_cutoffs(panel.cutoffs[:-1])
    with pytest.raises(TrainingRefused, match="no features at 1998-06-30"):
        train_challenger(settings, panel.columns, older, AS_OF, "r")


# --- the gate, with models ---------------------------------------------------------------------


def test_first_champion_then_the_same_again_then_a_damaged_one(trained, tmp_path):
    _, panel, _, _ = trained
    settings = make(tmp_path)
    first = train_challenger(settings, panel.columns, panel, AS_OF, "run-1")
    decision = decide_challenger(first)
    assert decision.promote and "no champion yet" in decision.reason
    version = save(settings, first)
    store.promote(settings.paths.models, version, decision.reason, "run-1")

    again = train_challenger(settings, panel.columns, panel, AS_OF, "run-2")
    assert again.champion_version == version and again.is_same_recipe
    decision = decide_challenger(again)
    assert not decision.promote
    assert "no better" in decision.reason

    path = settings.paths.models / version / "model.json"
    path.write_bytes(path.read_bytes() + b" ")
    third = train_challenger(settings, panel.columns, panel, AS_OF, "run-3")
    assert decide_challenger(third).promote
    assert any("damaged" in note for note in third.notes)
