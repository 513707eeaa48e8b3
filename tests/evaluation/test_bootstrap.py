"""Resampled figures against the plain measures, one weighting at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clv_pipeline.evaluation import bootstrap
from clv_pipeline.evaluation.bootstrap import MEASURES, Resampled, measure_once
from clv_pipeline.evaluation.comparing import (
    COMPARISON_COLUMNS,
    PairedBootstrap,
    Policy,
    compare,
    tabulate_comparisons,
)
from clv_pipeline.evaluation.metrics import (
    auc,
    decile_mape,
    normalized_gini,
    rmse,
    spearman,
    total_bias,
)
from clv_pipeline.timeline import Cutoff
from tests.evaluation.test_gate import POLICY, forecasts


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=30
    )
)
def test_every_replicate_is_the_measure_under_those_weights(rows):
    actual, value, chance = (np.array(c, dtype=float) for c in zip(*rows, strict=True))
    bought, probability = actual > 1, chance / 4
    resampled = Resampled(actual, bought, 5, [1, 2])
    found = resampled.figures(MEASURES, value, probability)
    for k in range(5):
        w = resampled.counts[:, k]
        if w.sum() == 0:
            continue
        expected = {
            "normalized_gini": normalized_gini(actual, value, w),
            "spearman": spearman(actual, value, w),
            "rmse": rmse(actual, value, w),
            "total_bias": abs(total_bias(actual, value, w)),
            "decile_mape": decile_mape(actual, value, weights=w),
            "auc": auc(bought, probability, w),
        }
        for measure in MEASURES:
            assert found[measure][k] == pytest.approx(expected[measure], abs=1e-9, nan_ok=True)


def test_a_sample_of_very_many_customers_is_centred_on_all_of_them(monkeypatch):
    a, b = forecasts(0.2), forecasts(0.6)
    whole = {c.measure: c for c in compare([a], [b], POLICY)}
    monkeypatch.setattr(bootstrap, "MAX_CUSTOMERS", 600)
    for found in compare([a], [b], POLICY):
        assert found.advantage == whole[found.measure].advantage
        assert found.low - 1e-9 <= found.advantage <= found.high + 1e-9
        width = whole[found.measure].high - whole[found.measure].low
        assert found.high - found.low > width


def test_drawing_cutoffs_widens_the_interval_where_cutoffs_differ():
    days = [Cutoff.parse(f"2024-0{month}-28") for month in (1, 2, 3)]
    ours = [forecasts(0.3, day=day, seed=k) for k, day in enumerate(days)]
    theirs = [forecasts(0.1 + 0.6 * k, day=day, seed=k) for k, day in enumerate(days)]
    found = {c.measure: c for c in compare(ours, theirs, Policy(replicates=200))}
    gini = found["normalized_gini"]
    assert (gini.count_cutoffs, gini.count_better) == (3, 2)
    assert gini.low_cutoffs < gini.low <= gini.advantage <= gini.high < gini.high_cutoffs
    assert 0.5 < gini.probability_better < 1


def test_what_serves_is_compared_with_every_other_model_once_each():
    days = [Cutoff.parse("2024-03-31"), Cutoff.parse("2024-04-30")]
    serves = [forecasts(0.1, day=day) for day in days]
    backtests = {
        "serves": serves,
        "worse": [forecasts(1.5, day=day) for day in days],
        "asked once": [forecasts(0.2, day=days[0])],
    }
    table = tabulate_comparisons(backtests, "serves", PairedBootstrap(POLICY))
    assert tuple(table.columns) == COMPARISON_COLUMNS
    assert len(table) == 2 * len(POLICY.measures)
    assert (table["model"] == "serves").all()
    counts = table.groupby("other_model")["count_cutoffs"].unique()
    assert counts["worse"].tolist() == [2] and counts["asked once"].tolist() == [1]
    gini = table[table["measure"] == "normalized_gini"].set_index("other_model")
    assert gini.loc["worse", "verdict"] == "better"
    assert gini.loc["worse", "probability_better"] == 1
    mean = np.mean(
        [
            measure_once("normalized_gini", f.actual, f.bought, f.value, f.probability)
            for f in serves
        ]
    )
    assert gini.loc["worse", "figure"] == pytest.approx(mean)
    assert tabulate_comparisons(backtests, "never asked", PairedBootstrap(POLICY)).empty


def test_a_kept_figure_belongs_to_its_model():
    bench = PairedBootstrap(POLICY)
    a, b, c = [forecasts(0.1)], [forecasts(0.5)], [forecasts(0.9)]
    shared = [bench.compare(a, b), bench.compare(a, c), bench.compare(b, c)]
    fresh = [compare(a, b, POLICY), compare(a, c, POLICY), compare(b, c, POLICY)]
    assert shared == fresh
