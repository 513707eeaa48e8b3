"""What buy-till-you-die owes to a customer's order days, silence, tenure and spend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clv_pipeline.models.attribution import Parts, shapley
from clv_pipeline.models.btyd.fitting import collapse
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.panel import Floats, Matrix

# The four inputs that are swapped, and the concept that each one speaks for.
PLAYERS = ("frequency", "recency", "tenure", "spend")
_FREQUENCY, _RECENCY, _TENURE, _SPEND = (1 << k for k in range(len(PLAYERS)))
_EVERYONE = 2 ** len(PLAYERS) - 1


@dataclass(frozen=True)
class ReferenceCustomer:
    """The customer whom others are compared with: means of logarithms of those who ordered.

    Attributes
    ----------
    order_days, days_since_last_order, tenure, spend
        Order days, days since the last one, days since the first one, mean value of an order day.
    """

    order_days: float = 1.0
    days_since_last_order: float = 0.0
    tenure: float = 0.0
    spend: float = 0.0

    @classmethod
    def of(cls, X: Matrix) -> ReferenceCustomer:
        """Find the reference of some customers."""
        days = np.nan_to_num(X.column("count_order_days"))
        rows = X.take((days > 0) & np.isfinite(X.column("T")))
        if not len(rows):
            return cls()
        days, tenure = rows.column("count_order_days"), rows.column("T")
        silence = tenure - np.nan_to_num(rows.column("recency"))
        spend = np.maximum(np.nan_to_num(rows.column("sum_value")), 0.0) / days
        middle = [float(np.expm1(np.log1p(c).mean())) for c in (days, silence, tenure, spend)]
        # Histories are counted in whole days.
        whole = [float(round(m)) for m in middle[:3]]
        return cls(whole[0], whole[1], whole[2], middle[3])


class SwappedHistories:
    """Purchase histories with some of the four inputs taken from the reference customer.

    A customer without an order has no other input than that: the whole difference from the
    reference is owed to ``frequency``.

    Parameters
    ----------
    X
        Holds the columns that sum up a purchase history.
    reference
        Whom inputs are taken from.
    """

    def __init__(self, X: Matrix, reference: ReferenceCustomer) -> None:
        days = np.nan_to_num(X.column("count_order_days"))
        tenure = X.column("T")
        self.has_orders = (days > 0) & np.isfinite(tenure) & np.isfinite(X.column("frequency"))
        self.reference = reference

        def known(values: Floats, otherwise: float) -> Floats:
            return np.where(self.has_orders, values, otherwise)

        self._own = {
            "frequency": known(X.column("frequency"), 0.0),
            "order_days": known(days, 1.0),
            "tenure": known(tenure, reference.tenure),
            "silence": known(tenure - X.column("recency"), reference.days_since_last_order),
            "spend": known(
                np.maximum(np.nan_to_num(X.column("sum_value")), 0.0) / np.maximum(days, 1.0),
                reference.spend,
            ),
            "repeat_spend": known(np.nan_to_num(X.column("monetary_value")), reference.spend),
        }
        self._theirs = {
            "frequency": max(reference.order_days - 1.0, 0.0),
            "order_days": reference.order_days,
            "tenure": reference.tenure,
            "silence": reference.days_since_last_order,
            "spend": reference.spend,
            "repeat_spend": reference.spend if reference.order_days > 1 else 0.0,
        }

    def __len__(self) -> int:
        return len(self.has_orders)

    def pick(self, name: str, is_own: bool) -> Floats:
        """Return one input, the customers' own or the reference's."""
        return self._own[name] if is_own else np.full(len(self), self._theirs[name])

    def history(self, mask: int) -> tuple[Floats, Floats, Floats]:
        """Return frequency, recency and T of a coalition; recency stays possible."""
        frequency = self.pick("frequency", bool(mask & _FREQUENCY))
        tenure = self.pick("tenure", bool(mask & _TENURE))
        silence = self.pick("silence", bool(mask & _RECENCY))
        recency = np.where(frequency > 0, np.clip(tenure - silence, 0.0, tenure), 0.0)
        return frequency, recency, tenure

    def explain(
        self,
        worth: Callable[[int], Floats],
        concepts: tuple[str, ...],
        never_ordered: float = 0.0,
    ) -> Parts:
        """Take a quantity apart.

        Parameters
        ----------
        worth
            From a coalition's bit mask to the quantity, shape (n,).
        concepts
            Columns of the effects.
        never_ordered
            The quantity of customers without an order.
        """
        game = {mask: worth(mask) for mask in range(_EVERYONE + 1)}
        for mask in game:
            if mask & _FREQUENCY:
                game[mask] = np.where(self.has_orders, game[mask], never_ordered)
            else:
                game[mask] = np.where(self.has_orders, game[mask], game[0])
        base = float(game[0][0]) if len(self) else 0.0
        effects = np.zeros((len(self), len(concepts)))
        effects[:, [concepts.index(name) for name in PLAYERS]] = shapley(game, len(PLAYERS))
        return Parts(base, effects)


class HistoryGames:
    """One buy-till-you-die model over one horizon, asked about every coalition.

    Parameters
    ----------
    model
        With its horizon.
    swapped
        The customers.
    """

    def __init__(self, model: HistoryModel, swapped: SwappedHistories) -> None:
        self.model = model
        self.swapped = swapped
        self._found: dict[int, tuple[Floats, Floats]] = {}

    def orders(self, mask: int) -> Floats:
        """Return the expected orders of a coalition."""
        return self._purchases(mask)[0]

    def chance(self, mask: int) -> Floats:
        """Return the chance of an order of a coalition."""
        return self._purchases(mask)[1]

    def value(self, mask: int) -> Floats:
        """Return the expected value of a coalition."""
        swapped = self.swapped
        days, name = ("order_days", "spend")
        if not self.model.count_first_order_in_spend:
            days, name = "frequency", "repeat_spend"
        count = swapped.pick(days, bool(mask & _FREQUENCY))
        mean = swapped.pick(name, bool(mask & _SPEND))
        # Without a repeat order there is no mean of repeat orders.
        mean = np.where(count > 0, mean, 0.0)
        return self.orders(mask) * self.model.btyd_.spend_model_.expected_spend(count, mean)

    def _purchases(self, mask: int) -> tuple[Floats, Floats]:
        mask &= _EVERYONE ^ _SPEND
        if mask not in self._found:
            unique, _, places = collapse(list(self.swapped.history(mask)))
            model, horizon = self.model.btyd_.purchase_model_, self.model.horizon_days
            orders = model.expected_purchases(horizon, *unique)[places]
            chance = model.probability_purchase(horizon, *unique)[places]
            self._found[mask] = (orders, chance)
        return self._found[mask]


def rate_times_value(swapped: SwappedHistories, horizon_days: int) -> Callable[[int], Floats]:
    """Return the worth of coalitions in ``RateTimesValueModel``: x / T times H times mean value."""

    def worth(mask: int) -> Floats:
        frequency, _, tenure = swapped.history(mask)
        rate = np.divide(frequency, tenure, out=np.zeros(len(swapped)), where=tenure > 0)
        return rate * horizon_days * swapped.pick("spend", bool(mask & _SPEND))

    return worth
