"""What the purchase models have in common: the interface, validation, waiting times, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize.elementwise import find_root

from clv_pipeline.models.btyd.fitting import (
    FitError,
    FitResult,
    FloatArray,
    collapse,
    maximise,
)

DAYS_PER_YEAR = 365.25
HUNDRED_YEARS_OF_DAYS = 36_525.0
# More distinct rows than this, and a sample of them serves to choose between the starts.
ROWS_TO_SCOUT = 10_000
# 24 nodes in the logarithm of time: expected purchases are smooth and concave there.
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(24)


def as_history(
    frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Broadcast and check the three numbers that sum up a customer's history.

    Returns
    -------
    ``frequency``, ``recency`` and ``T`` as float64 arrays of one shape.

    Raises
    ------
    ValueError
        When a value is missing, negative, or contradicts another.
    """
    arrays = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.float64) for a in (frequency, recency, T))
    )
    x, t_x, observed = (np.array(a, dtype=np.float64) for a in arrays)
    if not all(np.isfinite(a).all() for a in (x, t_x, observed)):
        raise ValueError(
            "frequency, recency and T must be finite: leave out customers without orders."
        )
    if (x < 0).any() or (x != np.floor(x)).any():
        raise ValueError("frequency must hold whole numbers >= 0: it counts repeat purchases.")
    if (t_x < 0).any() or (t_x > observed).any():
        raise ValueError("recency must lie between 0 and T.")
    if (t_x[x == 0] > 0).any():
        raise ValueError("recency must be 0 where frequency is 0.")
    return x, t_x, observed


