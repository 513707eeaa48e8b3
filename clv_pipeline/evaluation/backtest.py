"""Rolling-origin backtest: at each past cutoff, what would every model have said?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clv_pipeline.evaluation.effects import describe_models
from clv_pipeline.evaluation.metrics import (
    auc,
    interval_measures,
    purchase_measures,
    value_measures,
)
from clv_pipeline.evaluation.money import CostMatrix, retention_money, stake_of, value_money
from clv_pipeline.evaluation.slices import slice_customers
from clv_pipeline.models.base import Files, FitOptions, dump_arrays, load_arrays
from clv_pipeline.models.btyd.fitting import FitError
from clv_pipeline.models.candidates import CANDIDATES, ENSEMBLE, Candidate
from clv_pipeline.models.fold import FittedHorizon, Workbench
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.intervals import INTERVALS
from clv_pipeline.models.panel import Floats, Target
from clv_pipeline.timeline import Cutoff, Fold

LEADERBOARD_MEASURES = (
    "normalized_gini",
    "spearman",
    "rmse",
    "mae",
    "total_bias",
    "top_10_capture",
    "top_20_capture",
    "auc",
    "decile_mape",
    "coverage_80",
)
BOUNDS = ("p10", "p50", "p90", *INTERVALS)
MAX_SLICE_VALUES = 12
MIN_SLICE_ROWS = 50


@dataclass(frozen=True, eq=False)
class Forecasts:
    """What one model said of one horizon at one cutoff, and what came to pass.

    Attributes
    ----------
    horizon_days, evaluation
        What was asked.
    keys
        64-bit hashes of the customers' ids, so that a saved backtest names nobody.
    actual, bought
        Value, and whether there was an order.
    value, probability
        Predictions; the probability is NaN where a model has none.
    """

    horizon_days: int
    evaluation: Cutoff
    keys: NDArray[np.uint64]
    actual: Floats
    bought: NDArray[np.bool_]
    value: Floats
    probability: Floats


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Every candidate's predictions in one fold.

    Attributes
    ----------
    fold
        Evaluation cutoff, training cutoffs, horizon.
    customer_id, target
        Rows of the evaluation cutoff.
    value, probability, bounds
        Predictions by model; ``bounds`` hold p10, p50, p90 and the ends of ``INTERVALS``.
    slices
        Name of a slicing to each row's slice.
    blend_rule
        How the blend's rows were kept unseen.
    stake
        What each customer would bring at the pace of the past; None where that is unknown.
    notes
        Candidates that could not be fitted, or whose fit is not to be believed in every respect.
    effects
        What drives the candidates that only a surrogate can take apart (`describe_models`).
    """

    fold: Fold
    customer_id: NDArray[Any]
    target: Target
    value: dict[str, Floats]
    probability: dict[str, Floats]
    bounds: dict[str, dict[str, Floats]]
    slices: dict[str, NDArray[Any]]
    blend_rule: str
    stake: Floats | None = None
    notes: tuple[str, ...] = ()
    effects: pd.DataFrame | None = None

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """Hashes of the customers' ids."""
        return customer_keys(self.customer_id)

    def forecasts(self, model: str) -> Forecasts:
        """Return one model's predictions."""
        nothing = np.full(len(self.target), np.nan)
        return Forecasts(
            self.fold.horizon_days,
            self.fold.evaluation,
            self.keys,
            self.target.value,
            self.target.has_purchase,
            self.value[model],
            self.probability.get(model, nothing),
        )


