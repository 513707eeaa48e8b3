"""Search for better parameters, and for features that can go, by validation on unseen outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel
from sklearn.model_selection import GroupKFold, ParameterGrid, ParameterSampler

from clv_pipeline.evaluation.metrics import normalized_gini, rmse, total_bias
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.boosting import BoostedMean, HurdleModel
from clv_pipeline.models.clusters import BehaviourClusters
from clv_pipeline.models.fold import Workbench
from clv_pipeline.models.panel import ALWAYS_KEPT, Encoder, Floats, Panel, Target
from clv_pipeline.timeline import Cutoff, Fold

Method = Literal["bayes", "random", "grid"]
# Stated spaces: what [model] in clv.toml may be set to by a search.
SPACE: dict[str, tuple[float, ...]] = {
    "trees": (50, 75, 100, 150, 200, 300),
    "depth": (2, 3, 4, 5, 6),
    "learning_rate": (0.03, 0.05, 0.08, 0.12, 0.2),
    "clusters": (3, 4, 6, 8, 10),
}
COHORT_FOLDS = 3
FIRST_TRIALS = 6
POOL = 200
# A loss that is higher by less is no loss: the simpler set of features stays.
TOLERANCE = 0.001


@dataclass(frozen=True, eq=False)
class Split:
    """Rows that train and rows that judge.

    Attributes
    ----------
    name
        In words.
    train, train_target
        Raw rows with the forecasts made at their cutoffs, and their labels.
    test, test_target
        Rows whose outcomes no part of a fit has seen.
    """

    name: str
    train: pd.DataFrame
    train_target: Target
    test: pd.DataFrame
    test_target: Target


@dataclass(frozen=True)
class Trial:
    """One set of parameters, and how it did.

    Attributes
    ----------
    parameters
        Names of ``SPACE``.
    loss
        Mean over the splits of the Tweedie deviance (power 1.5), in units of the mean value: it
        falls with better ranks and with a better level.
    normalized_gini, rmse, total_bias
        Means over the splits; the bias is absolute.
    seconds
        Of fitting and judging.
    """

    parameters: dict[str, float]
    loss: float
    normalized_gini: float
    rmse: float
    total_bias: float
    seconds: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    trials
        In the order in which they were tried; the first has the present settings.
    best
        The one of the least loss.
    left_out
        Features that can go without a loss; empty where that was not asked for.
    loss_without
        The best trial's loss without them.
    splits
        What it was judged on, in words.
    """

    trials: tuple[Trial, ...]
    best: Trial
    left_out: tuple[str, ...]
    loss_without: float
    splits: tuple[str, ...]

    def to_toml(self) -> str:
        """Return the lines to put under ``[model]`` in clv.toml."""
        lines = ["[model]"]
        lines += [f"{name} = {_plain(value)}" for name, value in self.best.parameters.items()]
        if self.left_out:
            names = ", ".join(f'"{name}"' for name in self.left_out)
            lines.append(f"left_out_features = [{names}]")
        return "\n".join(lines) + "\n"


def splits_by_time(bench: Workbench, folds: Sequence[Fold]) -> list[Split]:
    """Split by time: each fold trains on what had matured at its evaluation cutoff."""
    return [
        Split(
            f"{fold.evaluation} after {len(fold.training)} cutoffs up to {fold.training[-1]}",
            *_rows(bench, fold.training),
            *_rows(bench, (fold.evaluation,)),
        )
        for fold in folds
    ]


def splits_by_cohort(
    bench: Workbench, cutoffs: Sequence[Cutoff], folds: int = COHORT_FOLDS
) -> list[Split]:
    """Split by customers: whoever first ordered in one month is in one part (GroupKFold).

    It says how well cohorts that were not learned from are predicted over the same time. What the
    next months bring is not held out: beside, not instead of, a split by time.
    """
    rows, y = _rows(bench, cutoffs)
    cohort = cohort_months(rows)
    count = min(folds, len(np.unique(cohort)))
    if count < 2:
        return []
    found = []
    for k, (train, test) in enumerate(GroupKFold(count).split(rows, groups=cohort), 1):
        months = len(np.unique(cohort[test]))
        found.append(
            Split(
                f"cohorts part {k} of {count}: {months} months held out",
                rows.iloc[train],
                y.take(train),
                rows.iloc[test],
                y.take(test),
            )
        )
    return found


