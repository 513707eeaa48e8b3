"""From a panel to one horizon's fitted model: encoding, unseen rows for the blend, refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pandas as pd

from clv_pipeline.models.base import Files, FitOptions, dump_json, load_json, nest, unnest
from clv_pipeline.models.btyd.fitting import FitError
from clv_pipeline.models.clusters import BEHAVIOUR
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.ensemble import Experts, HorizonModel, LevelZero
from clv_pipeline.models.experts import FittedExperts
from clv_pipeline.models.giants import tame
from clv_pipeline.models.history import HISTORY, HistoryModel
from clv_pipeline.models.learnable import NotTrainableError, check_labels
from clv_pipeline.models.panel import Floats, Matrix, Panel, PanelError, Target
from clv_pipeline.models.sampling import customer_part
from clv_pipeline.models.scratch import Scratch
from clv_pipeline.models.season_index import SeasonIndex
from clv_pipeline.models.seasons import Levels
from clv_pipeline.timeline import Cutoff

CUSTOMER_FOLDS = 2
MOST_KEPT_ROWS = 100_000


@dataclass(eq=False)
class Histories:
    """One buy-till-you-die fit per cutoff, of what was known then; made when first asked for.

    Attributes
    ----------
    panel
        Holds every customer of each cutoff.
    seed
        Of the sample that a large shop is fitted on.
    failures
        Cutoffs whose fit failed, and why.
    cautions
        Cutoffs whose fit serves and is not to be believed in every respect, and why.
    """

    panel: Panel
    seed: int
    failures: dict[Cutoff, str] = field(default_factory=dict)
    cautions: dict[Cutoff, str] = field(default_factory=dict)
    _models: dict[Cutoff, HistoryModel | None] = field(default_factory=dict)

    def at(self, cutoff: Cutoff) -> HistoryModel | None:
        """Return the model of a cutoff, or None where it can't be fitted."""
        if cutoff not in self._models:
            try:
                rows = history_matrix(self.panel.for_cutoffs([cutoff]).features)
                model = HistoryModel(1, seed=self.seed).fit(rows)
                self._models[cutoff] = model
                caution = model.caution()
                if caution is not None:
                    self.cautions[cutoff] = caution
            except (FitError, PanelError, ValueError) as error:
                self.failures[cutoff] = str(error)
                self._models[cutoff] = None
        return self._models[cutoff]

    def columns(self, rows: pd.DataFrame, horizon_days: int) -> dict[str, Floats]:
        """Return each row's forecast by the model of its own cutoff; empty if any is missing."""
        cutoffs = [Cutoff(day.date()) for day in rows["cutoff_date"].unique()]
        models = {cutoff: model for cutoff in cutoffs if (model := self.at(cutoff)) is not None}
        if len(models) < len(cutoffs):
            return {}
        found: dict[str, Floats] = {}
        for cutoff, model in models.items():
            mask = (rows["cutoff_date"] == pd.Timestamp(cutoff.day)).to_numpy()
            forecast = model.for_horizon(horizon_days).forecast(history_matrix(rows[mask]))
            for name, values in forecast.items():
                found.setdefault(name, np.zeros(len(rows)))[mask] = values
        return found


def history_matrix(rows: pd.DataFrame) -> Matrix:
    """Return the columns that sum up a purchase history, unencoded."""
    return Encoder(tuple(dict.fromkeys((*HISTORY, *BEHAVIOUR))), {}).transform(rows)


