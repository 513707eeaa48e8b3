"""Measures of predictions. Pure functions of arrays; every one takes optional row weights.

Weights are how the bootstrap resamples: drawing customers with replacement is giving them integer
weights, which costs no sorting again. Ties in a prediction are always averaged, so that no figure
depends on the order of the rows, and a constant prediction ranks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clv_pipeline.evaluation.ranking import Floats, Ranking


def _arrays(*arrays: ArrayLike) -> tuple[Floats, ...]:
    return tuple(np.asarray(a, dtype=np.float64) for a in arrays)


def _weights(weights: ArrayLike | None, n: int) -> Floats:
    return np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)


def normalized_gini(
    actual: ArrayLike,
    predicted: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    rankings: tuple[Ranking, Ranking] | None = None,
) -> float:
    """Return how well the prediction ranks value, between -1 and 1; a constant scores 0.

    The Gini coefficient of the Lorenz curve ordered by the prediction over that of the curve
    ordered by the actual values, with ties averaged: the ratio of the covariances of the actual
    values with the middle ranks (Lerman and Yitzhaki 1984). 0 where all actual values are equal.

    Parameters
    ----------
    actual, predicted
        Shape (n,).
    weights
        Shape (n,), ones when None.
    rankings
        Of ``actual`` and of ``predicted``, where the caller keeps them.
    """
    y, p = _arrays(actual, predicted)
    w = _weights(weights, len(y))
    of_actual, of_predicted = rankings or (Ranking(y), Ranking(p))
    middle = w.sum() / 2
    best = float(np.sum(w * y * (of_actual.middle_ranks(w) - middle)))
    found = float(np.sum(w * y * (of_predicted.middle_ranks(w) - middle)))
    return found / best if best > 0 else 0.0


def spearman(
    actual: ArrayLike,
    predicted: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    rankings: tuple[Ranking, Ranking] | None = None,
) -> float:
    """Return the rank correlation with ties averaged; 0 where either side is constant."""
    y, p = _arrays(actual, predicted)
    if len(y) < 2:
        return 0.0
    w = _weights(weights, len(y))
    of_actual, of_predicted = rankings or (Ranking(y), Ranking(p))
    a, b = of_actual.middle_ranks(w), of_predicted.middle_ranks(w)
    a, b = a - np.average(a, weights=w), b - np.average(b, weights=w)
    norm = float(np.sqrt(np.sum(w * a * a) * np.sum(w * b * b)))
    return float(np.sum(w * a * b)) / norm if norm > 0 else 0.0


def rmse(actual: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the root of the mean squared error, in units of value."""
    y, p = _arrays(actual, predicted)
    return float(np.sqrt(np.average((p - y) ** 2, weights=_weights(weights, len(y)))))


