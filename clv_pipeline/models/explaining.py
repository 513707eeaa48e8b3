"""Why a customer is worth what is predicted: effects of a few plain concepts, in money.

Each expert is taken apart exactly on its own scale, then the parts follow the prediction's own
arithmetic: links, products, the blend, the bridge to a longer horizon (``attribution``). So
``base + effects`` is the published value, to ``TOLERANCE``.

- Boosted experts: XGBoost's TreeSHAP (``treeshap``). Contributions of columns that are themselves
  computed (K-means distances, buy-till-you-die forecasts) are passed on to what they were computed
  from.
- Buy-till-you-die: exact Shapley values over order days, silence, tenure and spend, each swapped
  against the reference customer (``swapping``).
- What comes after the experts (tilt, order of horizons, discount, totals) is passed on twice: the
  shop's ratio scales base and effects alike, each customer's remainder is spread by effects' size.
- A rate of orders times their mean value: Shapley values as for buy-till-you-die.
- A model of no known form: TreeSHAP of trees that stand in for it (``surrogate``), which say how
  well they do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clv_pipeline.models.attribution import Parts, mix
from clv_pipeline.models.base import ValueModel
from clv_pipeline.models.baselines import LinearModel, RateTimesValueModel, squash
from clv_pipeline.models.boosters import LEAST_CHANCE, MOST_CHANCE, log_amount, log_count
from clv_pipeline.models.boosting import BoostedMean, HurdleModel, SpendModel
from clv_pipeline.models.clusters import BEHAVIOUR, BehaviourClusters
from clv_pipeline.models.clv import LEARNED_SHARE, CLVModel
from clv_pipeline.models.fold import FittedHorizon
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.history import FORECAST, HistoryModel
from clv_pipeline.models.panel import Floats, Matrix
from clv_pipeline.models.surrogate import SurrogateTrees
from clv_pipeline.models.swapping import (
    HistoryGames,
    ReferenceCustomer,
    SwappedHistories,
    rate_times_value,
)
from clv_pipeline.models.treeshap import TreeContributions

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

# base + effects may differ from the published value by this share of it (and of 1 unit of money).
TOLERANCE = 1e-6
BATCH_ROWS = 100_000
CONCEPTS = (
    "recency",
    "frequency",
    "spend",
    "trend",
    "tenure",
    "engagement",
    "profile",
    "season",
    "refunds",
    "variety",
)
# The first pattern that a feature's name holds names its concept; otherwise its view does.
_BY_NAME: tuple[tuple[str, str], ...] = (
    (r"season|calendar|holiday|last_year|weekday|month_", "season"),
    (r"refund|return", "refunds"),
    (r"sku|article|categor|brand|basket", "variety"),
    (r"exposure|campaign|click|search|text|sentiment|complaint", "engagement"),
    (r"price|discount", "spend"),
    (r"visit|session|page_view|cart|abandoned", "engagement"),
    (r"^tenure|^T$", "tenure"),
    (r"trend|_\d+d$", "trend"),
    (r"since_last_order|overdue|^recency$", "recency"),
    (r"frequency|count_order|days_between|gap", "frequency"),
    (r"value", "spend"),
)
_BY_VIEW = {"feat_windows": "trend", "feat_profile": "profile", "feat_engagement": "engagement"}


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the customers' values over one horizon are what they are.

    Attributes
    ----------
    horizon_days
        H of the value.
    base
        Value of the reference customer, reporting currency.
    effects
        Indexed by customer_id, a column per concept, reporting currency. Each row and ``base`` add
        up to that customer's value.
    """

    horizon_days: int
    base: float
    effects: pd.DataFrame


def concept_of(name: str, view: str = "") -> str:
    """Return the concept of a feature.

    Parameters
    ----------
    name, view
        The feature's column and the ``feat_*`` model that computes it.
    """
    for pattern, concept in _BY_NAME:
        if re.search(pattern, name):
            return concept
    return _BY_VIEW.get(view, "frequency")