class Workbench:
    """What the fits of one horizon share, so that nothing is fitted twice.

    The experts that a backtest asks about a cutoff are those that the next model's blend asks
    about it: both are fitted on the cutoffs that had matured there.

    Parameters
    ----------
    panel
        Every customer of each cutoff, with matured labels.
    options
        Horizon, seed, trees and so on.
    histories
        Buy-till-you-die fits by cutoff.
    scratch
        Keeps fitted experts for a training that goes on.
    """

    def __init__(
        self,
        panel: Panel,
        options: FitOptions,
        histories: Histories,
        scratch: Scratch | None = None,
    ) -> None:
        self.scratch = scratch or Scratch(None)
        self.panel = panel
        self.options = options
        self.histories = histories
        self._experts: dict[tuple[Cutoff, ...], FittedExperts] = {}
        self._said: dict[tuple[Cutoff, ...], Experts] = {}
        self._levels: Levels | None = None

    def learnable(self, cutoffs: Sequence[Cutoff]) -> tuple[pd.DataFrame, Target]:
        """Return feature rows of some cutoffs, and their labels with giants tamed."""
        rows, y = self.panel.for_cutoffs(cutoffs).matrix(self.options.horizon_days)
        return rows, tame(y, rows["cutoff_date"].to_numpy(), self.options.giant_multiple)

    def levels(self, newest: Cutoff) -> Levels:
        """Return the level of every cutoff up to one whose label matured."""
        if self._levels is None:
            horizon, giants = self.options.horizon_days, self.options.giant_multiple
            levels = Levels(horizon, {}, SeasonIndex(tuple(self.options.season_index)))
            for cutoff in self.panel.cutoffs:
                rows, y = self.learnable([cutoff])
                if len(rows) and self.histories.at(cutoff) is not None:
                    X = history_matrix(rows)
                    X = X.with_columns(self.histories.columns(rows, horizon))
                    found = Levels.measure(X, y, horizon, giants, levels.index)
                    levels = replace(found, known={**levels.known, **found.known})
            self._levels = levels
        return self._levels.through(newest)

    def experts(self, cutoffs: Sequence[Cutoff]) -> FittedExperts:
        """Return the experts fitted on the labels of some cutoffs.

        Raises
        ------
        NotTrainableError
            If the labels hold too few customers of either kind.
        """
        key = tuple(cutoffs)
        if key not in self._experts:
            name = "_".join(map(str, ("experts", self.options.horizon_days, *key)))
            kept = self.scratch.find(name)
            if kept is not None:
                self._experts[key] = FittedExperts.from_files(kept)
                return self._experts[key]
            rows, y = self.learnable(cutoffs)
            check_labels(y, self.options.horizon_days)
            self._experts[key] = self.fit(rows, y, self.levels(key[-1]))
            self.scratch.keep(name, self._experts[key].to_files())
        return self._experts[key]

    def fit(self, rows: pd.DataFrame, y: Target, levels: Levels) -> FittedExperts:
        """Fit an encoder and experts on raw rows, around the levels of their cutoffs."""
        extra = self.histories.columns(rows, self.options.horizon_days)
        encoder, X = Encoder.fit_transform(rows, self.panel.columns, y)
        X = X.with_columns(extra)
        level_zero = LevelZero(self.options).fit(X, y, levels if extra else None)
        return FittedExperts(encoder, level_zero, bool(extra))

    def ask(self, cutoff: Cutoff, known: Sequence[Cutoff]) -> Experts:
        """Return what experts fitted on some cutoffs say of a later one.

        Raises
        ------
        NotTrainableError
            If the labels hold too few customers of either kind.
        """
        key = (cutoff, *known)
        if key in self._said:
            return self._said[key]
        experts = self.experts(known)
        rows, _ = self.panel.for_cutoffs([cutoff]).matrix(self.options.horizon_days)
        said = experts.level_zero.predict(self.matrix(rows, experts))
        # Of a large shop it is quicker to ask again than to keep the answers.
        if len(rows) <= MOST_KEPT_ROWS:
            self._said[key] = said
        return said

    def has_history(self, cutoffs: Sequence[Cutoff]) -> bool:
        """Whether a buy-till-you-die model could be fitted at each of the cutoffs."""
        return all(self.histories.at(cutoff) is not None for cutoff in cutoffs)

    def matrix(self, rows: pd.DataFrame, experts: FittedExperts) -> Matrix:
        """Encode raw rows as the experts know them, each with the forecast made at its cutoff.

        Raises
        ------
        PanelError
            If a cutoff's buy-till-you-die model is missing that the experts rely on.
        """
        X = experts.encoder.transform(rows)
        if not experts.uses_history:
            return X
        extra = self.histories.columns(rows, self.options.horizon_days)
        if not extra and len(rows):
            raise PanelError("a cutoff's buy-till-you-die model could not be fitted.")
        return X.with_columns(extra)