def mae(actual: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean absolute error. It rewards predicting zero: never choose by it alone."""
    y, p = _arrays(actual, predicted)
    return float(np.average(np.abs(p - y), weights=_weights(weights, len(y))))


def wape(actual: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the sum of absolute errors over the sum of absolute values; NaN without any value."""
    y, p = _arrays(actual, predicted)
    w = _weights(weights, len(y))
    return _ratio(float(np.sum(w * np.abs(p - y))), float(np.sum(w * np.abs(y))))


def total_bias(actual: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return predicted total over actual total, less 1; NaN where the actual total is not > 0."""
    y, p = _arrays(actual, predicted)
    w = _weights(weights, len(y))
    return _ratio(float(np.sum(w * p)), float(np.sum(w * y))) - 1


def top_capture(
    actual: ArrayLike,
    predicted: ArrayLike,
    share: float,
    weights: ArrayLike | None = None,
) -> float:
    """Return the share of all value that the highest predicted ``share`` of customers brings.

    Customers of equal prediction at the border are taken in part, so a constant captures
    ``share`` itself. NaN where the actual total is not positive.
    """
    y, p = _arrays(actual, predicted)
    w = _weights(weights, len(y))
    ranking = Ranking(p)
    mass, value = ranking.totals(w)[::-1], ranking.totals(w * y)[::-1]
    reached, earned = _cumulated(mass), _cumulated(value)
    return _ratio(float(np.interp(share * reached[-1], reached, earned)), float(earned[-1]))


def decile_calibration(
    actual: ArrayLike,
    predicted: ArrayLike,
    bins: int = 10,
    weights: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Return the mean prediction and the mean actual value in bins of equal weight.

    Rows are ordered by prediction, lowest first; rows of equal prediction share their mean actual
    value. What a border cuts counts in part on both sides.

    Returns
    -------
    tuple of array
        Mean predicted and mean actual value by bin; empty without any weight.
    """
    y, p = _arrays(actual, predicted)
    w = _weights(weights, len(y))
    ranking = Ranking(p)
    mass = ranking.totals(w)
    return (
        binned_means(mass, ranking.totals(w * p), bins),
        binned_means(mass, ranking.totals(w * y), bins),
    )


def binned_means(mass: Floats, total: Floats, bins: int) -> Floats:
    """Return means in bins of equal mass, of groups in order; empty without any mass."""
    return means_between(_cumulated(mass), _cumulated(total), bins)


def means_between(reached: Floats, sums: Floats, bins: int) -> Floats:
    """Return means in bins of equal mass, of sums of mass and of values that begin with 0."""
    if reached[-1] <= 0:
        return np.empty(0)
    borders = np.linspace(0.0, reached[-1], bins + 1)
    found: Floats = np.diff(np.interp(borders, reached, sums)) * bins / reached[-1]
    return found


def _cumulated(parts: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(parts)])


def decile_mape(
    actual: ArrayLike,
    predicted: ArrayLike,
    bins: int = 10,
    weights: ArrayLike | None = None,
) -> float:
    """Return the mean over deciles of |mean prediction - mean actual| / mean actual.

    As Wang, Liu and Miao (2019) report it. Deciles whose actual mean is not positive carry no
    percentage and are left out; NaN where none is left.
    """
    return mean_percentage_error(*decile_calibration(actual, predicted, bins, weights))


def mean_percentage_error(predicted: Floats, actual: Floats) -> float:
    """Return the mean of |predicted - actual| / actual over what is positive; NaN without any."""
    has_value = actual > 0
    if not has_value.any():
        return float("nan")
    return float((np.abs(predicted - actual)[has_value] / actual[has_value]).mean())


def auc(happened: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the area under the ROC curve with ties averaged; NaN where one class is absent."""
    y, s = _arrays(happened, scores)
    w = _weights(weights, len(y))
    positive = float(np.sum(w * y))
    negative = float(np.sum(w)) - positive
    if positive <= 0 or negative <= 0:
        return float("nan")
    ranking = Ranking(s)
    below = ranking.middle_ranks(w)
    # Wilcoxon: the ranks of the positives, less what they would hold among themselves.
    return (float(np.sum(w * y * below)) - positive**2 / 2) / (positive * negative)


def average_precision(happened: ArrayLike, scores: ArrayLike) -> float:
    """Return the sum over thresholds of precision times the gain in recall; NaN without any."""
    y, s = _arrays(happened, scores)
    if y.sum() <= 0:
        return float("nan")
    ranking = Ranking(s)
    hits = np.cumsum(ranking.totals(y)[::-1])
    seen = np.cumsum(ranking.count[::-1])
    gain = np.diff(np.concatenate([[0.0], hits])) / y.sum()
    return float(np.sum(hits / seen * gain))


def brier(happened: ArrayLike, probability: ArrayLike) -> float:
    """Return the mean squared difference of probability and outcome."""
    y, p = _arrays(happened, probability)
    return float(np.mean((p - y) ** 2))


def log_loss(happened: ArrayLike, probability: ArrayLike) -> float:
    """Return the mean negative log-likelihood; probabilities are kept 1e-12 away from 0 and 1."""
    y, p = _arrays(happened, probability)
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


def calibration_error(happened: ArrayLike, probability: ArrayLike, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal width on [0, 1] (Naeini 2015)."""
    y, p = _arrays(happened, probability)
    which = np.minimum((p * bins).astype(int), bins - 1)
    gap = np.bincount(which, weights=p - y, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def precision_recall_f1(
    happened: ArrayLike, scores: ArrayLike, threshold: float
) -> tuple[float, float, float]:
    """Return precision, recall and their harmonic mean when scores >= threshold are called.

    0 where nothing is called or nothing happened.
    """
    y, s = _arrays(happened, scores)
    called = s >= threshold
    hits = float(y[called].sum())
    precision = hits / called.sum() if called.any() else 0.0
    recall = hits / float(y.sum()) if y.sum() > 0 else 0.0
    both = precision + recall
    return float(precision), float(recall), float(2 * precision * recall / both if both else 0.0)


def coverage(actual: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Return the share of actual values within [low, high]; NaN for no rows."""
    y, a, b = _arrays(actual, low, high)
    return float(np.mean((a <= y) & (y <= b))) if len(y) else float("nan")


def pinball(actual: ArrayLike, predicted: ArrayLike, quantile: float) -> float:
    """Return the mean pinball loss of a predicted quantile (Koenker and Bassett 1978)."""
    y, p = _arrays(actual, predicted)
    return float(np.mean(np.maximum(quantile * (y - p), (quantile - 1) * (y - p))))


def value_measures(actual: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Return every measure of a predicted value, by name.

    Parameters
    ----------
    actual, predicted
        Value per customer, shape (n,) with n >= 1.
    """
    y, p = _arrays(actual, predicted)
    buyers = y > 0
    return {
        "normalized_gini": normalized_gini(y, p),
        "spearman": spearman(y, p),
        "spearman_buyers": spearman(y[buyers], p[buyers]),
        "rmse": rmse(y, p),
        "mae": mae(y, p),
        "wape": wape(y, p),
        "total_bias": total_bias(y, p),
        "top_10_capture": top_capture(y, p, 0.10),
        "top_20_capture": top_capture(y, p, 0.20),
        "decile_mape": decile_mape(y, p),
    }


def operating_threshold(probability: ArrayLike) -> float:
    """Return the probability from which on customers are called buyers.

    As many are called as are expected to buy: the sum of the probabilities, rounded. It needs no
    outcome, so it can be used on the cutoff that it is judged on. Infinity where nobody is
    expected.
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), 0.0, 1.0)
    k = round(float(p.sum()))
    return float(np.partition(p, len(p) - k)[len(p) - k]) if k else float("inf")


def purchase_measures(
    happened: ArrayLike, probability: ArrayLike, threshold: float | None = None
) -> dict[str, float]:
    """Return every measure of a predicted purchase probability, and of churn, by name.

    Churn is no purchase; its AUC, Brier score, log loss and calibration error are those of the
    purchase.

    Parameters
    ----------
    happened, probability
        Shape (n,) with n >= 1.
    threshold
        From which on a purchase is called; ``operating_threshold`` when None.
    """
    y, p = _arrays(happened, probability)
    chosen = operating_threshold(p) if threshold is None else threshold
    precision, recall, f1 = precision_recall_f1(y, p, chosen)
    # Whoever is not called a buyer is called churned: > 1 - threshold, but for rounding.
    lost, called = 1.0 - y, (p < chosen).astype(np.float64)
    churn_precision, churn_recall, churn_f1 = precision_recall_f1(lost, called, 0.5)
    return {
        "auc": auc(y, p),
        "average_precision": average_precision(y, p),
        "brier": brier(y, p),
        "log_loss": log_loss(y, p),
        "calibration_error": calibration_error(y, p),
        "threshold": chosen if np.isfinite(chosen) else 1.0,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "churn_average_precision": average_precision(lost, 1.0 - p),
        "churn_precision": churn_precision,
        "churn_recall": churn_recall,
        "churn_f1": churn_f1,
    }


def interval_measures(actual: ArrayLike, bounds: Mapping[str, ArrayLike] | Any) -> dict[str, float]:
    """Return coverage overall and among buyers, and the pinball loss, of P10, P50 and P90.

    Parameters
    ----------
    actual
        Value per customer.
    bounds
        ``p10``, ``p50``, ``p90`` per customer, and, where intervals are known, ``low_80``,
        ``high_80``, ``low_95`` and ``high_95``: of these the coverage is told, too, as
        ``interval_80``, ``interval_95``, and among buyers.
    """
    y, low, middle, high = _arrays(actual, bounds["p10"], bounds["p50"], bounds["p90"])
    buyers = y > 0
    found = {
        "coverage_80": coverage(y, low, high),
        "coverage_80_buyers": coverage(y[buyers], low[buyers], high[buyers]),
        "pinball_10": pinball(y, low, 0.1),
        "pinball_50": pinball(y, middle, 0.5),
        "pinball_90": pinball(y, high, 0.9),
    }
    for share in (80, 95):
        if f"low_{share}" in bounds:
            low, high = _arrays(bounds[f"low_{share}"], bounds[f"high_{share}"])
            found[f"interval_{share}"] = coverage(y, low, high)
            found[f"interval_{share}_buyers"] = coverage(y[buyers], low[buyers], high[buyers])
    return found


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