def run_fold(
    bench: Workbench,
    fold: Fold,
    blend_cutoffs: Sequence[Cutoff],
    earlier: Sequence[tuple[Cutoff, Sequence[Cutoff]]] = (),
    *,
    with_slow: bool,
    count: Callable[[str], object] | None = None,
) -> FoldResult:
    """Fit everything on a fold's training cutoffs and predict its evaluation cutoff.

    Encoders, clusters, blends, intervals: all are fitted on what had matured then.

    Parameters
    ----------
    bench
        Panel, purchase histories and options. The history of the evaluation cutoff knows no label.
    fold
        Which cutoffs.
    blend_cutoffs
        Cutoffs matured at the newest training cutoff.
    earlier
        Earlier cutoffs that correct the intervals, each with those that were matured at it.
    with_slow
        Whether slow candidates take part.
    count
        Told of each fit that is done: one of the experts, one for each compared candidate.

    Raises
    ------
    NotTrainableError
        If the training labels teach nothing.
    """
    options = bench.options
    fitted = FittedHorizon(options).fit(bench, fold.training, blend_cutoffs, earlier)
    known = bench.experts(fold.training)
    rows, target = bench.panel.matrix(fold.horizon_days, [fold.evaluation])
    seen, seen_target = bench.panel.matrix(fold.horizon_days, fold.training)
    X, train = bench.matrix(rows, known), bench.matrix(seen, known)
    experts = fitted.model_.level_zero_.predict(X)
    fitted.model_.tilt_to(experts)
    answer = fitted.model_.combine(experts)
    value, probability = fitted.model_.parts(experts), dict(experts.probability)
    value[ENSEMBLE], probability[ENSEMBLE] = answer["value"], answer["probability"]
    probability.setdefault("tweedie", probability["hurdle"])
    notes: list[str] = []
    tell = count or (lambda text: None)
    what = f"{fold.horizon_days} days at {fold.evaluation}"
    tell(f"experts over {what}")
    for candidate in compared_candidates(options, with_slow=with_slow):
        try:
            # A purchase history needs no labels: it is fitted on what was known at the cutoff.
            source = X if candidate.is_label_free else train
            model: Any = candidate.build(options)
            if candidate.reads_days:
                if bench.panel.days is None:
                    continue
                model.with_days(bench.panel.days)
            model.fit(source, seen_target)
            value[candidate.name] = model.predict(X)
            if candidate.is_neural:
                probability[candidate.name] = model.predict_probability(X)
            caution = model.caution() if isinstance(model, HistoryModel) else None
            if caution is not None:
                notes.append(f"{candidate.name} at {fold.evaluation}: {caution}")
        except FitError as error:
            notes.append(f"{candidate.name} at {fold.evaluation} is left out: {error}")
        tell(f"{candidate.name} over {what}")
    opaque = {c.name: value[c.name] for c in CANDIDATES if c.is_opaque and c.name in value}
    return FoldResult(
        fold,
        X.customer_id,
        target,
        {name: np.nan_to_num(v, posinf=0.0) for name, v in value.items()},
        probability,
        {ENSEMBLE: {name: answer[name] for name in BOUNDS}},
        slice_customers(rows, bench.panel.columns, answer["value"], answer["probability"]),
        fitted.blend_rule_,
        stake_of(rows["sum_value"], rows["T"], fold.horizon_days),
        tuple(notes),
        describe_models(X, opaque, fold.horizon_days, fold.evaluation, options.seed),
    )


def compared_candidates(options: FitOptions, *, with_slow: bool) -> list[Candidate]:
    """List the candidates that a fold fits beside the ensemble."""
    return [
        candidate
        for candidate in CANDIDATES
        if not candidate.is_part
        and (options.neural or not candidate.is_neural)
        and (with_slow or not candidate.is_slow)
    ]


