"""What a simulated shop is made of: laws, parameters, shares of everything that goes wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

DEFAULT_CUSTOMERS = 5_000
DEFAULT_DAYS = 1_096
TIME_ZONE = "Europe/Berlin"
REPORTING_CURRENCY = "EUR"


@dataclass(frozen=True)
class ShopParameters:
    """The laws of a simulated shop. Rates are per day, money is in the reporting currency.

    Attributes
    ----------
    purchase
        ``poisson``: Poisson orders; ``regular``: an Erlang-2 gap between orders (half as
        irregular). Both run on the clock of the season.
    dropout
        ``pareto``: exponential lifetime with gamma-distributed rates (Pareto/NBD);
        ``geometric``: a chance to leave after every repeat order, beta-distributed (BG/NBD);
        ``none``: nobody leaves.
    spend
        ``gamma_gamma`` or ``lognormal`` order values around each customer's mean.
    orders_per_customer
        Expected orders per buyer from the first order to the end of the data, the first one
        included; sets the scale of the purchase rate.
    rate_shape
        r of the purchase rate's gamma distribution.
    lifetime_shape, lifetime_scale
        s and beta (days) of the dropout rate's gamma distribution.
    dropout_a, dropout_b
        a and b of the dropout probability's beta distribution.
    order_shape, mean_shape, mean_scale
        p, q and v (money) of the Gamma-Gamma model.
    lognormal_mean, lognormal_between, lognormal_within
        Median of the customers' means, and the deviations of the logarithm between customers and
        between the orders of one.
    giant_share, giant_tail, giant_start, giant_cap
        So many customers have their mean order value multiplied by a Pareto variable with this
        tail index from ``giant_start`` up to ``giant_cap``.
    seasonality
        Strength of the yearly and weekly season: 0 is none, 1 the standard shape.
    opening_share
        Share of buyers whose first order falls into the first 30 days.
    never_share
        Accounts that never order, per buyer.
    full_refund_share, partial_refund_share
        Orders that are refunded wholly, and by 10 to 90 %.
    refund_lag_days
        Mean of the geometric lag between order and refund.
    campaign_every_days, campaign_share, treated_share
        Days between campaigns, share of the earlier buyers who are drawn, and of these who are
        treated; the others are the control arm.
    persuadable_share, response_a, response_b
        So many customers have a beta-distributed chance to place one more order within a week
        when treated; the others have none.
    late_shares
        (days, share): orders that reach the shop's systems so many days late.
    restated_share
        Orders delivered again with other amounts, 2 to 20 days later.
    guest_share
        Orders without a customer.
    zero_share, test_orders_per_month, orphan_refund_share, odd_refund_share
        Orders of amount 0; test orders; refunds without an order per order; refunds that are
        dated before their order, larger than it, or booked twice (each).
    merge_share, split_share
        Buyers who change to a second account which is merged later; accounts merged by mistake
        and split again.
    review_share
        Orders that are reviewed.
    bad_rows
        Rows of each kind that can't be read or believed.
    """

    purchase: Literal["poisson", "regular"] = "poisson"
    dropout: Literal["pareto", "geometric", "none"] = "pareto"
    spend: Literal["gamma_gamma", "lognormal"] = "gamma_gamma"
    orders_per_customer: float = 6.0
    rate_shape: float = 0.8
    lifetime_shape: float = 1.1
    lifetime_scale: float = 300.0
    dropout_a: float = 1.2
    dropout_b: float = 7.0
    order_shape: float = 4.0
    mean_shape: float = 3.5
    mean_scale: float = 28.0
    lognormal_mean: float = 38.0
    lognormal_between: float = 0.6
    lognormal_within: float = 0.5
    giant_share: float = 0.004
    giant_tail: float = 1.6
    giant_start: float = 4.0
    giant_cap: float = 200.0
    seasonality: float = 1.0
    opening_share: float = 0.15
    never_share: float = 0.08
    full_refund_share: float = 0.03
    partial_refund_share: float = 0.03
    refund_lag_days: float = 12.0
    campaign_every_days: int = 60
    campaign_share: float = 0.3
    treated_share: float = 0.5
    persuadable_share: float = 0.25
    response_a: float = 2.0
    response_b: float = 8.0
    late_shares: tuple[tuple[int, float], ...] = ((3, 0.012), (30, 0.006), (200, 0.002))
    restated_share: float = 0.01
    guest_share: float = 0.06
    zero_share: float = 0.003
    test_orders_per_month: int = 2
    orphan_refund_share: float = 0.001
    odd_refund_share: float = 0.01
    merge_share: float = 0.005
    split_share: float = 0.001
    review_share: float = 0.08
    bad_rows: int = 2

    def __post_init__(self) -> None:
        """Refuse laws that can't be combined and figures that make no shop."""
        if self.purchase == "regular" and self.dropout == "geometric":
            raise ValueError(
                "purchase='regular' with dropout='geometric' has no closed form here: "
                "take dropout='pareto' or 'none', or purchase='poisson'."
            )
        if self.orders_per_customer <= 1:
            raise ValueError(
                f"orders_per_customer = {self.orders_per_customer} can't be: every buyer has a "
                "first order, so the mean must be above 1."
            )
        if self.mean_shape <= 1:
            raise ValueError(
                f"mean_shape = {self.mean_shape} can't be: spend needs a mean, so > 1."
            )

    @property
    def refund_share(self) -> float:
        """Expected share of an order's value that is paid back."""
        return self.full_refund_share + 0.5 * self.partial_refund_share

    @property
    def giant_mean(self) -> float:
        """Mean of a giant's factor: a Pareto variable cut at ``giant_cap`` from above."""
        a, low, high = self.giant_tail, self.giant_start, self.giant_cap
        inside = a / (a - 1) * low**a * (low ** (1 - a) - high ** (1 - a))
        return float(inside + high * (low / high) ** a)

    @property
    def mean_order_value(self) -> float:
        """Expected order value of a customer drawn at random, refunds not subtracted."""
        if self.spend == "gamma_gamma":
            typical = self.order_shape * self.mean_scale / (self.mean_shape - 1)
        else:
            typical = self.lognormal_mean * math.exp(self.lognormal_between**2 / 2)
        return typical * (1 + self.giant_share * (self.giant_mean - 1))
