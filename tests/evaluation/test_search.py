"""Search over stated spaces: what judges is unseen, the time is kept, and better is found."""

from __future__ import annotations

import importlib.util
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.evaluation import splits as splitting
from clv_pipeline.evaluation import trials as room
from clv_pipeline.evaluation.metrics import normalized_gini
from clv_pipeline.evaluation.search import SearchResult, search
from clv_pipeline.evaluation.selecting import TOLERANCE, drop_features, permutation_importance
from clv_pipeline.evaluation.splits import cohort_months, splits_by_cohort, splits_by_time
from clv_pipeline.evaluation.trials import EXPERTS, SUBJECTS, Trial, run_trial
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.candidates import find_candidate
from clv_pipeline.models.fold import Workbench
from clv_pipeline.models.histories import Histories
from clv_pipeline.models.panel import ALWAYS_KEPT, Panel, PanelError, leave_out
from clv_pipeline.settings import build_settings
from clv_pipeline.timeline import Cutoff, Fold
from tests.models.panels import column, make_panel, small_cdnow

DAYS = [Cutoff.parse(day) for day in ("1997-08-31", "1997-10-31", "1997-12-31")]
TODAY = Cutoff.parse("1998-03-31")
FOLDS = (Fold(DAYS[1], (DAYS[0],), 60), Fold(DAYS[2], tuple(DAYS[:2]), 60))
OPTIONS = FitOptions(60, seed=3, trees=8, depth=2, clusters=3)


@pytest.fixture(scope="module")
def bench() -> Workbench:
    panel = make_panel(small_cdnow(700), DAYS, (60,), TODAY)
    noise = np.random.default_rng(0).normal(size=len(panel.features))
    panel = Panel.build(
        panel.features.assign(noise=noise), panel.labels, (*panel.columns, column("noise"))
    )
    return Workbench(panel, OPTIONS, Histories(panel, 0))


def test_time_judges_on_cutoffs_after_those_that_train(bench):
    for split, fold in zip(splits_by_time(bench, FOLDS), FOLDS, strict=True):
        assert split.train["cutoff_date"].max() == pd.Timestamp(fold.training[-1].day)
        assert (split.test["cutoff_date"] == pd.Timestamp(fold.evaluation.day)).all()
        # Whoever judges lies past the labels of whoever trains.
        ends = split.train["cutoff_date"] + pd.Timedelta(days=60)
        assert (ends <= split.test["cutoff_date"].iloc[0]).all()
        assert len(split.test) == len(split.test_target)


def test_cohorts_judge_on_months_that_did_not_train(bench):
    splits = splits_by_cohort(bench, DAYS[:2])
    assert len(splits) == splitting.COHORT_FOLDS
    tested = []
    for split in splits:
        train, test = (set(cohort_months(part)) for part in (split.train, split.test))
        assert train and test and not train & test
        assert not set(split.train["customer_id"]) & set(split.test["customer_id"])
        tested.append(len(split.test))
    assert sum(tested) == len(bench.panel.for_cutoffs(DAYS[:2]).features)


def test_months_of_first_orders():
    rows = pd.DataFrame(
        {"cutoff_date": pd.to_datetime(["2024-03-31"] * 3), "T": [0.0, 31.0, np.nan]}
    )
    assert cohort_months(rows).tolist() == ["2024-03", "2024-02", "none"]


