"""The list of candidates. Adding a model is one file beside this one and one line here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from clv_pipeline.models.base import Files, FitOptions, ServableModel, ValueModel
from clv_pipeline.models.baselines import (
    ConstantModel,
    LastWindowModel,
    LinearModel,
    RateTimesValueModel,
    SampledRegressor,
)
from clv_pipeline.models.boosting import BoostedMean, HurdleModel
from clv_pipeline.models.compared import SampledBoosting
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.neural.gru import GRUModel
from clv_pipeline.models.neural.ziln import ZILNModel
from clv_pipeline.models.orders import OrdersTimesSpend


@dataclass(frozen=True)
class Candidate:
    """A model that every backtest compares.

    Attributes
    ----------
    name
        In the leaderboard and in settings.
    make
        From the options of a fit, and arguments of its own, to an unfitted model; None where it
        is known with the ensemble only.
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
    is_opaque
        Neither TreeSHAP nor its own form takes it apart: trees stand in for it (``surrogate``).
    is_part
        Fitted with the ensemble, whose part it is, and compared as such.
    knows_season
        What it says carries the season of the window ahead.
    space
        By parameter, the values that a search chooses from: of ``FitOptions``, or an argument of
        ``make``. Empty where there is nothing to search.
    """

    name: str
    make: Callable[..., ValueModel] | None
    complexity: int
    load: Callable[[Files], ServableModel] | None = None
    is_slow: bool = False
    is_label_free: bool = False
    is_neural: bool = False
    reads_days: bool = False
    is_opaque: bool = False
    is_part: bool = False
    knows_season: bool = False
    space: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def build(
        self, options: FitOptions, parameters: Mapping[str, float] | None = None
    ) -> ValueModel:
        """Make an unfitted model, with some parameters of its space set.

        Raises
        ------
        ValueError
            If it is known with the ensemble only.
        """
        if self.make is None:
            raise ValueError(f"'{self.name}' is fitted with the ensemble and not by itself.")
        given = {**options.networks.get(self.name, {}), **(parameters or {})}
        own = {k: plain(v) for k, v in given.items() if not hasattr(options, k)}
        return self.make(with_parameters(options, given), **own)

    def present(self, options: FitOptions) -> dict[str, float]:
        """Return the values that the parameters of the space have now."""
        stated = inspect.signature(self.make).parameters if self.make else {}
        given = options.networks.get(self.name, {})
        return {
            name: float(
                getattr(options, name)
                if hasattr(options, name)
                else given.get(name, stated[name].default)
            )
            for name in self.space
        }


def with_parameters(options: FitOptions, parameters: Mapping[str, float]) -> FitOptions:
    """Set those of the parameters that are options."""
    known: dict[str, Any] = {k: plain(v) for k, v in parameters.items() if hasattr(options, k)}
    return replace(options, **known)


def plain(value: float) -> int | float:
    """Return a whole number as int."""
    return int(value) if float(value).is_integer() else float(value)


def _history(purchases: str, first_order: bool) -> Callable[[FitOptions], ValueModel]:
    return lambda o: HistoryModel(o.horizon_days, purchases, first_order, o.seed)


def _boosted(objective: str) -> Callable[[FitOptions], ValueModel]:
    # Half of the trees with twice the step: they are there to be compared.
    return lambda o: SampledBoosting(o.for_quantiles(), objective)


def _sampled(kind: str, rows: int) -> Callable[[FitOptions], ValueModel]:
    return lambda o: SampledRegressor(kind, o, rows)


# What [model] in clv.toml may be set to; models that are there to be compared take half of the
# trees with twice the step.
BOOSTING: dict[str, tuple[float, ...]] = {
    "trees": (40, 60, 100, 150, 200, 300),
    "depth": (2, 3, 4, 5, 6),
    "learning_rate": (0.03, 0.05, 0.08, 0.13, 0.2),
}
NETWORK: dict[str, tuple[float, ...]] = {
    "epochs": (15, 25, 40, 80),
    "width": (16, 32, 64, 128),
    "step": (5e-4, 1e-3, 2e-3, 5e-3),
}
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
    Candidate("btyd", None, 5, is_part=True),
    Candidate("btyd_seasonal", None, 6, is_part=True, knows_season=True),
    Candidate("linear", lambda o: LinearModel(), 6, LinearModel.from_files),
    Candidate("elastic_net", lambda o: LinearModel(0.5), 7, LinearModel.from_files),
    Candidate("decision_tree", _sampled("decision_tree", 20_000), 8),
    Candidate("random_forest", _sampled("random_forest", 10_000), 9, is_slow=True),
    Candidate("svm", _sampled("svm", 2_000), 10, is_slow=True, is_opaque=True),
    Candidate("mlp", _sampled("mlp", 10_000), 11, is_slow=True, is_opaque=True),
    Candidate("hurdle", HurdleModel, 12, is_part=True, knows_season=True, space=BOOSTING),
    Candidate(
        "tweedie",
        lambda o: BoostedMean(o, "tweedie"),
        13,
        is_part=True,
        knows_season=True,
        space=BOOSTING,
    ),
    Candidate("poisson", OrdersTimesSpend, 14, is_part=True, knows_season=True, space=BOOSTING),
    Candidate("squared", _boosted("squared"), 15, is_slow=True, space=BOOSTING),
    Candidate("absolute", _boosted("absolute"), 15, is_slow=True, space=BOOSTING),
    Candidate(
        "ziln",
        ZILNModel,
        16,
        ZILNModel.from_files,
        is_slow=True,
        is_neural=True,
        is_opaque=True,
        space=NETWORK,
    ),
    Candidate(
        "gru",
        GRUModel,
        17,
        is_slow=True,
        is_neural=True,
        reads_days=True,
        is_opaque=True,
        space=NETWORK,
    ),
)
PARTS = frozenset(c.name for c in CANDIDATES if c.is_part)
# A boosted part alone levels off at its largest leaf, and giants are worth more than that.
SIMPLE_PARTS = ("btyd", "btyd_seasonal")
ENSEMBLE = "ensemble"
COMPLEXITY: dict[str, int] = {c.name: c.complexity for c in CANDIDATES} | {ENSEMBLE: 20}


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
