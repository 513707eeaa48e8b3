"""The ensemble of one horizon: buy-till-you-die, K-means and XGBoost, blended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.models.base import (
    Files,
    FitOptions,
    dump_json,
    load_json,
    nest,
    sample_rows,
    unnest,
)
from clv_pipeline.models.blending import Blend, ClusterBlend
from clv_pipeline.models.boosters import Elsewhere, RowLevels
from clv_pipeline.models.boosting import (
    QUANTILES,
    BoostedMean,
    HurdleModel,
    QuantileModel,
    SpendModel,
)
from clv_pipeline.models.clusters import BehaviourClusters
from clv_pipeline.models.coherence import hurdle_variance
from clv_pipeline.models.history import FORECAST
from clv_pipeline.models.intervals import (
    INTERVALS,
    ClassIntervals,
    ConformalBounds,
    Residuals,
    pool_residuals,
)
from clv_pipeline.models.panel import Floats, Matrix, Target
from clv_pipeline.models.sampling import stratify
from clv_pipeline.models.seasons import Levels, shift_chance
from clv_pipeline.models.tilting import Tilt
from clv_pipeline.timeline import Cutoff

# From fitted clusters to training rows that an engine keeps, for as long as they are asked for.
Gather = Callable[[BehaviourClusters], AbstractContextManager[Elsewhere]]
Named = Mapping[str, Floats]
# Ends the name of an expert whose value follows the forecast level.
SEASONAL = "_seasonal"


@dataclass(frozen=True, eq=False)
class Experts:
    """What the parts of the ensemble say of some customers, free of season.

    Attributes
    ----------
    cutoff_date
        ``datetime64[D]``, shape (n,).
    value, probability, orders
        One array per expert.
    amounts
        Quantiles of a buyer's value, shape (n, levels).
    cluster
        Number of each customer's cluster of behaviour, shape (n,).
    """

    cutoff_date: NDArray[np.datetime64]
    value: dict[str, Floats]
    probability: dict[str, Floats]
    orders: dict[str, Floats]
    amounts: Floats
    cluster: NDArray[np.int64]

    @staticmethod
    def concatenate(parts: Sequence[Experts], order: NDArray[np.int64]) -> Experts:
        """Return the rows of several parts, put into ``order``."""

        def join(pick: str) -> dict[str, Floats]:
            names = getattr(parts[0], pick)
            return {
                name: np.concatenate([getattr(part, pick)[name] for part in parts])[order]
                for name in names
            }

        days = np.concatenate([part.cutoff_date for part in parts])[order]
        amounts = np.concatenate([part.amounts for part in parts])[order]
        cluster = np.concatenate([part.cluster for part in parts])[order]
        by_name = (join("value"), join("probability"), join("orders"))
        return Experts(days, *by_name, amounts, cluster)


class LevelZero:
    """The experts, fitted on one set of training rows.

    Parameters
    ----------
    options
        Horizon, seed, trees and so on.

    Attributes
    ----------
    clusters_, hurdle_, tweedie_, orders_, spend_, quantiles_
        The fitted parts.
    """

    def __init__(self, options: FitOptions) -> None:
        self.options = options

    def fit(
        self,
        X: Matrix,
        y: Target,
        levels: Levels | None = None,
        gather: Gather | None = None,
    ) -> Self:
        """Fit on training rows; boosted parts see at most ``options.max_rows`` of them.

        Parameters
        ----------
        X, y
            Training rows.
        levels
            Of the training cutoffs; what is learned is free of them.
        gather
            Where an engine keeps these rows, and more: boosted parts see all of them, there.
        """
        options = self.options
        self.clusters_ = BehaviourClusters(options.clusters, options.seed).fit(X)
        if gather is not None:
            season = None if levels is None else levels.of_rows(X.cutoff_date)
            with gather(self.clusters_) as elsewhere:
                return self._fit_parts(X, y, season, None, elsewhere)
        sample = stratify(X.cutoff_date, y, options.max_rows, options.seed)
        seen, target = self._inputs(X.take(sample.rows)), y.take(sample.rows)
        season = None
        if levels is not None and levels.known:
            season = levels.of_rows(seen.cutoff_date)
        return self._fit_parts(seen, target, season, sample.weight)

    def _fit_parts(
        self,
        X: Matrix,
        y: Target,
        season: RowLevels | None,
        weight: Floats | None,
        elsewhere: Elsewhere | None = None,
    ) -> Self:
        options, rows = self.options, (X, y, season, weight, elsewhere)
        self.hurdle_ = HurdleModel(options).fit(*rows)
        self.tweedie_ = BoostedMean(options, "tweedie").fit(*rows)
        self.orders_ = BoostedMean(options, "poisson", "orders").fit(*rows)
        self.spend_ = SpendModel(options).fit(*rows)
        few = sample_rows(len(X), options.max_quantile_rows, options.seed)
        own = None if weight is None else weight[few]
        self.quantiles_ = QuantileModel(options.for_quantiles()).fit(
            X if len(few) == len(X) else X.take(few), y.take(few), own, elsewhere
        )
        return self

    def predict(self, X: Matrix) -> Experts:
        """Return what each expert says of the rows."""
        seen = self._inputs(X)
        probability = self.chances(seen)
        count = self.orders_.predict(seen)
        value = {
            "hurdle": probability["hurdle"] * self.hurdle_.predict_amount(seen),
            "tweedie": self.tweedie_.predict(seen),
            "poisson": count * self.spend_.predict(seen),
        }
        orders = {"poisson": count}
        if FORECAST[0] in X:
            value["btyd"], _, orders["btyd"] = map(X.column, FORECAST)
        amounts, cluster = self.quantiles_.predict(seen), self.clusters_.predict(X)
        return Experts(X.cutoff_date, value, probability, orders, amounts, cluster)

    def chances(self, seen: Matrix) -> dict[str, Floats]:
        """Return each expert's chance of an order, of rows that hold their clusters' columns."""
        found = {"hurdle": self.hurdle_.predict_probability(seen)}
        return found | ({"btyd": seen.column(FORECAST[1])} if FORECAST[1] in seen else {})

    def _inputs(self, X: Matrix) -> Matrix:
        return X.with_columns(self.clusters_.columns(X))

    def to_files(self) -> Files:
        """Return the fitted parts as named files."""
        files = {"options.json": dump_json(vars(self.options))}
        for name, part in self._parts().items():
            files |= nest(name, part.to_files())
        return files

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        model = cls(FitOptions(**load_json(files["options.json"])))
        model.clusters_ = BehaviourClusters.from_files(unnest("clusters", files))
        model.hurdle_ = HurdleModel.from_files(unnest("hurdle", files))
        model.tweedie_ = BoostedMean.from_files(unnest("tweedie", files))
        model.orders_ = BoostedMean.from_files(unnest("orders", files))
        model.spend_ = SpendModel.from_files(unnest("spend", files))
        model.quantiles_ = QuantileModel.from_files(unnest("quantiles", files))
        return model

    def _parts(self) -> dict[str, Any]:
        return {
            "clusters": self.clusters_,
            "hurdle": self.hurdle_,
            "tweedie": self.tweedie_,
            "orders": self.orders_,
            "spend": self.spend_,
            "quantiles": self.quantiles_,
        }


class HorizonModel:
    """Everything that answers for one horizon.

    Parameters
    ----------
    options
        Horizon, seed, trees and so on.

    Attributes
    ----------
    level_zero_
        Experts refitted on every training row.
    value_blend_, probability_blend_, orders_blend_
        Learned on rows that their experts had not seen; the first by cluster.
    tilt_
        What the blended value is multiplied by for the chance of an order.
    levels_
        Of past windows, from which the level of the window ahead is forecast.
    has_value_level_
        Whether the value follows the forecast level; not where buy-till-you-die alone serves.
    bounds_
        The conformal correction of P10, P50 and P90.
    intervals_
        Intervals that hold among buyers and among the others.
    variance_ratio_
        Squared errors of unseen rows over what ``coherence.hurdle_variance`` expects.
    """

    def __init__(self, options: FitOptions) -> None:
        self.options = options

    def fit(
        self,
        level_zero: LevelZero,
        unseen: Experts,
        unseen_target: Target,
        levels: Levels | None = None,
        earlier: Sequence[tuple[Experts, Target]] = (),
    ) -> Self:
        """Learn the blend and the bounds for experts that were fitted on every row.

        Parameters
        ----------
        level_zero
            Experts fitted on every training row.
        unseen
            What experts like them said of rows that they were not fitted on; numbered by the
            clusters of ``level_zero``.
        unseen_target
            What came to pass for those rows.
        levels
            Of past windows, that of the unseen rows among them.
        earlier
            Likewise of earlier cutoffs, whose errors the intervals are corrected by, too.
        """
        self.levels_ = levels or Levels(self.options.horizon_days, {})
        self.has_value_level_ = True
        # The blend is about who brings how much more than others; the level has its own forecast.
        season = self.levels_.of_rows(unseen.cutoff_date)
        usual = unseen_target.value * np.exp(-season.value)
        count = len(level_zero.clusters_.centroids_)
        self.value_blend_ = ClusterBlend().fit(unseen.value, usual, unseen.cluster, count)
        self.probability_blend_ = Blend().fit(
            {name: shift_chance(p, season.chance) for name, p in unseen.probability.items()},
            unseen_target.has_purchase.astype(np.float64),
        )
        self.tilt_ = Tilt()
        self.tilt_to(unseen)
        orders = unseen_target.orders * np.exp(-season.orders)
        self.orders_blend_ = Blend().fit(unseen.orders, orders)
        answer, actual = self._means(unseen), unseen_target.value
        newest = self._residuals(unseen, actual)
        self.bounds_ = ConformalBounds(QUANTILES).fit(*newest)
        pooled = [newest, *(self._residuals(said, came.value) for said, came in earlier)]
        self.intervals_ = ClassIntervals(QUANTILES).fit(
            *pool_residuals(pooled, self.options.giant_multiple)
        )
        expected = hurdle_variance(answer["value"], answer["probability"]).sum()
        squares = float(np.sum((actual - answer["value"]) ** 2))
        ratio = squares / expected if expected > 0 else 1.0
        self.variance_ratio_ = float(np.clip(ratio, 0.1, 10.0))
        self.level_zero_ = level_zero
        return self

    def serve(self, name: str) -> None:
        """Let one expert's value serve instead of the blend; ``btyd`` as it is, without a level."""
        self.has_value_level_ = name != "btyd"
        self.value_blend_ = ClusterBlend.given({name.removesuffix(SEASONAL): 1.0})
        self.tilt_ = Tilt.none()

    def tilt_to(self, experts: Experts) -> None:
        """Learn the usual chance at each value of those who are asked about."""
        blended = self.value_blend_.predict(experts.value, experts.cluster)
        self.tilt_ = Tilt(self.tilt_.power).fit(blended, self._chance(experts.probability))

    def value_factor(self, cutoff_date: NDArray[np.datetime64]) -> Floats:
        """Return what the blended value is multiplied by at each row's cutoff."""
        if not self.has_value_level_:
            return np.ones(len(cutoff_date))
        return np.exp(self.levels_.forecast_rows(cutoff_date)[0])

    def season_factor(self, cutoff_date: NDArray[np.datetime64], horizon_days: int) -> Floats:
        """Return what the calendar alone multiplies a window's values by, at each row's cutoff."""
        factor = np.ones(len(cutoff_date))
        if self.has_value_level_:
            for day in np.unique(cutoff_date):
                cutoff = Cutoff(day.astype("datetime64[D]").item())
                season = self.levels_.season(cutoff, horizon_days)
                factor[cutoff_date == day] = np.exp(season)
        return factor

    def parts(self, experts: Experts) -> dict[str, Floats]:
        """Return each expert's value as it would be served alone, and ``btyd_seasonal``."""
        factor = self.value_factor(experts.cutoff_date)
        found = {name: value * factor for name, value in experts.value.items()}
        if "btyd" in experts.value:
            found |= {"btyd": experts.value["btyd"], "btyd" + SEASONAL: found["btyd"]}
        return found

    def predict(self, X: Matrix) -> dict[str, Floats]:
        """Return ``value``, ``probability``, ``orders``, ``p10`` and so on by row."""
        return self.combine(self.level_zero_.predict(X))

    def combine(self, experts: Experts) -> dict[str, Floats]:
        """Blend what the experts say, put the season back, and correct the bounds."""
        found = self._means(experts)
        known = (experts.amounts, found["probability"], found["value"])
        found |= dict(zip(("p10", "p50", "p90"), self.bounds_.predict(*known).T, strict=True))
        return found | dict(zip(INTERVALS, self.intervals_.predict(*known).T, strict=True))

    def blend(self, value: Named, probability: Named, cluster: NDArray[np.int64]) -> Floats:
        """Return what the experts' values come to, free of season."""
        blended = self.value_blend_.predict(value, cluster)
        return blended * self.tilt_.factor(blended, self._chance(probability))

    def _chance(self, probability: Named) -> Floats:
        return np.clip(self.probability_blend_.predict(probability), 0.0, 1.0)

    def _means(self, experts: Experts) -> dict[str, Floats]:
        _, orders, chance = self.levels_.forecast_rows(experts.cutoff_date)
        value = self.blend(experts.value, experts.probability, experts.cluster)
        return {
            "value": value * self.value_factor(experts.cutoff_date),
            "probability": shift_chance(self._chance(experts.probability), chance),
            "orders": self.orders_blend_.predict(experts.orders) * np.exp(orders),
        }

    def _residuals(self, experts: Experts, actual: Floats) -> Residuals:
        said = self._means(experts)
        return experts.amounts, said["probability"], said["value"], actual

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        document = {
            "options": vars(self.options),
            "value": self.value_blend_.to_dict(),
            "tilt": self.tilt_.to_dict(),
            "probability": self.probability_blend_.weights_,
            "orders": self.orders_blend_.weights_,
            "bounds": self.bounds_.to_dict(),
            "intervals": self.intervals_.to_dict(),
            "variance_ratio": self.variance_ratio_,
            "levels": self.levels_.to_dict(),
            "has_value_level": self.has_value_level_,
        }
        return {"model.json": dump_json(document)} | nest("level_zero", self.level_zero_.to_files())

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["model.json"])
        model = cls(FitOptions(**document["options"]))
        model.value_blend_ = ClusterBlend.from_dict(document["value"])
        # Models of before there was a tilt go on as they are.
        model.tilt_ = Tilt.from_dict(document["tilt"]) if "tilt" in document else Tilt.none()
        model.probability_blend_ = Blend.given(document["probability"])
        model.orders_blend_ = Blend.given(document["orders"])
        model.bounds_ = ConformalBounds.from_dict(document["bounds"])
        model.intervals_ = ClassIntervals.from_dict(document["intervals"])
        model.variance_ratio_ = document["variance_ratio"]
        model.levels_ = Levels.from_dict(document["levels"])
        model.has_value_level_ = document["has_value_level"]
        model.level_zero_ = LevelZero.from_files(unnest("level_zero", files))
        return model