@pytest.mark.parametrize("method", ["bayes", "random", "grid"])
def test_no_set_is_tried_twice_and_the_present_one_first(bench, monkeypatch, method):
    asked = []

    def pretend(panel, options, splits, parameters, subject):
        asked.append(tuple(parameters.values()))
        # Best at many small steps.
        loss = abs(parameters["trees"] - 300) / 300 + abs(parameters["learning_rate"] - 0.03)
        return Trial(dict(parameters), loss, 0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(room, "run_trial", pretend)
    space = {"trees": (8, 100, 300), "learning_rate": (0.03, 0.13, 0.2), "depth": (2, 3)}
    told: list[str] = []
    found = search(
        bench.panel,
        OPTIONS,
        splits_by_time(bench, FOLDS[:1]),
        method=method,
        budget_seconds=1e9,
        tell=told.append,
        space=space,
    )
    assert asked[0] == (8.0, 0.13, 2.0)
    assert len(asked) == len(set(asked)) == len(told) == 18
    assert found.best.parameters["trees"] == 300
    if method == "bayes":  # it comes to the best long before the space is through
        first = next(k for k, a in enumerate(asked) if a[:2] == (300, 0.03))
        assert first <= 9


def test_the_time_is_kept(bench):
    found = search(bench.panel, OPTIONS, splits_by_time(bench, FOLDS[:1]), budget_seconds=0.0)
    assert len(found.trials) == 1
    assert found.best.parameters == {n: float(getattr(OPTIONS, n)) for n in EXPERTS.space}
    with pytest.raises(ValueError, match="nothing to judge by"):
        search(bench.panel, OPTIONS, [], budget_seconds=1.0)


def test_the_loss_falls_with_what_is_learned(bench):
    splits = splits_by_time(bench, FOLDS[1:])
    little = run_trial(bench.panel, replace(OPTIONS, trees=1, learning_rate=0.01), splits, {})
    more = run_trial(bench.panel, replace(OPTIONS, trees=30, learning_rate=0.1), splits, {})
    assert more.loss < little.loss
    assert more.normalized_gini > 0.5


def test_every_objective_has_a_stated_space():
    assert set(SUBJECTS) == {
        *("experts", "hurdle", "tweedie", "poisson", "squared", "absolute"),
        *("ziln", "gru"),
    }
    for subject in SUBJECTS.values():
        present = subject.present(OPTIONS)
        assert set(present) == set(subject.space)
        assert all(len(values) > 1 for values in subject.space.values())


@pytest.mark.parametrize("name", ["hurdle", "tweedie", "poisson", "squared", "absolute"])
def test_each_objective_is_fitted_and_judged_by_itself(bench, name):
    split = splits_by_time(bench, FOLDS[1:])[0]
    subject = SUBJECTS[name]
    fitted = room.FittedSubject(bench.panel, OPTIONS, subject, {"trees": 20.0, "depth": 3.0})
    found = fitted.fit(split.train, split.train_target).predict(split.test)
    assert fitted.options.trees == 20 and fitted.options.depth == 3
    assert (found >= 0).all() and found.std() > 0
    if name != "absolute":  # most customers bring nothing, and so does the median
        assert normalized_gini(split.test_target.value, found) > 0.4


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra 'neural'")
@pytest.mark.parametrize("name", ["ziln", "gru"])
def test_networks_are_searched_with_their_own_parameters(bench, name):
    days = small_cdnow(700)
    parts = [
        days[days["date"] <= pd.Timestamp(c.day)].assign(cutoff_date=pd.Timestamp(c.day))
        for c in DAYS
    ]
    orders = pd.concat(parts).rename(columns={"date": "activity_date", "amount": "value"})
    split = splits_by_time(bench, FOLDS[1:])
    trial = run_trial(
        replace(bench.panel, days=orders),
        OPTIONS,
        split,
        {"epochs": 4.0, "width": 16.0, "step": 0.005},
        subject=SUBJECTS[name],
    )
    assert trial.normalized_gini > 0.3 and np.isfinite(trial.loss)


def test_what_counts_for_nothing_can_go(bench):
    splits = splits_by_time(bench, FOLDS[1:])
    importance = permutation_importance(bench.panel, OPTIONS, splits[0])
    assert max(importance.values()) > 2 * importance["noise"]
    gone, loss = drop_features(bench.panel, OPTIONS, splits)
    before = run_trial(bench.panel, OPTIONS, splits, {}).loss
    assert loss <= before * (1 + TOLERANCE)
    assert gone and not set(gone) & ALWAYS_KEPT
    assert drop_features(bench.panel, OPTIONS, splits, until=0.0)[0] == ()


def test_what_was_found_are_lines_for_clv_toml(tmp_path):
    trial = Trial(
        {"trees": 150.0, "depth": 3.0, "learning_rate": 0.05, "clusters": 8.0}, 1, 1, 1, 1, 1
    )
    found = SearchResult((trial,), trial, ("noise",), 1.0, ("somehow",))
    settings = build_settings(tmp_path, tomllib.loads(found.to_toml()))
    options = FitOptions.from_settings(settings, 30)
    assert (options.trees, options.depth, options.learning_rate, options.clusters) == (
        150,
        3,
        0.05,
        8,
    )
    assert settings.model.left_out_features == ("noise",)
    network = replace(trial, parameters={"epochs": 40.0, "step": 0.001})
    found = SearchResult((network,), network, (), 1.0, (), SUBJECTS["ziln"])
    options = FitOptions.from_settings(build_settings(tmp_path, tomllib.loads(found.to_toml())), 30)
    built = find_candidate("ziln").build(options)
    assert (built.epochs, built.step, built.width) == (40, 0.001, 64)
    assert SUBJECTS["ziln"].present(options) == {"epochs": 40.0, "width": 64.0, "step": 0.001}
    assert find_candidate("gru").build(options).epochs == 25


def test_only_features_that_may_go_are_left_out():
    columns = (column("noise"), column("frequency"))
    assert [f.name for f in leave_out(columns, ["noise"])] == ["frequency"]
    with pytest.raises(PanelError, match="are needed"):
        leave_out(columns, ["frequency"])
    with pytest.raises(PanelError, match="no features"):
        leave_out(columns, ["nois"])