def measure_folds(
    results: Sequence[FoldResult],
    costs: CostMatrix | None = None,
    served: Mapping[int, str] | None = None,
) -> pd.DataFrame:
    """Return every measure of every model and fold, and by slice for what may serve.

    Parameters
    ----------
    results
        The folds.
    costs
        For the measures in money; the documented defaults when None.
    served
        By horizon, the model that serves; it and the ensemble are measured by slice.

    Returns
    -------
    DataFrame
        ``model``, ``horizon_days``, ``evaluation_date``, ``slice_name``, ``slice_value``,
        ``measure``, ``figure``, ``count_customers``.
    """
    rows: list[dict[str, Any]] = []
    matrix = costs or CostMatrix()
    for result in results:
        everyone = np.ones(len(result.target), dtype=bool)
        for model in result.value:
            rows += _measures(result, model, "all", "all", everyone, matrix)
        serving = (served or {}).get(result.fold.horizon_days, ENSEMBLE)
        sliced = [name for name in dict.fromkeys((ENSEMBLE, serving)) if name in result.value]
        for name, values in result.slices.items():
            kinds, counts = np.unique(values, return_counts=True)
            for kind in kinds[np.argsort(-counts, kind="stable")][:MAX_SLICE_VALUES]:
                mask = values == kind
                if mask.sum() < MIN_SLICE_ROWS:
                    continue
                for model in sliced:
                    rows += _measures(result, model, name, str(kind), mask, matrix)
    columns = ["model", "horizon_days", "evaluation_date", "slice_name", "slice_value"]
    return pd.DataFrame(rows, columns=[*columns, "measure", "figure", "count_customers"])


def make_leaderboard(measured: pd.DataFrame) -> pd.DataFrame:
    """Return a row per model, horizon and evaluation cutoff with the main measures as columns."""
    keys = ["model", "horizon_days", "evaluation_date", "count_customers"]
    if measured.empty:
        return pd.DataFrame(columns=[*keys, *LEADERBOARD_MEASURES])
    overall = measured[measured["slice_name"] == "all"]
    wide = overall.pivot(index=keys, columns="measure", values="figure")
    wide = wide.reindex(columns=list(LEADERBOARD_MEASURES))
    return (
        wide.reset_index()
        .rename_axis(columns=None)
        .sort_values(
            ["horizon_days", "evaluation_date", "normalized_gini", "model"],
            ascending=[True, True, False, True],
            ignore_index=True,
        )
    )


def customer_keys(customers: NDArray[Any]) -> NDArray[np.uint64]:
    """Return 64-bit hashes of customer ids."""
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(str(c).encode(), digest_size=8).digest(), "little")
            for c in customers
        ],
        dtype=np.uint64,
    )


def dump_forecasts(backtest: Sequence[Forecasts]) -> Files:
    """Return a backtest as named files, kept beside the model for later comparisons."""
    return {
        f"backtest/{f.horizon_days}_{f.evaluation}.npz": dump_arrays(
            keys=f.keys,
            actual=f.actual,
            bought=f.bought,
            value=f.value,
            probability=f.probability,
        )
        for f in backtest
    }


def load_forecasts(files: Files) -> tuple[Forecasts, ...]:
    """Read what ``dump_forecasts`` gave."""
    found = []
    for name, data in sorted(files.items()):
        if name.startswith("backtest/"):
            horizon, _, day = name.removeprefix("backtest/").removesuffix(".npz").partition("_")
            found.append(Forecasts(int(horizon), Cutoff.parse(day), **load_arrays(data)))
    return tuple(found)


def _measures(
    result: FoldResult,
    model: str,
    slice_name: str,
    slice_value: str,
    mask: NDArray[np.bool_],
    costs: CostMatrix,
) -> list[dict[str, Any]]:
    actual, happened = result.target.value[mask], result.target.has_purchase[mask]
    figures = value_measures(actual, result.value[model][mask])
    figures |= value_money(actual, result.value[model][mask], costs)
    if model in result.probability:
        probability = result.probability[model][mask]
        figures |= purchase_measures(happened, probability)
        if result.stake is not None:
            figures |= retention_money(happened, probability, result.stake[mask], costs)
    elif happened.any() and not happened.all():
        figures["auc"] = auc(happened, result.value[model][mask])
    if model in result.bounds:
        bounds = {name: values[mask] for name, values in result.bounds[model].items()}
        figures |= interval_measures(actual, bounds)
    return [
        {
            "model": model,
            "horizon_days": result.fold.horizon_days,
            "evaluation_date": result.fold.evaluation.day,
            "slice_name": slice_name,
            "slice_value": slice_value,
            "measure": measure,
            "figure": figure,
            "count_customers": int(mask.sum()),
        }
        for measure, figure in figures.items()
    ]
