"""Which set of parameters a search tries next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel
from sklearn.model_selection import ParameterGrid, ParameterSampler

Method = Literal["bayes", "random", "grid"]
Space = Mapping[str, Sequence[float]]
FIRST_TRIALS = 6
POOL = 200


def propose(
    present: dict[str, float],
    space: Space,
    method: Method,
    seed: int,
    judged: Sequence[tuple[Mapping[str, float], float]],
) -> Iterator[dict[str, float]]:
    """Give sets of parameters that were not tried yet, the present one first.

    Parameters
    ----------
    present
        The parameters as they are set now.
    space
        By name, the values to choose from.
    method
        ``grid`` goes through the whole space, ``random`` draws from it, ``bayes`` models the loss
        by a Gaussian process over the trials so far and takes what promises the largest expected
        improvement (Jones, Schonlau and Welch 1998).
    seed
        Of the draws.
    judged
        The sets that were tried and their losses; the caller adds to it.
    """
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
        if method == "bayes" and len(judged) >= FIRST_TRIALS:
            place = _most_promising(judged, left, space)
        yield left.pop(place)


def _most_promising(
    judged: Sequence[tuple[Mapping[str, float], float]],
    left: Sequence[Mapping[str, float]],
    space: Space,
) -> int:
    """Return the place of the largest expected improvement under a Gaussian process."""

    def places(parameters: Mapping[str, float]) -> list[float]:
        return [
            float(np.interp(parameters[n], sorted(space[n]), np.linspace(0, 1, len(space[n]))))
            for n in space
        ]

    X = np.array([places(parameters) for parameters, _ in judged])
    losses = np.array([loss for _, loss in judged])
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
