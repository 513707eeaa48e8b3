"""Maximum likelihood for the buy-till-you-die models: collapse, several starts, status, errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import optimize

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]
Objective: TypeAlias = Callable[[FloatArray], tuple[float, FloatArray]]
Status: TypeAlias = Literal["converged", "weakly_identified", "failed", "given"]

LARGEST_GAIN = 0.05
"""Log-likelihood that another step may still promise at a maximum, or a millionth per customer."""
LARGEST_LOG_ERROR = 3.0
"""Standard error of a log-parameter beyond which the data say next to nothing about it."""
SEARCH_FACTOR = 1e4
"""The search stays within this factor of the start values, both ways: beyond it a gamma or beta
distribution is a point for all purposes, and differences of gammaln lose digits."""


class FitError(ValueError):
    """The model could not be fitted; the message says why in one sentence."""


@dataclass(frozen=True)
class FitResult:
    """What a fit found, and whether to believe it.

    Attributes
    ----------
    status
        ``converged``: a maximum with usable standard errors. ``weakly_identified``: a maximum, but
        the data hardly bound the parameters named in ``message``; predictions hold, standard
        errors do not. ``failed``: no maximum. ``given``: the parameters were set, not fitted.
    message
        The status in words.
    parameters, standard_errors
        By name. A standard error is NaN where the likelihood is flat.
    log_likelihood
        At the parameters, summed over customers.
    count_customers, count_rows
        Sum of the weights, and the rows left after equal ones were collapsed.
    gradient
        Largest absolute slope in a log-parameter, per customer, over the parameters inside the
        search region.
    count_evaluations
        Evaluations of the likelihood over all starts.
    """

    status: Status
    message: str
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    log_likelihood: float
    count_customers: float
    count_rows: int
    gradient: float
    count_evaluations: int

    @property
    def converged(self) -> bool:
        """Whether the fit found a maximum with usable standard errors."""
        return self.status == "converged"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; NaN becomes None."""
        plain = asdict(self)
        plain["standard_errors"] = {k: _none_if_nan(v) for k, v in self.standard_errors.items()}
        for key in ("log_likelihood", "gradient"):
            plain[key] = _none_if_nan(plain[key])
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FitResult:
        """Rebuild what ``to_dict`` returned."""
        values = dict(plain)
        errors = values["standard_errors"]
        values["standard_errors"] = {k: _nan_if_none(v) for k, v in errors.items()}
        for key in ("log_likelihood", "gradient"):
            values[key] = _nan_if_none(values[key])
        return cls(**values)

    @classmethod
    def given(cls, parameters: Mapping[str, float]) -> FitResult:
        """Describe parameters that were set by hand or taken from a paper."""
        return cls(
            status="given",
            message="The parameters were given, not fitted.",
            parameters=dict(parameters),
            standard_errors=dict.fromkeys(parameters, math.nan),
            log_likelihood=math.nan,
            count_customers=0.0,
            count_rows=0,
            gradient=math.nan,
            count_evaluations=0,
        )


def collapse(
    columns: Sequence[FloatArray], weights: FloatArray | None = None
) -> tuple[list[FloatArray], FloatArray, IntArray]:
    """Merge equal rows, since customers with equal histories have equal likelihoods.

    Parameters
    ----------
    columns
        Arrays of equal length that together describe a row.
    weights
        Weight of each row; 1 when not given.

    Returns
    -------
    The distinct rows as columns, the summed weight of each, and for each input row the position
    of its distinct row (so that ``distinct[position]`` gives the input back).
    """
    size = columns[0].size
    weight = np.ones(size) if weights is None else weights
    if size == 0:
        return [column.copy() for column in columns], weight, np.zeros(0, dtype=np.intp)
    order = np.lexsort(list(columns)[::-1])
    is_new = np.ones(size, dtype=bool)
    is_new[1:] = False
    for column in columns:
        ordered = column[order]
        is_new[1:] |= ordered[1:] != ordered[:-1]
    group = np.cumsum(is_new) - 1
    positions = np.empty(size, dtype=np.intp)
    positions[order] = group
    distinct = [column[order[is_new]] for column in columns]
    summed = np.bincount(group, weights=weight[order]).astype(np.float64)
    return distinct, summed, positions


