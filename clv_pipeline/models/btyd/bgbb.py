"""BG/BB: purchases on discrete occasions, such as a yearly appeal."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, digamma

from clv_pipeline.models.btyd.base import PurchaseModel, as_history
from clv_pipeline.models.btyd.fitting import FloatArray

HUNDRED_OCCASIONS = 100.0


class BGBB(PurchaseModel):
    """BG/BB, the beta-geometric / beta-Bernoulli model: Pareto/NBD for discrete occasions.

    At the start of each occasion a customer leaves for good with probability theta; one who has
    not left buys with probability p. P varies over customers as Beta(``alpha``, ``beta``), theta
    as Beta(``gamma``, ``delta``), independently.

    Time is counted in occasions, and all times are whole numbers: ``T`` is the number of occasions
    a customer had since the first purchase (n in the paper), ``recency`` the number of the
    occasion they bought last (t_x; 0 if never again), ``frequency`` how often they bought (x).

    References
    ----------
    Fader, P. S., Hardie, B. G. S., and Shang, J. (2010). Customer-base analysis in a discrete-time
    noncontractual setting. Marketing Science 29(6), 1086-1108. The conditional expectation is
    written here as a sum over occasions, which has no singularity at gamma = 1.
    """

    name: ClassVar[str] = "bg_bb"
    parameter_names: ClassVar[tuple[str, ...]] = ("alpha", "beta", "gamma", "delta")
    alive_is_publishable: ClassVar[bool] = True

    def expected_purchases(
        self,
        t: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the expected number of purchases on the next t occasions."""
        span, x, t_x, observed = _as_occasions(t, frequency, recency, T)
        alpha, beta, gamma, delta = self._values()
        history = self.log_likelihood(x, t_x, observed)
        buys = betaln(alpha + x + 1.0, beta + observed - x) - betaln(alpha, beta)
        purchases = np.zeros(x.shape)
        for ahead in range(1, int(span.max(initial=0.0)) + 1):
            stays = betaln(gamma, delta + observed + ahead) - betaln(gamma, delta)
            purchases += np.where(ahead <= span, np.exp(buys + stays - history), 0.0)
        return purchases

    def probability_alive(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
    ) -> FloatArray:
        """Return the probability that the customer is still there on occasion T+1."""
        _, x, t_x, observed = _as_occasions(0.0, frequency, recency, T)
        alpha, beta, gamma, delta = self._values()
        bought = betaln(alpha + x, beta + observed - x) - betaln(alpha, beta)
        stays = betaln(gamma, delta + observed + 1.0) - betaln(gamma, delta)
        log_alive = bought + stays - self.log_likelihood(x, t_x, observed)
        return np.asarray(np.exp(log_alive), dtype=np.float64)

    def probability_purchase(
        self,
        t: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the probability of at least one purchase on the next t occasions.

        Summed over the occasion on which the next purchase comes.
        """
        span, x, t_x, observed = _as_occasions(t, frequency, recency, T)
        history = self.log_likelihood(x, t_x, observed)
        probability = np.zeros(x.shape)
        for ahead in range(1, int(span.max(initial=0.0)) + 1):
            comes_now = np.exp(self._log_next(ahead, x, observed) - history)
            probability += np.where(ahead <= span, comes_now, 0.0)
        return probability

    def expected_next_purchase(
        self,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
        longest: float = HUNDRED_OCCASIONS,
    ) -> FloatArray:
        """Return the median number of occasions until the next purchase.

        Returns
        -------
        The first occasion by which a purchase has come with probability at least one half.
        Infinity where no purchase within ``longest`` occasions is more likely than one.
        """
        _, x, t_x, observed = _as_occasions(0.0, frequency, recency, T)
        history = self.log_likelihood(x, t_x, observed)
        wait, probability = np.full(x.shape, np.inf), np.zeros(x.shape)
        for ahead in range(1, int(longest) + 1):
            probability += np.exp(self._log_next(ahead, x, observed) - history)
            wait = np.where((probability >= 0.5) & np.isinf(wait), float(ahead), wait)
        return wait

    def discounted_expected_purchases(
        self,
        horizon: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
        yearly_rate: float,
        units_per_year: float = 1.0,
    ) -> FloatArray:
        """Return the purchases expected on the next occasions, each discounted to now.

        Parameters
        ----------
        horizon
            How many occasions to look ahead.
        frequency, recency, T
            The customer's history.
        yearly_rate
            Continuously compounded.
        units_per_year
            Occasions per year.
        """
        span, x, t_x, observed = _as_occasions(horizon, frequency, recency, T)
        total, before = np.zeros(x.shape), np.zeros(x.shape)
        for ahead in range(1, int(span.max(initial=0.0)) + 1):
            until = self.expected_purchases(np.minimum(ahead, span), x, t_x, observed)
            total += (until - before) * np.exp(-yearly_rate * ahead / units_per_year)
            before = until
        return total

    def _as_history(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        return _history_in_occasions(frequency, recency, T)

    def _log_next(self, ahead: int, x: FloatArray, observed: FloatArray) -> FloatArray:
        """Return the log-probability of the history and a next purchase on occasion T+ahead."""
        alpha, beta, gamma, delta = self._values()
        buys = betaln(alpha + x + 1.0, beta + observed - x + ahead - 1.0) - betaln(alpha, beta)
        stays = betaln(gamma, delta + observed + ahead) - betaln(gamma, delta)
        return np.asarray(buys + stays, dtype=np.float64)

    def _log_likelihood(
        self, values: FloatArray, x: FloatArray, t_x: FloatArray, observed: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        alpha, beta, gamma, delta = (float(v) for v in values)
        # One column per history that fits: left after occasion t_x + i, and last: has not left.
        occasions = np.arange(int((observed - t_x).max(initial=0.0)))
        fits = np.append(
            occasions < (observed - t_x)[:, None], np.ones((x.size, 1), dtype=bool), axis=1
        )
        seen = np.append(t_x[:, None] + occasions, observed[:, None], axis=1)
        seen = np.where(fits, seen, observed[:, None])
        left = np.append(np.ones(occasions.size), 0.0)
        passed = seen - x[:, None]
        terms = (
            betaln(alpha + x[:, None], beta + passed)
            - betaln(alpha, beta)
            + betaln(gamma + left, delta + seen)
            - betaln(gamma, delta)
        )
        terms = np.where(fits, terms, -np.inf)
        peak = terms.max(axis=1)
        mass = np.exp(terms - peak[:, None])
        log_likelihood = peak + np.log(mass.sum(axis=1))
        share = mass / mass.sum(axis=1)[:, None]
        all_buys = digamma(alpha + beta) - digamma(alpha + beta + seen)
        all_stays = digamma(gamma + delta) - digamma(gamma + delta + left + seen)
        slopes = (
            all_buys + digamma(alpha + x[:, None]) - digamma(alpha),
            all_buys + digamma(beta + passed) - digamma(beta),
            all_stays + digamma(gamma + left) - digamma(gamma),
            all_stays + digamma(delta + seen) - digamma(delta),
        )
        gradient = np.stack([(share * slope).sum(axis=1) for slope in slopes])
        return np.asarray(log_likelihood, dtype=np.float64), gradient

    def _starts(
        self, x: FloatArray, t_x: FloatArray, observed: FloatArray, count: FloatArray
    ) -> list[list[float]]:
        return [[1.0, 1.0, 0.6, 2.5], [1.0, 2.0, 1.0, 10.0], [2.0, 1.0, 0.3, 1.0]]


def _as_occasions(
    t: npt.ArrayLike, frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Broadcast and check a number of occasions ahead and a history in occasions."""
    x, t_x, observed = _history_in_occasions(frequency, recency, T)
    span = np.asarray(t, dtype=np.float64)
    if (span != np.floor(span)).any():
        raise ValueError("bg_bb counts time in occasions: t must be a whole number.")
    span, x, t_x, observed = np.broadcast_arrays(span, x, t_x, observed)
    return span, x, t_x, observed


def _history_in_occasions(
    frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    x, t_x, observed = as_history(frequency, recency, T)
    if any((a != np.floor(a)).any() for a in (t_x, observed)):
        raise ValueError("bg_bb counts time in occasions: recency and T must be whole numbers.")
    if (x > t_x).any():
        raise ValueError("bg_bb allows one purchase per occasion: frequency cannot exceed recency.")
    return x, t_x, observed