def explain_values(
    model: CLVModel,
    rows: pd.DataFrame,
    published: pd.Series[float],
    horizon_days: int,
    features: Iterable[Feature] = (),
) -> Explanation:
    """Take the published values over one horizon apart.

    Parameters
    ----------
    model
        What served them.
    rows
        Every customer's features of one cutoff; together they make the reference customer.
    published
        The values, by customer_id.
    horizon_days
        One of the model's horizons.
    features
        The registry, which says the view of a feature.
    """
    ordered = rows.sort_values("customer_id", ignore_index=True)
    customers = ordered["customer_id"]
    value = np.asarray(published.reindex(customers.to_numpy()), dtype=np.float64)
    explainer = Explainer(model, ReferenceCustomer.of(history_matrix(ordered)), features)
    parts = [
        explainer.horizon(ordered.iloc[start : start + BATCH_ROWS], horizon_days)
        for start in range(0, len(ordered), BATCH_ROWS)
    ]
    effects = np.vstack([p.effects for p in parts]) if parts else np.zeros((0, len(CONCEPTS)))
    raw = Parts(parts[0].base if parts else 0.0, effects)
    found = fit_to(raw, value, scale_to(float(raw.total.sum()), float(value.sum())))
    index = pd.Index(customers.to_numpy(), name="customer_id")
    return Explanation(
        horizon_days, found.base, pd.DataFrame(found.effects, index=index, columns=list(CONCEPTS))
    )