def maximise(
    objective: Objective,
    starts: Sequence[Sequence[float]],
    names: Sequence[str],
    count_customers: float,
    count_rows: int,
    scouted: Mapping[str, float] | None = None,
) -> FitResult:
    """Maximise a log-likelihood over positive parameters.

    Each start is followed loosely with L-BFGS-B over the logarithms of the parameters; the best
    one is followed to the end and polished with Newton steps.

    Parameters
    ----------
    objective
        Maps parameters to the summed log-likelihood and its gradient.
    starts
        Start values, one sequence per start.
    names
        Parameter names, in the order of the objective.
    count_customers
        Sum of the weights; the search works per customer, so tolerances mean the same at any size.
    count_rows
        Distinct rows, for the report.
    scouted
        Parameters found from the same starts on a sample: followed instead of the starts.

    Returns
    -------
    FitResult
        Also when the search failed: the caller decides what to do with the status.
    """
    evaluations = 0

    def per_customer(theta: FloatArray) -> tuple[float, FloatArray]:
        nonlocal evaluations
        evaluations += 1
        parameters = np.exp(theta)
        log_likelihood, gradient = objective(parameters)
        slope = -gradient * parameters / count_customers
        if not (math.isfinite(log_likelihood) and np.isfinite(slope).all()):
            return math.inf, np.zeros_like(theta)
        return -log_likelihood / count_customers, slope

    logs = np.log(np.asarray(starts, dtype=np.float64))
    middle = logs.mean(axis=0)
    low, high = middle - math.log(SEARCH_FACTOR), middle + math.log(SEARCH_FACTOR)
    if scouted is None:
        found = [_search(per_customer, start, low, high, tolerance=1e-8) for start in logs]
        best = min(found, key=lambda item: item[1])[0]
    else:
        best = np.clip(np.log([scouted[name] for name in names]), low, high)
    theta = _search(per_customer, best, low, high, tolerance=1e-15)[0]
    theta = _polish(per_customer, theta, low, high)

    value, slope = per_customer(theta)
    is_free = (theta > low + 1e-6) & (theta < high - 1e-6)
    gradient = float(np.abs(slope[is_free]).max(initial=0.0)) if math.isfinite(value) else math.inf
    hessian = _hessian(per_customer, theta)[np.ix_(is_free, is_free)]
    gain = count_customers * _promised_gain(hessian, slope[is_free])
    log_errors = np.full(theta.size, np.nan)
    log_errors[is_free] = _log_errors(hessian * count_customers)
    is_weak = ~(log_errors < LARGEST_LOG_ERROR)
    weak = [name for name, flag in zip(names, is_weak, strict=True) if flag]
    status: Status = "weakly_identified" if weak else "converged"
    message = "The likelihood has a maximum inside the search region."
    if weak:
        message = f"The data hardly bound {', '.join(weak)}: the likelihood is flat there."
    if not gain <= max(LARGEST_GAIN, 1e-6 * count_customers):
        status = "failed"
        message = f"The search stopped {gain:.2g} of log-likelihood short of a maximum."
    parameters = np.exp(theta)
    errors = np.where(is_weak, np.nan, parameters * log_errors)
    return FitResult(
        status=status,
        message=message,
        parameters=dict(zip(names, parameters.tolist(), strict=True)),
        standard_errors=dict(zip(names, errors.tolist(), strict=True)),
        log_likelihood=-value * count_customers,
        count_customers=count_customers,
        count_rows=count_rows,
        gradient=gradient,
        count_evaluations=evaluations,
    )


def _search(
    function: Objective, start: FloatArray, low: FloatArray, high: FloatArray, tolerance: float
) -> tuple[FloatArray, float]:
    """Run L-BFGS-B once."""
    result = optimize.minimize(
        function,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 1000, "ftol": tolerance, "gtol": math.sqrt(tolerance) * 1e-2},
    )
    return np.asarray(result.x, dtype=np.float64), float(result.fun)


def _polish(
    function: Objective, theta: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Take Newton steps while they help: L-BFGS-B stops early along a flat ridge."""
    value, slope = function(theta)
    for _ in range(20):
        is_free = (theta > low + 1e-6) & (theta < high - 1e-6)
        if not is_free.any() or np.abs(slope[is_free]).max() < 1e-11:
            break
        hessian = _hessian(function, theta)[np.ix_(is_free, is_free)]
        if not np.isfinite(hessian).all():
            break
        curvature, directions = np.linalg.eigh(hessian)
        along = directions.T @ slope[is_free]
        # Downhill also where the ridge bends the wrong way, and never more than a factor e.
        move = directions @ (along / np.maximum(np.abs(curvature), 1e-7))
        step = np.zeros_like(theta)
        step[is_free] = move / max(1.0, float(np.abs(move).max()))
        # Stop all parameters where the first one meets its bound: clipping would leave the ridge.
        room = np.where(step > 0.0, theta - low, high - theta)
        step *= min(1.0, float((room / np.maximum(np.abs(step), 1e-300)).min()))
        candidate = np.clip(theta - step, low, high)
        new_value, new_slope = function(candidate)
        # Close to the maximum the values are equal to rounding, so the slope has to decide.
        is_flat = abs(new_value - value) <= 1e-12 * abs(value)
        if not (
            new_value < value
            or (is_flat and np.abs(new_slope[is_free]).max() < np.abs(slope[is_free]).max())
        ):
            break
        theta, value, slope = candidate, new_value, new_slope
    return theta


def _hessian(function: Objective, theta: FloatArray) -> FloatArray:
    """Differentiate the analytic gradient once more, by central differences."""
    step = 1e-4
    rows = []
    for index in range(theta.size):
        shift = np.zeros_like(theta)
        shift[index] = step
        rows.append((function(theta + shift)[1] - function(theta - shift)[1]) / (2.0 * step))
    hessian = np.array(rows)
    return np.asarray((hessian + hessian.T) / 2.0, dtype=np.float64)


def _promised_gain(hessian: FloatArray, slope: FloatArray) -> float:
    """Return what a Newton step of at most a factor e in each direction would gain."""
    if not (np.isfinite(hessian).all() and np.isfinite(slope).all()):
        return math.inf
    curvature, directions = np.linalg.eigh(hessian)
    along = np.abs(directions.T @ slope)
    return float((along * np.minimum(along / np.maximum(np.abs(curvature), 1e-300), 1.0)).sum())


def _log_errors(hessian: FloatArray) -> FloatArray:
    """Return standard errors of the log-parameters; NaN where the likelihood is flat."""
    if hessian.size == 0 or not np.isfinite(hessian).all():
        return np.full(hessian.shape[0], np.nan)
    if np.linalg.eigvalsh(hessian).min() <= 0.0:
        return np.full(hessian.shape[0], np.nan)
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(hessian))), dtype=np.float64)


def _none_if_nan(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _nan_if_none(value: float | None) -> float:
    return math.nan if value is None else float(value)
