"""Training where something is missing: a past, a label, a fit, a champion of the same day."""

from __future__ import annotations

import numpy as np
import pandas as pd

from clv_pipeline.models import store
from clv_pipeline.models.btyd.fitting import FitError
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.planning import learned_horizons, required_cutoffs
from clv_pipeline.scoring import score_customers
from clv_pipeline.timeline import Cutoff
from clv_pipeline.training import decide_challenger, train_challenger
from tests.models.panels import make_panel, small_cdnow
from tests.training_panels import AS_OF, FIRST_DAY, make, panel_for, save


def test_without_any_matured_label_a_history_serves(tmp_path):
    settings = make(tmp_path, value={"horizons": [500]})
    panel = panel_for(settings, small_cdnow(700))
    result = train_challenger(settings, panel.columns, panel, AS_OF, "r")
    assert result.manifest["horizons"]["500"]["served_by"] == "btyd"
    assert result.leaderboard.empty
    found = score_customers(result.model, panel.for_cutoffs([AS_OF]).features, settings, "r")
    assert np.isfinite(found["clv"]).all() and found["clv"].sum() > 0


def test_a_long_horizon_without_a_past_extends_a_shorter_one(tmp_path):
    settings = make(tmp_path, value={"horizons": [273]})
    as_of = Cutoff.parse("1997-09-30")
    assert settings.value.auxiliary_horizons == (30, 60, 90, 180)
    assert learned_horizons(settings, as_of, FIRST_DAY) == (90, 273)
    # Where a configured horizon can be tested, no other is learned.
    assert learned_horizons(settings, Cutoff.parse("1999-12-31"), FIRST_DAY) == (273,)
    days = small_cdnow(700)
    days = days[days["date"] <= pd.Timestamp(as_of.day)]
    panel = make_panel(days, required_cutoffs(settings, as_of, FIRST_DAY), [90, 273], as_of)
    result = train_challenger(settings, panel.columns, panel, as_of, "r")
    entry = result.manifest["horizons"]["273"]
    assert entry["served_by"] == "ensemble_extended"
    assert "learned over 90 days is extended" in entry["reason"]
    assert set(result.leaderboard["horizon_days"]) == {90}
    rows = panel.for_cutoffs([as_of]).features
    found = score_customers(result.model, rows, settings, "r")
    assert set(found["horizon_days"]) == {273} and found["clv"].sum() > 0
    version = save(settings, result)
    again = score_customers(
        store.load_model(settings.paths.models, version)[0], rows, settings, "r"
    )
    pd.testing.assert_frame_equal(again, found, check_exact=True)


def test_a_champion_of_another_day_is_asked_only_what_it_had_not_learned(tmp_path):
    settings = make(tmp_path, value={"horizons": [30, 180]})
    days = small_cdnow(700)
    earlier = Cutoff.parse("1998-05-01")
    older_days = days[days["date"] <= pd.Timestamp(earlier.day)]
    panel = panel_for(settings, older_days, earlier)
    first = train_challenger(settings, panel.columns, panel, earlier, "run-1")
    store.promote(settings.paths.models, save(settings, first), "first", "run-1")
    later = panel_for(settings, days)
    second = train_challenger(settings, later.columns, later, AS_OF, "run-2")
    assert second.champion_as_of == earlier
    # 30 days: asked at 1998-05-31. 180 days: asked at 1998-01-01, whose label it had not seen
    # whole, but learned from in part; so only the first is compared.
    asked = [(f.horizon_days, str(f.evaluation)) for f in second.champion_backtest]
    assert asked == [(30, "1998-05-31")]
    assert decide_challenger(second).comparisons


def test_a_failed_fit_is_said_and_the_rest_goes_on(tmp_path, monkeypatch):
    def fail(self, X, y=None):
        raise FitError("pareto_nbd could not be fitted. The search stopped short.")

    monkeypatch.setattr(HistoryModel, "fit", fail)
    settings = make(tmp_path, value={"horizons": [90]})
    panel = panel_for(settings, small_cdnow(500))
    result = train_challenger(settings, panel.columns, panel, AS_OF, "r")
    assert any("No purchase history at 1998-06-30" in note for note in result.notes)
    assert any("search stopped short" in note for note in result.notes)
    assert any("bg_nbd at 1998-" in n and "is left out" in n for n in result.notes)
    assert not {"btyd", "bg_nbd", "pareto_nbd"} & set(result.leaderboard["model"])
    assert decide_challenger(result).promote
    rows = panel.for_cutoffs([AS_OF]).features
    found = score_customers(result.model, rows, settings, "r")
    assert np.isfinite(found["clv"]).all() and found["clv"].sum() > 0
