"""Pareto/NBD: customers leave at any moment, whether they buy or not."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, expit, exprel, gammaln

from clv_pipeline.models.btyd.base import PurchaseModel, as_history
from clv_pipeline.models.btyd.fitting import FloatArray
from clv_pipeline.models.btyd.quadrature import log_power_integral


class ParetoNBD(PurchaseModel):
    r"""Pareto/NBD.

    While alive, a customer buys at a Poisson rate lambda; they leave after an exponential lifetime
    with rate mu. Lambda varies over customers as Gamma(``r``, rate ``alpha``), mu as Gamma(``s``,
    rate ``beta``), independently.

    Averaged over lambda and mu, the likelihood of x purchases, the last at t_x, is

    .. math:: \frac{\Gamma(r+x)\,\alpha^r \beta^s}{\Gamma(r)} \left\{ (\alpha+T)^{-(r+x)}
              (\beta+T)^{-s} + s \int_{t_x}^{T} (\alpha+u)^{-(r+x)} (\beta+u)^{-(s+1)} du \right\}

    The two terms are "alive at T" and "left at u". The papers write the integral as a difference
    of two hypergeometric functions; here it is summed as it stands, in log space.

    References
    ----------
    Schmittlein, D. C., Morrison, D. G., and Colombo, R. (1987). Counting your customers: who are
    they and what will they do next? Management Science 33(1), 1-24.
    Fader, P. S., and Hardie, B. G. S. (2005). A note on deriving the Pareto/NBD model and related
    expressions.
    """

    name: ClassVar[str] = "pareto_nbd"
    parameter_names: ClassVar[tuple[str, ...]] = ("r", "alpha", "s", "beta")
    alive_is_publishable: ClassVar[bool] = True

    def expected_purchases(
        self,
        t: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the expected number of purchases in (T, T+t].

        Fader and Hardie (2005), without the division by s-1 that fails at s = 1.
        """
        x, t_x, observed = as_history(frequency, recency, T)
        r, alpha, s, beta = self._values()
        growth = np.log1p(np.asarray(t, dtype=np.float64) / (beta + observed))
        lifetime = (beta + observed) * growth * exprel(-(s - 1.0) * growth)
        rate = (r + x) / (alpha + observed)
        return np.asarray(
            self.probability_alive(x, t_x, observed) * rate * lifetime, dtype=np.float64
        )

    def probability_alive(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
    ) -> FloatArray:
        """Return the probability that the customer has not left for good by T."""
        x, t_x, observed = as_history(frequency, recency, T)
        log_alive, log_left, _ = self._log_terms(
            self._values(), x.ravel(), t_x.ravel(), observed.ravel(), moments=False
        )
        return np.asarray(expit(log_alive - log_left), dtype=np.float64).reshape(x.shape)

    def probability_purchase(
        self,
        t: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the probability of at least one purchase in (T, T+t].

        The next purchase comes at u if the customer buys then and has not left before. Averaged
        over lambda and mu that is an integral of the same kind as in the likelihood, so no
        difference from one is taken. It equals one minus P(X(T, T+t) = 0) of Fader and Hardie
        (2014), "Deriving the conditional PMF of the Pareto/NBD model".
        """
        x, t_x, observed = as_history(frequency, recency, T)
        span, x, t_x, observed = np.broadcast_arrays(
            np.asarray(t, dtype=np.float64), x, t_x, observed
        )
        r, alpha, s, beta = self._values()
        shape, start = (r + x).ravel(), observed.ravel()
        log_integral, _ = log_power_integral(
            shape + 1.0, s, alpha, beta, start, start + span.ravel()
        )
        log_buys = (
            np.log(shape) + shape * np.log(alpha + start) + s * np.log(beta + start) + log_integral
        )
        buys = np.minimum(np.exp(log_buys), 1.0).reshape(x.shape)
        return np.asarray(buys * self.probability_alive(x, t_x, observed), dtype=np.float64)

    def _log_terms(
        self,
        values: FloatArray,
        x: FloatArray,
        t_x: FloatArray,
        observed: FloatArray,
        moments: bool,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the logarithms of the two terms of the likelihood, and means for the gradient."""
        r, alpha, s, beta = (float(v) for v in values)
        log_alive = -(r + x) * np.log(alpha + observed) - s * np.log(beta + observed)
        log_integral, means = log_power_integral(
            r + x, s + 1.0, alpha, beta, t_x, observed, moments=moments
        )
        return log_alive, np.log(s) + log_integral, means

    def _log_likelihood(
        self, values: FloatArray, x: FloatArray, t_x: FloatArray, observed: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        r, alpha, s, beta = (float(v) for v in values)
        log_alive, log_left, means = self._log_terms(values, x, t_x, observed, moments=True)
        log_likelihood = (
            gammaln(r + x)
            - gammaln(r)
            + r * np.log(alpha)
            + s * np.log(beta)
            + np.logaddexp(log_alive, log_left)
        )
        alive = expit(log_alive - log_left)
        left = expit(log_left - log_alive)
        log_first, inverse_first, log_second, inverse_second = means
        gradient = np.stack(
            [
                digamma(r + x)
                - digamma(r)
                + np.log(alpha)
                - alive * np.log(alpha + observed)
                - left * log_first,
                r / alpha - (r + x) * (alive / (alpha + observed) + left * inverse_first),
                np.log(beta) - alive * np.log(beta + observed) + left * (1.0 / s - log_second),
                s / beta - alive * s / (beta + observed) - left * (s + 1.0) * inverse_second,
            ]
        )
        return np.asarray(log_likelihood, dtype=np.float64), gradient

    def _starts(
        self, x: FloatArray, t_x: FloatArray, observed: FloatArray, count: FloatArray
    ) -> list[list[float]]:
        # One purchase more than was seen keeps the rate positive and finite for any rows.
        exposure = max(float(observed @ count) / float((x + 1.0) @ count), 1e-9)
        longest = max(float(observed.max()), 1e-9)
        return [
            [0.5, 0.5 * exposure, 0.6, 0.3 * longest],
            [1.0, exposure, 1.0, longest],
            [1.5, 2.0 * exposure, 0.3, 0.1 * longest],
        ]