class FittedHorizon:
    """An encoder and a horizon's model: from raw feature rows to answers.

    Parameters
    ----------
    options
        Horizon, seed, trees and so on.

    Attributes
    ----------
    encoder_, model_
        Fitted on the training rows alone.
    uses_history_
        Whether the buy-till-you-die expert takes part.
    cutoffs_
        Training cutoffs.
    blend_rule_
        How the blend's rows were kept unseen.
    """

    def __init__(self, options: FitOptions) -> None:
        self.options = options

    def fit(
        self,
        bench: Workbench,
        cutoffs: Sequence[Cutoff],
        blend_cutoffs: Sequence[Cutoff],
        earlier: Sequence[tuple[Cutoff, Sequence[Cutoff]]] = (),
    ) -> Self:
        """Fit on the labels of some cutoffs.

        Parameters
        ----------
        bench
            Panel, purchase histories, and experts that were fitted before.
        cutoffs
            Training cutoffs, oldest first.
        blend_cutoffs
            Cutoffs whose labels were matured at the newest training cutoff; when there are none,
            customers are held out instead.
        earlier
            Cutoffs before the newest, each with those that were matured at it: what experts
            fitted on these said of it corrects the intervals, too.

        Raises
        ------
        NotTrainableError
            If the labels hold too few customers of either kind.
        """
        newest = cutoffs[-1]
        unseen = self._by_time(bench, cutoffs, newest, blend_cutoffs)
        if unseen is None:
            unseen = self._by_customer(bench, cutoffs, newest)
        experts = bench.experts(cutoffs)
        self.cutoffs_ = tuple(cutoffs)
        self.encoder_, self.uses_history_ = experts.encoder, experts.uses_history
        rows, target = bench.learnable([newest])
        # Every fit numbers its clusters in its own way.
        numbers = experts.level_zero.clusters_.predict(history_matrix(rows))
        levels = bench.levels(newest) if self.uses_history_ else None
        past = [self._ask(bench, cutoff, known, experts) for cutoff, known in earlier]
        self.model_ = HorizonModel(self.options).fit(
            experts.level_zero,
            replace(unseen, cluster=numbers),
            target,
            levels,
            [found for found in past if found is not None],
        )
        return self

    def _ask(
        self,
        bench: Workbench,
        cutoff: Cutoff,
        known: Sequence[Cutoff],
        served: FittedExperts,
    ) -> tuple[Experts, Target] | None:
        """Return what experts fitted on some cutoffs say of a later one, and what came of it."""
        if cutoff not in bench.panel.cutoffs or not set(known) <= set(bench.panel.cutoffs):
            return None
        try:
            experts = bench.experts(known)
        except NotTrainableError:
            return None
        if experts.uses_history != served.uses_history:
            return None
        rows, target = bench.learnable([cutoff])
        said = bench.ask(cutoff, known)
        numbers = served.level_zero.clusters_.predict(history_matrix(rows))
        return replace(said, cluster=numbers), target

    def _by_time(
        self,
        bench: Workbench,
        cutoffs: Sequence[Cutoff],
        newest: Cutoff,
        blend_cutoffs: Sequence[Cutoff],
    ) -> Experts | None:
        known = [c for c in blend_cutoffs if c in bench.panel.cutoffs]
        if not known:
            return None
        try:
            experts = bench.experts(known)
        except NotTrainableError:
            return None
        if experts.uses_history != bench.has_history(cutoffs):
            return None
        self.blend_rule_ = (
            f"experts fitted on {', '.join(map(str, known))} were asked about {newest}"
        )
        return bench.ask(newest, known)

    def _by_customer(self, bench: Workbench, cutoffs: Sequence[Cutoff], newest: Cutoff) -> Experts:
        rows, y = bench.learnable(cutoffs)
        is_newest = (rows["cutoff_date"] == pd.Timestamp(newest.day)).to_numpy()
        part = customer_part(rows["customer_id"], CUSTOMER_FOLDS)
        found, places = [], []
        position = np.cumsum(is_newest) - 1
        for k in range(CUSTOMER_FOLDS):
            inside, outside = part != k, (part == k) & is_newest
            check_labels(y.take(inside), self.options.horizon_days, share=0.25)
            experts = bench.fit(rows[inside], y.take(inside), bench.levels(newest))
            found.append(experts.level_zero.predict(bench.matrix(rows[outside], experts)))
            places.append(position[outside])
        self.blend_rule_ = (
            f"no cutoff was matured at the newest one, so {CUSTOMER_FOLDS} groups of customers "
            "were held out in turn"
        )
        return Experts.concatenate(found, np.argsort(np.concatenate(places)))

    def matrix(self, rows: pd.DataFrame, history: HistoryModel | None) -> Matrix:
        """Encode raw rows, with the forecast of a buy-till-you-die model.

        Raises
        ------
        PanelError
            If a feature is missing, or the model that the fit relied on.
        """
        X = self.encoder_.transform(rows)
        if not self.uses_history_:
            return X
        if history is None:
            raise PanelError("the buy-till-you-die model that the ensemble blends is missing.")
        forecast = history.for_horizon(self.options.horizon_days).forecast(history_matrix(rows))
        return X.with_columns(forecast)

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        document = {
            "options": vars(self.options),
            "encoder": self.encoder_.to_dict(),
            "uses_history": self.uses_history_,
            "cutoffs": [str(c) for c in self.cutoffs_],
            "blend_rule": self.blend_rule_,
        }
        return {"fold.json": dump_json(document)} | nest("model", self.model_.to_files())

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["fold.json"])
        fitted = cls(FitOptions(**document["options"]))
        fitted.encoder_ = Encoder.from_dict(document["encoder"])
        fitted.uses_history_ = document["uses_history"]
        fitted.cutoffs_ = tuple(Cutoff.parse(c) for c in document["cutoffs"])
        fitted.blend_rule_ = document["blend_rule"]
        fitted.model_ = HorizonModel.from_files(unnest("model", files))
        return fitted
