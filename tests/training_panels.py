"""A small training that several tests look at."""

from __future__ import annotations

from datetime import date

from clv_pipeline.evaluation.backtest import dump_forecasts
from clv_pipeline.models import store
from clv_pipeline.planning import required_cutoffs
from clv_pipeline.settings import build_settings
from clv_pipeline.timeline import Cutoff
from tests.models.panels import make_panel

AS_OF = Cutoff.parse("1998-06-30")
FIRST_DAY = date(1997, 1, 1)
SECTIONS = {
    "value": {"horizons": [90, 365, 500]},
    "cadence": {"training_step_days": 45, "training_cutoffs": 2, "backtest_folds": 1},
    "model": {"trees": 12, "threads": 1, "clusters": 4},
}


def make(folder, **sections):
    return build_settings(folder, SECTIONS | sections)


def panel_for(settings, days, as_of=AS_OF):
    cutoffs = required_cutoffs(settings, as_of, FIRST_DAY)
    return make_panel(days, cutoffs, settings.value.horizons, as_of)


def save(settings, result):
    folder = settings.paths.models
    folder.mkdir(parents=True, exist_ok=True)
    store.save_model(folder, result.model, result.manifest, dump_forecasts(result.backtest))
    return str(result.manifest["model_version"])
