"""BG/NBD and MBG/NBD: customers may leave only right after a purchase."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, digamma, expit, exprel, gammaln

from clv_pipeline.models.btyd.base import HUNDRED_YEARS_OF_DAYS, PurchaseModel, as_history
from clv_pipeline.models.btyd.fitting import FloatArray
from clv_pipeline.models.btyd.quadrature import beta_quadrature


class BGNBD(PurchaseModel):
    """BG/NBD, the beta-geometric / negative binomial model.

    While alive, a customer buys at a Poisson rate lambda. After each repeat purchase they leave
    for good with probability p. Lambda varies over customers as Gamma(``r``, rate ``alpha``), p as
    Beta(``a``, ``b``), independently.

    A customer can leave only at a repeat purchase, so every one-time buyer counts as alive:
    P(alive) is 1 where frequency is 0 and must not be published as a churn score.

    References
    ----------
    Fader, P. S., Hardie, B. G. S., and Lee, K. L. (2005). "Counting your customers" the easy way:
    an alternative to the Pareto/NBD model. Marketing Science 24(2), 275-284. Likelihood: eq. 6;
    E[X(t)]: eq. 9; conditional expectation: eq. 10.
    """

    name: ClassVar[str] = "bg_nbd"
    parameter_names: ClassVar[tuple[str, ...]] = ("r", "alpha", "a", "b")
    alive_is_publishable: ClassVar[bool] = False
    # Chances to leave beyond one per repeat purchase: 1 when the first purchase is one, too.
    _chances_at_first_purchase: ClassVar[int] = 0

    def expected_purchases(
        self,
        t: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the expected number of purchases in (T, T+t].

        With the customer alive, the posterior of lambda is Gamma(r+x, alpha+T) and that of p
        Beta(a, b+x) (b+x+1 in MBG/NBD), and someone with lambda and p buys (1-exp(-lambda p t))/p
        times. The mean of that is what eq. 10 writes with a hypergeometric function and a-1 in the
        denominator; integrated over p it has no singularity and no cancellation.
        """
        x, t_x, observed = as_history(frequency, recency, T)
        span = np.asarray(t, dtype=np.float64)
        span, x, t_x, observed = np.broadcast_arrays(span, x, t_x, observed)
        r, alpha, a, b = self._values()
        shape = r + x
        ratio = span / (alpha + observed)
        purchases = np.zeros(x.shape)
        for count in np.unique(x):
            rows = x == count
            steepest = float(np.max(ratio[rows])) * float(r + count + 1.0)
            nodes, weights = beta_quadrature(
                a, b + count + self._chances_at_first_purchase, max(steepest, 1.0)
            )
            purchases[rows] = _mean_until_leaving(shape[rows], ratio[rows], nodes, weights)
        return purchases * self.probability_alive(x, t_x, observed)

    def probability_alive(
        self, frequency: npt.ArrayLike, recency: npt.ArrayLike, T: npt.ArrayLike
    ) -> FloatArray:
        """Return the probability that the customer has not left for good by T.

        Fader, Hardie and Lee (2008), "Computing P(alive) using the BG/NBD model".
        """
        x, t_x, observed = as_history(frequency, recency, T)
        r, alpha, a, b = self._values()
        return np.asarray(
            expit(-self._log_odds_left(r, alpha, a, b, x, t_x, observed)), dtype=np.float64
        )

    def probability_purchase(
        self,
        t: npt.ArrayLike,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the probability of at least one purchase in (T, T+t].

        Nobody leaves between purchases, so it is P(alive) times one minus the Poisson-gamma
        probability of none: 1 - ((alpha+T) / (alpha+T+t))^(r+x).
        """
        x, t_x, observed = as_history(frequency, recency, T)
        ratio = np.asarray(t, dtype=np.float64) / (self.parameters_["alpha"] + observed)
        buys = -np.expm1(-(self.parameters_["r"] + x) * np.log1p(ratio))
        return np.asarray(buys * self.probability_alive(x, t_x, observed), dtype=np.float64)

    def expected_next_purchase(
        self,
        frequency: npt.ArrayLike,
        recency: npt.ArrayLike,
        T: npt.ArrayLike,
        longest: float = HUNDRED_YEARS_OF_DAYS,
    ) -> FloatArray:
        """Return the median time from T to the next purchase, in closed form.

        Returns
        -------
        The time by which a purchase has come with probability one half. Infinity where no
        purchase within ``longest`` is more likely than one.
        """
        x, t_x, observed = as_history(frequency, recency, T)
        alive = self.probability_alive(x, t_x, observed)
        wait = np.full(x.shape, np.inf)
        comes = self.probability_purchase(longest, x, t_x, observed) > 0.5
        growth = -np.log1p(-0.5 / alive[comes]) / (self.parameters_["r"] + x[comes])
        wait[comes] = (self.parameters_["alpha"] + observed[comes]) * np.expm1(growth)
        return wait

    def _log_odds_left(
        self,
        r: float,
        alpha: float,
        a: float,
        b: float,
        x: FloatArray,
        t_x: FloatArray,
        observed: FloatArray,
    ) -> FloatArray:
        """Return the log-odds of having left at the last purchase; minus infinity if impossible."""
        chances = x + self._chances_at_first_purchase
        silence = np.log1p((observed - t_x) / (alpha + t_x))
        possible = np.log(a) - np.log(np.where(chances > 0, b + chances - 1.0, 1.0))
        return np.where(chances > 0, possible + (r + x) * silence, -np.inf)

    def _log_likelihood(
        self, values: FloatArray, x: FloatArray, t_x: FloatArray, observed: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        r, alpha, a, b = (float(v) for v in values)
        chances = x + self._chances_at_first_purchase
        log_odds = self._log_odds_left(r, alpha, a, b, x, t_x, observed)
        left = expit(log_odds)
        log_likelihood = (
            gammaln(r + x)
            - gammaln(r)
            - r * np.log1p(observed / alpha)
            - x * np.log(alpha + observed)
            + betaln(a, b + chances)
            - betaln(a, b)
            + np.logaddexp(0.0, log_odds)
        )
        all_chances = digamma(a + b) - digamma(a + b + chances)
        before_last = np.where(chances > 0, b + chances - 1.0, 1.0)
        silence = np.log1p((observed - t_x) / (alpha + t_x))
        gradient = np.stack(
            [
                digamma(r + x) - digamma(r) - np.log1p(observed / alpha) + left * silence,
                r / alpha - (r + x) * ((1.0 - left) / (alpha + observed) + left / (alpha + t_x)),
                all_chances + left / a,
                all_chances + digamma(b + chances) - digamma(b) - left / before_last,
            ]
        )
        return np.asarray(log_likelihood, dtype=np.float64), gradient

    def _starts(
        self, x: FloatArray, t_x: FloatArray, observed: FloatArray, count: FloatArray
    ) -> list[list[float]]:
        # One purchase more than was seen keeps the rate positive and finite for any rows.
        exposure = float(observed @ count) / float((x + 1.0) @ count)
        return [
            [0.25, 0.5 * max(exposure, 1e-9), 0.8, 2.4],
            [1.0, 2.0 * max(exposure, 1e-9), 0.5, 5.0],
            [2.0, 2.0 * max(exposure, 1e-9), 2.0, 2.0],
        ]


class MBGNBD(BGNBD):
    """MBG/NBD: as `BGNBD`, but a customer may also leave right after the first purchase.

    One-time buyers can therefore have left, and P(alive) may be published. The likelihood is that
    of BG/NBD with one chance to leave more.

    References
    ----------
    Batislam, E. P., Denizel, M., and Filiztekin, A. (2007). Empirical validation and comparison
    of models for customer base analysis. International Journal of Research in Marketing 24(3),
    201-209. Also Hoppe, D., and Wagner, U. (2007), Marketing ZFP 3, 75-90 (as "CBG/NBD").
    """

    name: ClassVar[str] = "mbg_nbd"
    alive_is_publishable: ClassVar[bool] = True
    _chances_at_first_purchase: ClassVar[int] = 1


def _mean_until_leaving(
    shape: FloatArray, ratio: FloatArray, nodes: FloatArray, weights: FloatArray
) -> FloatArray:
    """Return the mean of (1-(1+p ratio)^-shape)/p over the nodes of p, row by row."""
    result = np.empty(shape.size)
    rows_at_once = 256  # the working arrays stay in the cache of a core
    for begin in range(0, shape.size, rows_at_once):
        part = slice(begin, begin + rows_at_once)
        growth = np.log1p(ratio[part, None] * nodes)
        # exprel keeps the limit shape * ratio as p goes to zero.
        bought = shape[part, None] * exprel(-shape[part, None] * growth) * (growth / nodes)
        result[part] = bought @ weights
    return result