class PurchaseModel(ABC):
    """A model of how many purchases a customer makes until they leave for good.

    Every method takes the customer's ``frequency`` (repeat purchases), ``recency`` (time from the
    first to the last) and ``T`` (time from the first to now), broadcast against each other. The
    unit of time is the caller's. Parameters that are times scale with it: a model fitted on days
    has seven times the ``alpha`` of the same model fitted on weeks, and its log-likelihood, a
    density in time, differs by the log of seven per repeat purchase.

    Parameters
    ----------
    on_failure
        ``raise`` (default) raises `FitError` when no maximum is found; ``keep`` keeps the last
        parameters, and the caller looks at ``result_.status``.

    Attributes
    ----------
    parameters_ : dict of str to float
        Fitted parameters by name.
    result_ : FitResult
        Status, standard errors and log-likelihood of the fit.
    """

    name: ClassVar[str]
    """Key of the model in configuration and saved files."""
    parameter_names: ClassVar[tuple[str, ...]]
    """Names of the parameters, in the order of the paper."""
    alive_is_publishable: ClassVar[bool]
    """Whether one-time buyers can be dead, so that P(alive) says something about all customers."""

    parameters_: dict[str, float]
    result_: FitResult

    def __init__(self, on_failure: str = "raise") -> None:
        self.on_failure = on_failure

    @classmethod
    def from_parameters(cls, **parameters: float) -> Self:
        """Build a fitted model from known parameters, such as those of a paper."""
        if set(parameters) != set(cls.parameter_names):
            raise ValueError(f"{cls.name} takes the parameters {', '.join(cls.parameter_names)}.")
        if not all(0.0 < value < np.inf for value in parameters.values()):
            raise ValueError(f"The parameters of {cls.name} must be positive numbers.")
        model = cls()
        model.result_ = FitResult.given({n: float(parameters[n]) for n in cls.parameter_names})
        model.parameters_ = dict(model.result_.parameters)
        return model

    def fit(
        self,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit by maximum likelihood.

        Parameters
        ----------
        frequency, recency, T
            One entry per customer.
        weights
            How many customers each entry stands for; 1 when not given.

        Returns
        -------
        The model itself. ``result_`` says whether to believe it.

        Raises
        ------
        FitError
            When nothing can be learned from the rows, or no maximum was found.
        """
        x, t_x, observed = (a.ravel() for a in self._as_history(frequency, recency, T))
        weight = np.ones(x.size) if weights is None else np.asarray(weights, dtype=np.float64)
        if weight.shape != x.shape or not np.isfinite(weight).all() or (weight < 0).any():
            raise ValueError("weights must hold one finite number >= 0 per customer.")
        is_used = weight > 0
        columns = [a[is_used] for a in (x, t_x, observed)]
        (x, t_x, observed), count, _ = collapse(columns, weight[is_used])
        if not (x > 0).any():
            raise FitError(f"{self.name} needs at least one repeat purchase among its customers.")

        starts = self._starts(x, t_x, observed, count)

        def run(part: slice, scouted: Mapping[str, float] | None) -> FitResult:
            history, times = (x[part], t_x[part], observed[part]), count[part]

            def objective(values: FloatArray) -> tuple[float, FloatArray]:
                log_likelihood, gradient = self._log_likelihood(values, *history)
                return float(log_likelihood @ times), gradient @ times

            total = float(times.sum())
            return maximise(objective, starts, self.parameter_names, total, times.size, scouted)

        # The rows are sorted, so every k-th is a fair sample: the starts need no more.
        every = max(1, count.size // ROWS_TO_SCOUT)
        scouted = run(slice(None, None, every), None).parameters if every > 1 else None
        self.result_ = run(slice(None), scouted)
        if self.result_.status == "failed" and self.on_failure == "raise":
            raise FitError(f"{self.name} could not be fitted. {self.result_.message}")
        self.parameters_ = dict(self.result_.parameters)
        return self

    def log_likelihood(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
    ) -> FloatArray:
        """Return the log-likelihood of each customer's history."""
        history = self._as_history(frequency, recency, T)
        flat = self._log_likelihood(self._values(), *(a.ravel() for a in history))[0]
        return flat.reshape(history[0].shape)

    @abstractmethod
    def expected_purchases(
        self,
        t: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the expected number of purchases in (T, T+t]."""

    @abstractmethod
    def probability_alive(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
    ) -> FloatArray:
        """Return the probability that the customer has not left for good by T."""

    @abstractmethod
    def probability_purchase(
        self,
        t: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the probability of at least one purchase in (T, T+t]."""

    def expected_purchases_new(self, t: npt.ArrayLike) -> FloatArray:
        """Return E[X(t)], the repeat purchases a new customer makes within t of the first."""
        return self.expected_purchases(t, 0.0, 0.0, 0.0)

    def expected_next_purchase(
        self,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
        longest: float = HUNDRED_YEARS_OF_DAYS,
    ) -> FloatArray:
        """Return the median time from T to the next purchase.

        The median, not the mean: a customer may never come back, so the mean does not exist. It
        counts from T, without assuming that the customer is alive.

        Parameters
        ----------
        frequency, recency, T
            The customer's history.
        longest
            Horizon of the search in the unit of the model; the default is a century of days.

        Returns
        -------
        The time by which a purchase has come with probability one half. Infinity where no
        purchase within ``longest`` is more likely than one.
        """
        x, t_x, observed = as_history(frequency, recency, T)
        wait = np.full(x.shape, np.inf)
        comes = self.probability_purchase(longest, x, t_x, observed) > 0.5
        if not comes.any():
            return wait

        def excess(
            log_t: FloatArray, x: FloatArray, t_x: FloatArray, observed: FloatArray
        ) -> FloatArray:
            return self.probability_purchase(np.exp(log_t), x, t_x, observed) - 0.5

        # Nothing is ordered within a trillionth of the horizon, and the root lies in between.
        bracket = (np.log(longest) - 28.0, np.log(longest))
        root = find_root(
            excess,
            bracket,
            args=(x[comes], t_x[comes], observed[comes]),
            tolerances={"xatol": 1e-9, "xrtol": 0.0, "fatol": 1e-12, "frtol": 0.0},
        )
        wait[comes] = np.exp(np.asarray(root.x, dtype=np.float64))
        return wait

    def discounted_expected_purchases(
        self,
        horizon: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
        yearly_rate: float,
        units_per_year: float = DAYS_PER_YEAR,
    ) -> FloatArray:
        r"""Return the purchases expected in (T, T+horizon], each discounted to T.

        .. math:: \int_0^H e^{-\delta u}\, dE(u) = e^{-\delta H} E(H) +
                  \delta \int_0^H e^{-\delta u} E(u)\, du

        where E(u) is `expected_purchases`. Times the expected spend it is the residual value over
        the horizon: the finite form of the DERT of Fader, Hardie and Lee (2005, "RFM and CLV").

        Parameters
        ----------
        horizon
            How far to look, in the unit of the model.
        frequency, recency, T
            The customer's history.
        yearly_rate
            Continuously compounded: a purchase after one year counts ``exp(-yearly_rate)``.
        units_per_year
            Length of a year in the unit of the model: 365.25 days by default, 52.18 for weeks.
        """
        x, t_x, observed = as_history(frequency, recency, T)
        span, x, t_x, observed = np.broadcast_arrays(
            np.asarray(horizon, dtype=np.float64), x, t_x, observed
        )
        delta = yearly_rate / units_per_year
        at_end = self.expected_purchases(span, x, t_x, observed)
        if delta == 0.0:
            return at_end
        scale = observed + self._time_scale()
        length = np.log1p(span / scale)
        held = np.zeros(span.shape)
        for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
            exponent = length * (node + 1.0) / 2.0
            u = scale * np.expm1(exponent)
            purchases = self.expected_purchases(u, x, t_x, observed)
            held += weight * length / 2.0 * (u + scale) * np.exp(-delta * u) * purchases
        return np.exp(-delta * span) * at_end + delta * held

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted model as plain data for JSON."""
        return {"model": self.name, "on_failure": self.on_failure, "fit": self.result_.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild the model that ``to_dict`` described."""
        if plain["model"] != cls.name:
            raise ValueError(f"This is a saved {plain['model']} model, not {cls.name}.")
        model = cls(on_failure=plain["on_failure"])
        model.result_ = FitResult.from_dict(plain["fit"])
        model.parameters_ = dict(model.result_.parameters)
        return model

    def _as_history(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Check histories; models with more rules override it."""
        return as_history(frequency, recency, T)

    def _values(self) -> FloatArray:
        return np.array([self.parameters_[name] for name in self.parameter_names])

    def _time_scale(self) -> float:
        """Return the time scale on which a new customer's purchases level off."""
        return self.parameters_["alpha"]

    @abstractmethod
    def _log_likelihood(
        self, values: FloatArray, x: FloatArray, t_x: FloatArray, observed: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the log-likelihood of each row, and its gradient (parameters, rows)."""

    @abstractmethod
    def _starts(
        self, x: FloatArray, t_x: FloatArray, observed: FloatArray, count: FloatArray
    ) -> list[list[float]]:
        """Return start values of the right scale for these rows."""
