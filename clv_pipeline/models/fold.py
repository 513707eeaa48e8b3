"""From a panel to one horizon's fitted model: encoding, unseen rows for the blend, refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import pandas as pd

from clv_pipeline.models.base import Files, FitOptions, dump_json, load_json, nest, unnest
from clv_pipeline.models.distributing import Preparation, distribute, labelled_head
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.ensemble import Experts, Gather, HorizonModel, LevelZero
from clv_pipeline.models.experts import FittedExperts
from clv_pipeline.models.giants import find_cap, tame
from clv_pipeline.models.histories import Histories, history_matrix
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.learnable import NotTrainableError, check_labels
from clv_pipeline.models.panel import Matrix, Panel, PanelError, Target
from clv_pipeline.models.sampling import customer_part
from clv_pipeline.models.scratch import Scratch
from clv_pipeline.models.season_index import SeasonIndex
from clv_pipeline.models.seasons import Levels
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

CUSTOMER_FOLDS = 2
MOST_KEPT_ROWS = 100_000


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
    settings
        Of the engine that keeps these rows, and more, where large training sets are learned there.
    """

    def __init__(
        self,
        panel: Panel,
        options: FitOptions,
        histories: Histories,
        scratch: Scratch | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.scratch = scratch or Scratch(None)
        self.panel = panel
        self.options = options
        self.histories = histories
        self.settings = settings
        self._experts: dict[tuple[Cutoff, ...], FittedExperts] = {}
        self._said: dict[tuple[Cutoff, ...], Experts] = {}
        self._levels: Levels | None = None

    def learnable(self, cutoffs: Sequence[Cutoff]) -> tuple[pd.DataFrame, Target]:
        """Return feature rows of some cutoffs, and their labels with giants tamed."""
        rows, y = self.panel.matrix(self.options.horizon_days, cutoffs)
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

    def fit(
        self,
        rows: pd.DataFrame,
        y: Target,
        levels: Levels,
        left_out: tuple[int, int] | None = None,
    ) -> FittedExperts:
        """Fit an encoder and experts on raw rows, around the levels of their cutoffs.

        ``left_out`` says which group of how many customers the rows lack.
        """
        extra = self.histories.columns(rows, self.options.horizon_days)
        encoder, X = Encoder.fit_transform(rows, self.panel.columns, y)
        X = X.with_columns(extra)
        known = levels if extra and levels.known else None
        gather = self._gather(rows, y, encoder, bool(extra), known, left_out)
        level_zero = LevelZero(self.options).fit(X, y, known, gather)
        return FittedExperts(encoder, level_zero, bool(extra))

    def _gather(
        self,
        rows: pd.DataFrame,
        y: Target,
        encoder: Encoder,
        uses_history: bool,
        levels: Levels | None,
        left_out: tuple[int, int] | None,
    ) -> Gather | None:
        """Return how the engine gathers such rows; None where they are few enough to learn here."""
        if self.settings is None or not 0 < self.options.distributed_rows <= len(rows):
            return None
        horizon, multiple = self.options.horizon_days, self.options.giant_multiple
        cutoffs = [Cutoff(day.date()) for day in sorted(rows["cutoff_date"].unique())]
        labels = {c: self.panel.matrix(horizon, [c])[1].value for c in cutoffs}
        models = {c: model for c in cutoffs if (model := self.histories.at(c)) is not None}
        made = Preparation(
            encoder,
            encoder.leave_out(rows, y),
            models if uses_history else {},
            horizon,
            {c: find_cap(values, multiple) for c, values in labels.items()},
            levels,
            left_out,
        )
        few, settings = labelled_head(rows, y), self.settings
        return lambda clusters: distribute(settings, few, replace(made, clusters=clusters))

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
        rows, _ = self.panel.matrix(self.options.horizon_days, [cutoff])
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

    def tilt_to(self, rows: pd.DataFrame, history: HistoryModel | None) -> None:
        """Learn the usual chance at each value from raw rows of the cutoff that is asked about."""
        few = rows.iloc[:: 1 + len(rows) // MOST_KEPT_ROWS]
        self.model_.tilt_to(self.model_.level_zero_.predict(self.matrix(few, history)))

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
            experts = bench.fit(
                rows[inside], y.take(inside), bench.levels(newest), (k, CUSTOMER_FOLDS)
            )
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

    def level(self, cutoff: Cutoff) -> float:
        """Return what the season makes of the values after a cutoff, as a log ratio."""
        day = np.array([cutoff.day], dtype="datetime64[ns]")
        return float(np.log(self.model_.value_factor(day)[0]))

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