class Explainer:
    """Takes values apart, any number at a time; arguments as `explain_values` finds them."""

    def __init__(
        self, model: CLVModel, reference: ReferenceCustomer, features: Iterable[Feature] = ()
    ) -> None:
        self.model = model
        self.reference = reference
        self.concepts = {f.name: concept_of(f.name, f.view) for f in features}
        self.surrogates: dict[int, SurrogateTrees] = {}
        # What was worked out of a booster for one batch of customers serves the next.
        self._trees: dict[int, TreeContributions] = {}

    def horizon(self, rows: pd.DataFrame, horizon: int) -> Parts:
        """Take one horizon's value apart, as ``CLVModel`` answers for it; `fit_to` comes after."""
        model = self.model
        X = history_matrix(rows)
        swapped = SwappedHistories(X, self.reference)
        if horizon in model.bridged_ and model.history_ is not None:
            return self._bridge(rows, swapped, horizon, model.history_)
        fitted = model.fitted_.get(horizon)
        simpler = model.simpler_.get(horizon)
        if fitted is None:
            return self._history(swapped, horizon, model.history_)
        if simpler is None:
            return self._blend(rows, swapped, fitted)
        if isinstance(simpler, HistoryModel):
            return self._history(swapped, horizon, simpler)
        if isinstance(simpler, LinearModel):
            return self._linear(fitted.matrix(rows, model.history_), simpler)
        if isinstance(simpler, RateTimesValueModel):
            return self._history(swapped, horizon, None)
        return self._stand_in(fitted.matrix(rows, model.history_), horizon, simpler)

    def _history(
        self, swapped: SwappedHistories, horizon: int, history: HistoryModel | None
    ) -> Parts:
        if history is None:
            return swapped.explain(rate_times_value(swapped, horizon), CONCEPTS)
        games = HistoryGames(history.for_horizon(horizon), swapped)
        return swapped.explain(games.value, CONCEPTS)

    def _bridge(
        self, rows: pd.DataFrame, swapped: SwappedHistories, horizon: int, history: HistoryModel
    ) -> Parts:
        """Buy-till-you-die, and the shorter horizon's value times its growth."""
        shorter = self.model.bridged_[horizon]
        near, far = (HistoryGames(history.for_horizon(h), swapped) for h in (shorter, horizon))

        def growth(mask: int) -> Floats:
            known = near.orders(mask) > 0
            ones = np.ones(len(swapped))
            return np.divide(far.orders(mask), near.orders(mask), out=ones, where=known)

        learned = self.horizon(rows, shorter)
        grown = learned.product(swapped.explain(growth, CONCEPTS, never_ordered=1.0))
        model, days = self.model.fitted_[shorter].model_, history_matrix(rows).cutoff_date[:1]
        near_season, season = (
            float(model.season_factor(days, h).sum()) or 1.0 for h in (shorter, horizon)
        )
        known = swapped.explain(far.value, CONCEPTS).times((1 - LEARNED_SHARE) * season)
        return known + grown.times(LEARNED_SHARE * season / near_season)

    def _blend(self, rows: pd.DataFrame, swapped: SwappedHistories, fitted: FittedHorizon) -> Parts:
        horizon = fitted.options.horizon_days
        level_zero, history = fitted.model_.level_zero_, self.model.history_
        X = fitted.matrix(rows, history)
        seen = X.with_columns(level_zero.clusters_.columns(X))
        shares = self._shares_of_distances(seen, level_zero.clusters_)
        experts: dict[str, Parts] = {}
        games = None
        if FORECAST[0] in X and history is not None:
            games = HistoryGames(history.for_horizon(horizon), swapped)
            experts["btyd"] = swapped.explain(games.value, CONCEPTS)
            shares |= dict.fromkeys(FORECAST, _sizes_as_shares(experts["btyd"].effects))
        starts = _Starts(swapped, games)
        experts["hurdle"] = self._hurdle(level_zero.hurdle_, seen, shares, starts)
        experts["tweedie"] = self._mean(level_zero.tweedie_, seen, shares)
        experts["poisson"] = self._orders(
            level_zero.orders_, level_zero.spend_, seen, shares, starts
        )
        blend = fitted.model_.value_blend_
        said = {name: parts.total for name, parts in experts.items()}
        cluster = level_zero.clusters_.predict(X)
        total = fitted.model_.blend(said, level_zero.chances(seen), cluster)
        weights = blend.row_weights(said, cluster)
        found = mix(experts, weights, blend.weights_, total, _sizes_as_shares)
        # The rows are of one cutoff, so the season is one factor.
        season = fitted.model_.value_factor(X.cutoff_date)
        return found.times(float(season[0])) if len(X) else found

    def _hurdle(
        self, model: HurdleModel, X: Matrix, shares: dict[str, Floats], starts: _Starts
    ) -> Parts:
        odds = self._margins(model.classifier_, X, shares, start=starts.odds())
        amount = self._margins(model.amount_, X, shares, start=starts.amount(model.scale_))
        return odds.through(_logistic).product(amount.through(np.exp)).times(model.scale_)

    def _orders(
        self,
        model: BoostedMean,
        spend: SpendModel,
        X: Matrix,
        shares: dict[str, Floats],
        starts: _Starts,
    ) -> Parts:
        count = self._margins(model.booster_, X, shares, start=starts.count(model.scale_))
        each = self._margins(spend.booster_, X, shares, start=None)
        found = count.through(np.exp).product(each.through(np.exp))
        return found.times(model.scale_ * spend.scale_)

    def _mean(self, model: BoostedMean, X: Matrix, shares: dict[str, Floats]) -> Parts:
        return (
            self._margins(model.booster_, X, shares, start=None).through(np.exp).times(model.scale_)
        )

    def _margins(
        self, booster: Any, X: Matrix, shares: dict[str, Floats], *, start: Parts | None
    ) -> Parts:
        """Sum a booster's contributions over the columns of each concept, and where it started."""
        if id(booster) not in self._trees:
            # A column whose contribution is shared out is a group of its own.
            shared = [name for name in X.names if name in shares]
            places = {name: k for k, name in enumerate((*CONCEPTS, *shared))}
            groups = [places[n if n in shares else self._concept(n)] for n in X.names]
            self._trees[id(booster)] = TreeContributions(
                booster, np.array(groups), shared, has_offset=start is not None
            )
        trees = self._trees[id(booster)]
        base, contributions = trees.explain(X)
        effects = contributions[:, : len(CONCEPTS)]
        for k, name in enumerate(trees.own, len(CONCEPTS)):
            effects += contributions[:, k, None] * shares[name]
        found = Parts(base, effects)
        return found if start is None else found + start

    def _shares_of_distances(self, X: Matrix, clusters: BehaviourClusters) -> dict[str, Floats]:
        """Share each distance among the behaviours by their squared distance from that centroid."""
        points = clusters.standardize(X)
        places = [CONCEPTS.index(self._concept(name)) for name in BEHAVIOUR]
        found = {}
        for k, centroid in enumerate(clusters.centroids_):
            sizes = np.zeros((len(X), len(CONCEPTS)))
            for j, place in enumerate(places):
                sizes[:, place] += (points[:, j] - centroid[j]) ** 2
            found[f"cluster_distance_{k}"] = _sizes_as_shares(sizes)
        return found

    def _linear(self, X: Matrix, model: LinearModel) -> Parts:
        raw = squash(X.values)
        filled = (np.where(np.isnan(raw), model.median_, raw) - model.center_) / model.spread_
        effects = np.zeros((len(X), len(CONCEPTS)))
        for k, name in enumerate(X.names):
            effects[:, CONCEPTS.index(self._concept(name))] += filled[:, k] * model.coefficients_[k]
        return Parts(model.intercept_, effects).through(lambda line: np.maximum(line, 0.0))

    def _stand_in(self, X: Matrix, horizon: int, model: ValueModel) -> Parts:
        """Take a model of unknown form apart by the trees that stand in for it."""
        if horizon not in self.surrogates:
            self.surrogates[horizon] = SurrogateTrees().fit(X, model.predict(X))
        found = self.surrogates[horizon].contributions(X)
        effects = np.zeros((len(X), len(CONCEPTS)))
        for k, name in enumerate(X.names):
            effects[:, CONCEPTS.index(self._concept(name))] += found.effects[:, k]
        return Parts(found.base, effects)

    def _concept(self, name: str) -> str:
        return self.concepts.get(name) or concept_of(name)


