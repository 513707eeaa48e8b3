"""The list of candidates. Adding a model is one file beside this one and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clv_pipeline.models.base import Files, FitOptions, ServableModel, ValueModel
from clv_pipeline.models.baselines import (
    ConstantModel,
    LastWindowModel,
    LinearModel,
    RateTimesValueModel,
    SampledRegressor,
)
from clv_pipeline.models.boosting import BoostedMean
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.neural.gru import GRUModel
from clv_pipeline.models.neural.ziln import ZILNModel


@dataclass(frozen=True)
class Candidate:
    """A model that every backtest compares.

    Attributes
    ----------
    name
        In the leaderboard and in settings.
    make
        From the options of a fit to an unfitted model.
    complexity
        The simplest unbeaten model serves; lower is simpler.
    load
        Reads the saved model; None where it is for comparison only.
    is_slow
        Left out of older backtest folds unless ``model.candidates`` is ``full``.
    is_label_free
        Fitted on the features of the cutoff that it predicts, since it needs no labels.
    is_neural
        Takes part where ``model.neural`` is on; needs PyTorch.
    reads_days
        Reads the purchases one by one, by ``with_days``; left out where the panel has none.
    """

    name: str
    make: Callable[[FitOptions], ValueModel]
    complexity: int
    load: Callable[[Files], ServableModel] | None = None
    is_slow: bool = False
    is_label_free: bool = False
    is_neural: bool = False
    reads_days: bool = False


def _history(purchases: str, first_order: bool) -> Callable[[FitOptions], ValueModel]:
    return lambda o: HistoryModel(o.horizon_days, purchases, first_order, o.seed)


def _boosted(objective: str) -> Callable[[FitOptions], ValueModel]:
    # Half of the trees with twice the step: they are there to be compared.
    return lambda o: BoostedMean(o.for_quantiles(), objective)


def _sampled(kind: str, rows: int) -> Callable[[FitOptions], ValueModel]:
    return lambda o: SampledRegressor(kind, o, rows)


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("zero", lambda o: ConstantModel("zero"), 0),
    Candidate("mean", lambda o: ConstantModel("mean"), 1),
    Candidate(
        "last_days", lambda o: LastWindowModel(o.horizon_days), 2, LastWindowModel.from_files
    ),
    Candidate(
        "rate_times_aov",
        lambda o: RateTimesValueModel(o.horizon_days),
        3,
        RateTimesValueModel.from_files,
    ),
    Candidate("bg_nbd", _history("bg_nbd", False), 4, HistoryModel.from_files, is_label_free=True),
    Candidate(
        "pareto_nbd", _history("pareto_nbd", False), 5, HistoryModel.from_files, is_label_free=True
    ),
    Candidate("linear", lambda o: LinearModel(), 6, LinearModel.from_files),
    Candidate("elastic_net", lambda o: LinearModel(0.5), 7, LinearModel.from_files),
    Candidate("decision_tree", _sampled("decision_tree", 40_000), 8),
    Candidate("random_forest", _sampled("random_forest", 10_000), 9, is_slow=True),
    Candidate("svm", _sampled("svm", 3_000), 10, is_slow=True),
    Candidate("mlp", _sampled("mlp", 10_000), 11, is_slow=True),
    Candidate("squared", _boosted("squared"), 15, is_slow=True),
    Candidate("absolute", _boosted("absolute"), 15, is_slow=True),
    Candidate("median", _boosted("median"), 15, is_slow=True),
    Candidate("ziln", ZILNModel, 16, ZILNModel.from_files, is_slow=True, is_neural=True),
    Candidate("gru", GRUModel, 17, is_slow=True, is_neural=True, reads_days=True),
)
# Parts of the ensemble, fitted with it; they stand in the leaderboard under these names.
PARTS: dict[str, int] = {"btyd": 5, "btyd_seasonal": 6, "hurdle": 12, "tweedie": 13, "poisson": 14}
# A boosted part alone levels off at its largest leaf, and giants are worth more than that.
SIMPLE_PARTS = ("btyd", "btyd_seasonal")
ENSEMBLE = "ensemble"
COMPLEXITY: dict[str, int] = {c.name: c.complexity for c in CANDIDATES} | PARTS | {ENSEMBLE: 20}


def find_candidate(name: str) -> Candidate:
    """Return a candidate by name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    for candidate in CANDIDATES:
        if candidate.name == name:
            return candidate
    raise ValueError(f"'{name}' is no candidate: {', '.join(c.name for c in CANDIDATES)} are.")


def load_candidate(name: str, files: Files) -> Any:
    """Read a saved candidate.

    Raises
    ------
    ValueError
        If the candidate is for comparison only.
    """
    candidate = find_candidate(name)
    if candidate.load is None:
        raise ValueError(f"'{name}' is for comparison and can't serve.")
    return candidate.load(files)
