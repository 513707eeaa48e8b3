"""Which models past windows can judge: one that knows no season, only where its season was shown.

Backtests of flat months say nothing of a model without a season in the Christmas quarter, and those
of a Christmas quarter nothing of it in the months after: it may look as good as the ensemble, is
simpler, and would miss the total by what the season brings or takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from clv_pipeline.evaluation.backtest import FoldResult, Forecasts
from clv_pipeline.models.candidates import ENSEMBLE, find_candidate

# On the log scale, how far apart the levels of two windows may lie that count as one season.
MOST_APART = 0.1


def expected_levels(found: Sequence[FoldResult]) -> list[float]:
    """Return the level that each fold expected of its window, as a log ratio; 0 where unknown.

    It is what the season makes of buy-till-you-die's total: ``btyd_seasonal`` over ``btyd``.
    """
    levels = []
    for fold in found:
        totals = [float(fold.value[n].sum()) for n in ("btyd_seasonal", "btyd") if n in fold.value]
        known = len(totals) == 2 and min(totals) > 0
        levels.append(math.log(totals[0] / totals[1]) if known else 0.0)
    return levels


def judgeable(
    backtests: Mapping[str, Sequence[Forecasts]], shown: Sequence[float], ahead: float
) -> tuple[dict[str, Sequence[Forecasts]], str]:
    """Leave out what past windows say too little of.

    Parameters
    ----------
    backtests
        By model; the ensemble, which knows the season, stays.
    shown
        Levels that the folds expected of their windows, as log ratios.
    ahead
        The level that is expected of the window ahead.

    Returns
    -------
    tuple
        The backtests of those that can be judged, and a sentence that says whom it left out and
        why; empty where nobody was.
    """
    if min((abs(level - ahead) for level in shown), default=math.inf) <= MOST_APART:
        return dict(backtests), ""
    kept = {name: found for name, found in backtests.items() if _knows_season(name)}
    if len(kept) == len(backtests):
        return kept, ""
    return kept, (
        " Models that know no season were not weighed: the days ahead are expected to bring "
        f"{math.exp(ahead):.0%} of what the past alone says, and no past cutoff showed such days."
    )


def _knows_season(name: str) -> bool:
    return name == ENSEMBLE or find_candidate(name).knows_season
