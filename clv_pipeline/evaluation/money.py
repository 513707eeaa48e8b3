"""What a model's answers are worth to the business, under a stated matrix of costs and gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from clv_pipeline.evaluation.ranking import Floats, Ranking
from clv_pipeline.settings import Settings


@dataclass(frozen=True)
class CostMatrix:
    """What a contact costs and brings; all money in the reporting currency.

    Attributes
    ----------
    contact_cost
        Of one customer contacted.
    margin_share
        Share of value that is left after variable cost; 1 where value is a margin already.
    lift_share
        Share of a customer's value that a contact adds to it.
    save_rate
        Share of the customers about to leave whom a contact keeps.
    budgets
        Numbers of customers that a budget may reach.
    """

    contact_cost: float = 1.0
    margin_share: float = 0.3
    lift_share: float = 0.1
    save_rate: float = 0.1
    budgets: tuple[int, ...] = (100, 1000)

    @classmethod
    def from_settings(cls, settings: Settings) -> CostMatrix:
        """Take the matrix from ``[evaluation]``; a margin is not reduced twice."""
        chosen = settings.evaluation
        is_margin = settings.value.definition == "contribution_margin"
        return cls(
            chosen.contact_cost,
            1.0 if is_margin else chosen.margin_share,
            chosen.lift_share,
            chosen.save_rate,
            chosen.budget_customers,
        )


def sum_of_top(values: ArrayLike, scores: ArrayLike, k: int) -> float:
    """Return the sum of ``values`` over the k highest scores.

    Rows of equal score at the border are taken in part, so the order of rows does not matter.
    """
    ranking = Ranking(scores)
    mass = ranking.count[::-1].astype(np.float64)
    sums = ranking.totals(np.asarray(values, dtype=np.float64))[::-1]
    reached = np.concatenate([[0.0], np.cumsum(mass)])
    return float(np.interp(k, reached, np.concatenate([[0.0], np.cumsum(sums)])))


def value_money(actual: ArrayLike, predicted: ArrayLike, costs: CostMatrix) -> dict[str, float]:
    """Return what contacting the k customers of highest predicted value captures and brings.

    ``value_captured_at_k`` is the share of all value that they bring. ``profit_at_k`` is margin
    times lift of their value, less the contacts. Budgets beyond the customers there are are left
    out.
    """
    y = np.asarray(actual, dtype=np.float64)
    total, found = float(y.sum()), {}
    for k in costs.budgets:
        if k > len(y):
            continue
        reached = sum_of_top(y, predicted, k)
        found[f"value_captured_at_{k}"] = reached / total if total > 0 else float("nan")
        gain = costs.margin_share * costs.lift_share * reached
        found[f"profit_at_{k}"] = gain - costs.contact_cost * k
    return found


def retention_money(
    bought: ArrayLike, probability: ArrayLike, at_stake: ArrayLike, costs: CostMatrix
) -> dict[str, float]:
    """Return what a retention campaign keeps, and what its wrong calls cost.

    ``retained_value_at_k``: the k customers with the most to lose, by chance of leaving times what
    is at stake, are contacted; of those who would have left, the save rate stays with what was at
    stake. ``retained_share_at_k`` is its share of what contacting everyone would retain.

    ``cost_of_wrong_calls``, per customer: a customer is contacted where chance of leaving x save
    rate x margin x stake exceeds the cost of a contact (the decision of least expected cost, Elkan
    2001). Contacting one who would have bought anyway costs the contact; leaving out one who goes
    costs what the contact would have brought on average, where that is more than nothing.

    Parameters
    ----------
    bought
        Whether there was an order.
    probability
        Of an order.
    at_stake
        What the customer would bring over the horizon at the pace of the past.
    costs
        The matrix.
    """
    leaves = 1.0 - np.asarray(bought, dtype=np.float64)
    chance = 1.0 - np.asarray(probability, dtype=np.float64)
    stake = np.maximum(np.asarray(at_stake, dtype=np.float64), 0.0)
    lost: Floats = leaves * stake
    found = {}
    for k in costs.budgets:
        if k > len(lost):
            continue
        reached = sum_of_top(lost, chance * stake, k)
        found[f"retained_value_at_{k}"] = costs.save_rate * reached
        whole = float(lost.sum())
        found[f"retained_share_at_{k}"] = reached / whole if whole > 0 else float("nan")
    gain = costs.save_rate * costs.margin_share * stake
    is_contacted = chance * gain > costs.contact_cost
    wasted = is_contacted * (1.0 - leaves) * costs.contact_cost
    missed = ~is_contacted * leaves * np.maximum(gain - costs.contact_cost, 0.0)
    found["cost_of_wrong_calls"] = float(np.mean(wasted + missed))
    return found


def stake_of(sum_value: ArrayLike, days: ArrayLike, horizon_days: int) -> Floats:
    """Return what customers would bring over a horizon at the pace of their past.

    Parameters
    ----------
    sum_value
        Value up to the cutoff; unknown counts as nothing.
    days
        From the first order to the cutoff. A past shorter than the horizon is not stretched.
    horizon_days
        H.
    """
    value = np.nan_to_num(np.asarray(sum_value, dtype=np.float64))
    past = np.nan_to_num(np.asarray(days, dtype=np.float64))
    return np.asarray(np.maximum(value, 0.0) * horizon_days / np.maximum(past, horizon_days))
