"""One order of ten million: it must not wreck what others are told, nor be cut itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.fold import FittedHorizon, Workbench
from clv_pipeline.models.giants import cap_giants, tame
from clv_pipeline.models.histories import Histories
from clv_pipeline.models.panel import Target
from clv_pipeline.timeline import Cutoff
from tests.models.panels import make_panel, small_cdnow

AS_OF = Cutoff.parse("1998-06-30")
TRAINING = (Cutoff.parse("1998-02-15"), Cutoff.parse("1998-04-01"))
BLEND = (Cutoff.parse("1997-12-31"),)


def predicted(days, multiple):
    """What a model trained on those days says of every customer."""
    panel = make_panel(days, (*BLEND, *TRAINING, AS_OF), [90], AS_OF)
    options = FitOptions(90, trees=12, clusters=3, giant_multiple=multiple)
    bench = Workbench(panel, options, Histories(panel, 0))
    fitted = FittedHorizon(options).fit(bench, TRAINING, BLEND)
    rows = panel.for_cutoffs([AS_OF]).features
    value = fitted.model_.predict(fitted.matrix(rows, bench.histories.at(AS_OF)))["value"]
    return pd.Series(value, index=rows["customer_id"].to_numpy())


def test_a_cap_lies_at_a_multiple_of_what_others_brought():
    values = np.concatenate([np.zeros(500), np.linspace(1, 100, 200), [1e7]])
    capped = cap_giants(values, 20.0)
    assert capped.max() == pytest.approx(20 * 100, rel=0.02)
    np.testing.assert_array_equal(capped[:-1], values[:-1])
    # A real giant of ten times the largest is left alone, and so is a handful of customers.
    np.testing.assert_array_equal(cap_giants(np.append(values[:-1], 1000.0), 20.0)[-1], 1000.0)
    assert cap_giants(np.array([0.0, 5.0, 1e9]), 20.0).max() == 1e9
    y = Target(np.concatenate([values, values[:-1]]), np.ones(1401), np.ones(1401, dtype=bool))
    windows = np.repeat([0, 1], [701, 700])
    assert tame(y, windows, 20.0).value[:701].max() < 3000
    assert y.value.max() == 1e7


def test_one_order_of_ten_million_leaves_others_as_they_were():
    days = small_cdnow(700)
    giant = sorted(days["customer_id"].unique())[100]
    order = {"customer_id": [giant], "date": [pd.Timestamp("1998-03-20")], "amount": [1e7]}
    spoilt = pd.concat([days, pd.DataFrame(order)]).groupby(["customer_id", "date"])["amount"].sum()
    before = predicted(days, 20.0)
    after = predicted(spoilt.reset_index(), 20.0)
    others = before.index != giant
    assert after[others].sum() == pytest.approx(before[others].sum(), rel=0.25)
    # Nobody's answer is cut: the giant's is finite, and far above what any other gets.
    assert np.isfinite(after).all()
    assert after[giant] > 100 * after[others].max()
    # Without the cap, everybody's value is another one.
    wild = predicted(spoilt.reset_index(), 1e12)
    assert wild[others].sum() > 1.5 * before[others].sum()
