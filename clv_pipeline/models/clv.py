"""The model of a whole shop: one fitted model per horizon, and what answers where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd

from clv_pipeline.models.base import Files, dump_json, load_json, nest, unnest
from clv_pipeline.models.baselines import RateTimesValueModel
from clv_pipeline.models.candidates import load_candidate
from clv_pipeline.models.clusters import BEHAVIOUR, BehaviourClusters
from clv_pipeline.models.coherence import (
    ascending,
    discounted,
    finite,
    hurdle_intervals,
    hurdle_quantiles,
)
from clv_pipeline.models.fold import FittedHorizon
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.history import HISTORY, HistoryModel
from clv_pipeline.models.intervals import INTERVALS
from clv_pipeline.models.panel import Floats
from clv_pipeline.timeline import Cutoff

BOUNDS = ("p10", "p50", "p90", *INTERVALS)
ANSWERS = ("value", *BOUNDS, "probability", "orders")
# No shop's customer is worth more; a float32 that overflowed would be.
LARGEST_VALUE = 1e12
LARGEST_COUNT = 1e6
ENSEMBLE, HISTORY_ONLY, RATE_ONLY = "ensemble", "btyd", "rate_times_aov"
BRIDGE = "ensemble_extended"
# Log errors of a level that no past cutoff tells, and of extending one to a longer horizon.
UNTESTED_SPREAD, BRIDGE_SPREAD = 0.25, 0.15
# How much of an extended answer is the learned one, grown; the rest is buy-till-you-die's own
# (``benchmarks.extending``).
LEARNED_SHARE = 0.75


class CLVModel:
    """What serves: every horizon's answer, coherent across horizons and quantiles.

    Parameters
    ----------
    horizons
        Days, ascending.
    yearly_discount_rate
        Of the values and their bounds.

    Attributes
    ----------
    fitted_
        By horizon, where labels matured.
    history_
        The buy-till-you-die model of the newest cutoff, or None.
    served_by_
        By horizon, the name of the model whose value serves.
    bridged_
        By horizon that could not be tested on past data, the longest tested one that it extends.
    simpler_
        By horizon, the simpler model that serves instead of the blend, where one does.
    confidence_
        By horizon: ``high``, ``medium`` or ``low``, and why.
    clusters_
        K-means of the newest cutoff, numbered like the previous model's.
    """

    def __init__(self, horizons: tuple[int, ...], yearly_discount_rate: float = 0.0) -> None:
        self.horizons = horizons
        self.yearly_discount_rate = yearly_discount_rate
        self.fitted_: dict[int, FittedHorizon] = {}
        self.history_: HistoryModel | None = None
        self.served_by_: dict[int, str] = {}
        self.bridged_: dict[int, int] = {}
        self.simpler_: dict[int, Any] = {}
        self.confidence_: dict[int, tuple[str, str]] = {}
        self.clusters_: BehaviourClusters | None = None

    def take(self, other: CLVModel) -> None:
        """Take over the horizons that were fitted into another model."""
        self.fitted_ |= other.fitted_
        self.served_by_ |= other.served_by_
        self.bridged_ |= other.bridged_
        self.simpler_ |= other.simpler_
        self.confidence_ |= other.confidence_

    @property
    def columns(self) -> frozenset[str]:
        """The features that any of the horizons' models reads."""
        encoded = (name for fitted in self.fitted_.values() for name in fitted.encoder_.names)
        return frozenset({*encoded, *HISTORY, *BEHAVIOUR})

    def predict(self, rows: pd.DataFrame) -> dict[str, Floats]:
        """Answer for raw feature rows.

        Parameters
        ----------
        rows
            ``customer_id``, ``cutoff_date`` and the registered features.

        Returns
        -------
        dict
            ``value``, ``p10``, ``p50``, ``p90``, ``low_95``, ``low_80``, ``high_80``,
            ``high_95``, ``probability``, ``orders``, each of shape (n, horizons): finite, the
            bounds in that order, none falling with the horizon.
        """
        by_horizon = [self._answer(rows, horizon) for horizon in self.horizons]
        found = {name: np.column_stack([a[name] for a in by_horizon]) for name in ANSWERS}
        for name in ANSWERS:
            largest = {"probability": 1.0, "orders": LARGEST_COUNT}.get(name, LARGEST_VALUE)
            found[name] = ascending(finite(found[name], 0.0, largest))
        for name in ("value", "probability", "orders"):
            found[name] = np.maximum(found[name], 0.0)
        found["orders"] = np.maximum(found["orders"], found["probability"])
        # ascending() is a monotone map, so what was sorted within a horizon stays so.
        for name in ("value", *BOUNDS):
            found[name] = discounted(found[name], self.horizons, self.yearly_discount_rate)
        return found

    def _answer(self, rows: pd.DataFrame, horizon: int) -> dict[str, Floats]:
        if horizon in self.bridged_ and self.history_ is not None:
            return self._bridge(rows, horizon, self.history_)
        fitted = self.fitted_.get(horizon)
        if fitted is None:
            return self._without_labels(rows, horizon)
        X = fitted.matrix(rows, self.history_)
        answer = fitted.model_.predict(X)
        if horizon in self.simpler_:
            value = self.simpler_[horizon].predict(X)
            # The bounds belong to the value that is served.
            moved = np.clip(value / np.maximum(answer["value"], 1e-9), 0.0, LARGEST_VALUE)
            answer |= {name: answer[name] * moved for name in BOUNDS}
            answer["value"] = value
        return answer

    def _bridge(self, rows: pd.DataFrame, horizon: int, history: HistoryModel) -> dict[str, Floats]:
        """Extend what was learned over a shorter horizon, as buy-till-you-die says it goes on.

        ``LEARNED_SHARE`` of the shorter horizon's value times that customer's ratio of
        buy-till-you-die values over the two horizons, and for the rest the buy-till-you-die value;
        likewise orders, and the hazard of an order. Values follow the season of the longer window.
        """
        shorter = self.bridged_[horizon]
        learned = self._answer(rows, shorter)
        X = history_matrix(rows)
        near, far = (history.for_horizon(h).forecast(X) for h in (shorter, horizon))
        model = self.fitted_[shorter].model_
        season = model.season_factor(X.cutoff_date, horizon)
        grown = learned["value"] * _growth(near, far, "btyd_value")
        grown /= model.season_factor(X.cutoff_date, shorter)
        value = _between(far["btyd_value"], grown) * season
        more = learned["orders"] * _growth(near, far, "btyd_orders")
        orders = _between(far["btyd_orders"], more)
        silent = np.log1p(-np.clip(learned["probability"], 0.0, 1 - 1e-9))
        later = -np.expm1(silent * _growth(near, far, "btyd_orders"))
        probability = _between(far["btyd_probability"], later)
        return _with_bounds(value, probability, orders)

    def _without_labels(self, rows: pd.DataFrame, horizon: int) -> dict[str, Floats]:
        X = history_matrix(rows)
        if self.history_ is not None:
            forecast = self.history_.for_horizon(horizon).forecast(X)
            value = forecast["btyd_value"]
            probability, orders = forecast["btyd_probability"], forecast["btyd_orders"]
        else:
            model = RateTimesValueModel(horizon)
            value, orders = model.predict(X), model.predict_orders(X)
            probability = -np.expm1(-orders)
        return _with_bounds(value, probability, orders)

    def total_error(self, horizon: int, cutoff: Cutoff) -> tuple[float, float]:
        """Return what a total over a horizon may be missed by.

        Returns
        -------
        tuple
            Standard deviation of the error of the shop's level, on the log scale, from past
            cutoffs; and what ``coherence.hurdle_variance`` is multiplied by for the luck of each.
        """
        if horizon in self.bridged_:
            spread, ratio = self.total_error(self.bridged_[horizon], cutoff)
            return float(np.hypot(spread, BRIDGE_SPREAD)), ratio
        fitted = self.fitted_.get(horizon)
        if fitted is None:
            return UNTESTED_SPREAD, 1.0
        spread = fitted.model_.levels_.forecast(cutoff)["value"].spread
        return spread, fitted.model_.variance_ratio_

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        document = {
            "horizons": list(self.horizons),
            "yearly_discount_rate": self.yearly_discount_rate,
            "fitted": sorted(self.fitted_),
            "served_by": {str(h): name for h, name in self.served_by_.items()},
            "confidence": {str(h): list(c) for h, c in self.confidence_.items()},
            "bridged": {str(h): shorter for h, shorter in self.bridged_.items()},
            "simpler": {str(h): self.served_by_[h] for h in self.simpler_},
            "has_history": self.history_ is not None,
            "has_clusters": self.clusters_ is not None,
        }
        files = {"model.json": dump_json(document)}
        for horizon, fitted in self.fitted_.items():
            files |= nest(f"horizon_{horizon}", fitted.to_files())
        for horizon, model in self.simpler_.items():
            files |= nest(f"simpler_{horizon}", model.to_files())
        if self.history_ is not None:
            files |= nest("history", self.history_.to_files())
        if self.clusters_ is not None:
            files |= nest("clusters", self.clusters_.to_files())
        return files

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document: Mapping[str, Any] = load_json(files["model.json"])
        model = cls(tuple(document["horizons"]), document["yearly_discount_rate"])
        model.served_by_ = {int(h): name for h, name in document["served_by"].items()}
        for h, (level, why) in document["confidence"].items():
            model.confidence_[int(h)] = (level, why)
        model.bridged_ = {int(h): shorter for h, shorter in document["bridged"].items()}
        for horizon in document["fitted"]:
            model.fitted_[horizon] = FittedHorizon.from_files(unnest(f"horizon_{horizon}", files))
        for horizon, name in document["simpler"].items():
            model.simpler_[int(horizon)] = load_candidate(name, unnest(f"simpler_{horizon}", files))
        if document["has_history"]:
            model.history_ = HistoryModel.from_files(unnest("history", files))
        if document["has_clusters"]:
            model.clusters_ = BehaviourClusters.from_files(unnest("clusters", files))
        return model


def _between(known: Floats, learned: Floats) -> Floats:
    return (1 - LEARNED_SHARE) * known + LEARNED_SHARE * learned


def _growth(near: dict[str, Floats], far: dict[str, Floats], name: str) -> Floats:
    """Return a forecast's ratio between two horizons, 1 where the nearer one is nothing."""
    known = near[name] > 0
    return np.divide(far[name], near[name], out=np.ones(len(known)), where=known)


def _with_bounds(value: Floats, probability: Floats, orders: Floats) -> dict[str, Floats]:
    value = finite(value, 0.0, LARGEST_VALUE)
    chance = finite(probability, 0.0, 1.0)
    bounds = np.hstack([hurdle_quantiles(value, chance), hurdle_intervals(value, chance)])
    return dict(zip(BOUNDS, bounds.T, strict=True)) | {
        "value": value,
        "probability": probability,
        "orders": orders,
    }