def cohort_months(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return the month of each customer's first order as YYYY-MM; 'none' without an order."""
    age = pd.to_timedelta(rows["T"].astype("float64"), unit="D")
    first = pd.to_datetime(rows["cutoff_date"]) - age
    return first.dt.strftime("%Y-%m").fillna("none").to_numpy(dtype=object)


def search(
    panel: Panel,
    options: FitOptions,
    splits: Sequence[Split],
    *,
    method: Method = "bayes",
    budget_seconds: float = 300.0,
    select_features: bool = False,
    tell: Callable[[str], object] | None = None,
    space: Mapping[str, Sequence[float]] = SPACE,
) -> SearchResult:
    """Try sets of parameters until the time is up.

    The present settings are tried first. ``grid`` goes through the whole space, ``random`` draws
    from it, ``bayes`` models the loss by a Gaussian process over the trials so far and tries what
    promises the largest expected improvement (Jones, Schonlau and Welch 1998).

    Parameters
    ----------
    panel
        Names the features.
    options
        The present settings; the seed decides every draw.
    splits
        From ``splits_by_time`` or ``splits_by_cohort``.
    budget_seconds
        No trial begins after it; half of it is for the features, where they are asked for.
    select_features
        Also find features that can go, by permutation on the newest split.
    tell
        Told a line per trial.
    space
        By name, the values to choose from.

    Raises
    ------
    ValueError
        If there is no split to judge by.
    """
    if not splits:
        raise ValueError("there is nothing to judge by: no cutoff has matured labels behind it.")
    say = tell or (lambda text: None)
    started = time.monotonic()
    until = started + budget_seconds * (0.5 if select_features else 1.0)
    trials: list[Trial] = []
    present = {name: float(getattr(options, name)) for name in space}
    for parameters in _proposals(present, space, method, options.seed, trials):
        if trials and time.monotonic() >= until:
            break
        trial = run_trial(panel, replace(options, **_typed(parameters)), splits, parameters)
        trials.append(trial)
        best = min(trials, key=lambda t: t.loss)
        shown = ", ".join(f"{name} {_plain(value)}" for name, value in parameters.items())
        say(
            f"{time.monotonic() - started:5.0f} s  trial {len(trials)}: loss {trial.loss:.4f}, "
            f"Gini {trial.normalized_gini:.4f} ({shown}); best {best.loss:.4f}"
        )
    best = min(trials, key=lambda t: t.loss)
    left_out: tuple[str, ...] = ()
    loss = best.loss
    if select_features:
        chosen = replace(options, **_typed(best.parameters))
        end = started + budget_seconds
        left_out, loss = drop_features(panel, chosen, splits[-1:], until=end, tell=say)
    return SearchResult(tuple(trials), best, left_out, loss, tuple(split.name for split in splits))


def run_trial(
    panel: Panel,
    options: FitOptions,
    splits: Sequence[Split],
    parameters: Mapping[str, float],
    left_out: frozenset[str] = frozenset(),
) -> Trial:
    """Fit the boosted experts on each split, and judge the mean of what they say."""
    started = time.monotonic()
    figures = []
    for split in splits:
        model = _Experts(panel, options, left_out).fit(split.train, split.train_target)
        figures.append(_judge(split.test_target.value, model.predict(split.test)))
    loss, gini, error, bias = np.mean(figures, axis=0)
    seconds = time.monotonic() - started
    return Trial(dict(parameters), float(loss), float(gini), float(error), float(bias), seconds)


def drop_features(
    panel: Panel,
    options: FitOptions,
    splits: Sequence[Split],
    *,
    until: float = float("inf"),
    tell: Callable[[str], object] | None = None,
) -> tuple[tuple[str, ...], float]:
    """Leave out features, the least important first, while the loss does not rise.

    Importance is what the loss gains when a feature's values are dealt anew among the rows that
    judge (permutation importance, Breiman 2001). Features that count for nothing go together;
    then halves of them, when that was too much.

    Returns
    -------
    tuple
        The features that can go, and the loss without them.
    """
    say = tell or (lambda text: None)
    present = run_trial(panel, options, splits, {})
    best_loss, gone = present.loss, frozenset[str]()
    importance = permutation_importance(panel, options, splits[-1])
    free = sorted((n for n in importance if n not in ALWAYS_KEPT), key=lambda n: importance[n])
    group = [name for name in free if importance[name] <= 0]
    while group and time.monotonic() < until:
        trial = run_trial(panel, options, splits, {}, gone | set(group))
        is_kept = trial.loss <= best_loss * (1 + TOLERANCE)
        say(
            f"without {len(gone) + len(group)} of {len(importance)} features: loss "
            f"{trial.loss:.4f} against {best_loss:.4f}, {'left out' if is_kept else 'kept'}"
        )
        if is_kept:
            gone, best_loss = gone | set(group), min(trial.loss, best_loss)
            break
        group = group[: len(group) // 2]
    return tuple(sorted(gone)), best_loss


def permutation_importance(panel: Panel, options: FitOptions, split: Split) -> dict[str, float]:
    """Return by feature how much the loss rises when its values are dealt anew."""
    model = _Experts(panel, options).fit(split.train, split.train_target)
    actual = split.test_target.value
    base = _judge(actual, model.predict(split.test))[0]
    rng = np.random.default_rng(options.seed)
    found = {}
    for name in model.encoder_.names:
        order = rng.permutation(len(split.test))
        dealt = split.test.assign(**{name: split.test[name].to_numpy()[order]})
        found[name] = _judge(actual, model.predict(dealt))[0] - base
    return found


class _Experts:
    """The boosted experts with their encoder and clusters, without a blend: what is searched."""

    def __init__(
        self, panel: Panel, options: FitOptions, left_out: frozenset[str] = frozenset()
    ) -> None:
        self.options = options
        self.columns = [f for f in panel.columns if f.name not in left_out]

    def fit(self, rows: pd.DataFrame, y: Target) -> _Experts:
        self.encoder_, encoded = Encoder.fit_transform(rows, self.columns, y)
        plain = encoded.with_columns(_forecast(rows))
        self.clusters_ = BehaviourClusters(self.options.clusters, self.options.seed).fit(plain)
        X = plain.with_columns(self.clusters_.columns(plain))
        self.hurdle_ = HurdleModel(self.options).fit(X, y)
        self.tweedie_ = BoostedMean(self.options, "tweedie").fit(X, y)
        return self

    def predict(self, rows: pd.DataFrame) -> Floats:
        plain = self.encoder_.transform(rows).with_columns(_forecast(rows))
        X = plain.with_columns(self.clusters_.columns(plain))
        return (self.hurdle_.predict(X) + self.tweedie_.predict(X)) / 2


def _forecast(rows: pd.DataFrame) -> dict[str, Floats]:
    return {str(n): rows[n].to_numpy() for n in rows.columns if str(n).startswith("btyd_")}


def _rows(bench: Workbench, cutoffs: Sequence[Cutoff]) -> tuple[pd.DataFrame, Target]:
    rows, y = bench.panel.for_cutoffs(cutoffs).matrix(bench.options.horizon_days)
    rows = rows.reset_index(drop=True)
    return rows.assign(**bench.histories.columns(rows, bench.options.horizon_days)), y


def _judge(actual: Floats, predicted: Floats) -> tuple[float, float, float, float]:
    scale = max(float(np.mean(np.maximum(actual, 0.0))), 1e-9)
    y, p = np.maximum(actual, 0.0) / scale, np.maximum(predicted, 1e-6 * scale) / scale
    loss = float(np.mean(4 * (np.sqrt(y) - np.sqrt(p)) ** 2 / np.sqrt(p)))
    bias = abs(total_bias(actual, predicted))
    return loss, normalized_gini(actual, predicted), rmse(actual, predicted), bias


def _proposals(
    present: dict[str, float],
    space: Mapping[str, Sequence[float]],
    method: Method,
    seed: int,
    trials: Sequence[Trial],
) -> Iterator[dict[str, float]]:
    """Give sets of parameters that were not tried yet; looks at the trials so far."""
    yield present
    names = list(space)
    size = int(np.prod([len(space[name]) for name in names]))
    values = {name: list(space[name]) for name in names}
    if method == "grid":
        pool = [dict(p) for p in ParameterGrid(values)]
    else:
        draws = min(size, POOL)
        pool = [dict(p) for p in ParameterSampler(values, draws, random_state=seed)]
    left = [{name: p[name] for name in names} for p in pool if p != present]
    while left:
        place = 0
        if method == "bayes" and len(trials) >= FIRST_TRIALS:
            place = _most_promising(trials, left, space)
        yield left.pop(place)


def _most_promising(
    trials: Sequence[Trial],
    left: Sequence[Mapping[str, float]],
    space: Mapping[str, Sequence[float]],
) -> int:
    """Return the place of the largest expected improvement under a Gaussian process."""

    def places(parameters: Mapping[str, float]) -> list[float]:
        return [
            float(np.interp(parameters[n], sorted(space[n]), np.linspace(0, 1, len(space[n]))))
            for n in space
        ]

    X = np.array([places(trial.parameters) for trial in trials])
    losses = np.array([trial.loss for trial in trials])
    spread = float(losses.std()) or 1.0
    y = (losses - losses.mean()) / spread
    # Fixed scales: a handful of trials can't learn them.
    kernel = Matern(length_scale=0.5, nu=2.5) + WhiteKernel(0.05)
    process = GaussianProcessRegressor(kernel, optimizer=None).fit(X, y)
    mean, deviation = process.predict(np.array([places(p) for p in left]), return_std=True)
    deviation = np.maximum(deviation, 1e-9)
    gain = y.min() - mean
    improvement = gain * norm.cdf(gain / deviation) + deviation * norm.pdf(gain / deviation)
    return int(np.argmax(improvement))


def _typed(parameters: Mapping[str, float]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in parameters.items()}


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else float(value)