class _Starts:
    """Where boosted experts start from: buy-till-you-die on their scales, taken apart.

    Parameters
    ----------
    swapped
        The customers.
    games
        Of the model that the experts start from; None where they start from a constant.
    """

    def __init__(self, swapped: SwappedHistories, games: HistoryGames | None) -> None:
        self.swapped = swapped
        self.games = games

    def odds(self) -> Parts | None:
        """Return the log odds of an order."""
        games, nothing = self.games, float(_log_odds(np.zeros(1))[0])
        if games is None:
            return None
        return self.swapped.explain(lambda mask: _log_odds(games.chance(mask)), CONCEPTS, nothing)

    def amount(self, scale: float) -> Parts | None:
        """Return the logarithm of a buyer's value in units of ``scale``."""
        games = self.games
        if games is None:
            return None

        def worth(mask: int) -> Floats:
            return log_amount(games.value(mask), games.chance(mask), scale) - math.log(scale)

        return self.swapped.explain(worth, CONCEPTS)

    def count(self, scale: float) -> Parts | None:
        """Return the logarithm of the orders in units of ``scale``."""
        games, nothing = self.games, float(log_count(np.zeros(1), scale)[0])
        if games is None:
            return None
        return self.swapped.explain(
            lambda mask: log_count(games.orders(mask), scale), CONCEPTS, nothing
        )


def scale_to(explained: float, published: float) -> float:
    """Return what the shop's parts are multiplied by, for their total to be what is published."""
    return published / explained if explained > 0 and published > 0 else 1.0


def fit_to(parts: Parts, value: Floats, scale: float) -> Parts:
    """Pass on what came after the experts, so that base and effects add up to the values."""
    parts = parts.times(scale)
    remainder = value - parts.total
    return Parts(parts.base, parts.effects + remainder[:, None] * _sizes_as_shares(parts.effects))


def _sizes_as_shares(effects: Floats) -> Floats:
    """Return the share of each concept in the summed sizes; all to frequency where all are 0."""
    sizes = np.abs(effects)
    total = sizes.sum(axis=1, keepdims=True)
    shares = np.zeros_like(sizes)
    shares[:, CONCEPTS.index("frequency")] = 1.0
    np.divide(sizes, total, out=shares, where=total > 0)
    return shares


def _log_odds(chance: Floats) -> Floats:
    chance = np.clip(chance, LEAST_CHANCE, MOST_CHANCE)
    return np.asarray(np.log(chance / (1 - chance)), dtype=np.float64)


def _logistic(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)
