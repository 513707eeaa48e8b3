"""How predictions turned out, in sentences: what was off, and whether the model drifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

# A total that is further off than earlier ones by so many of their spreads, and by so much.
MOST_SPREADS = 3.0
LEAST_SHIFT = 0.10
LEAST_GINI_LOSS = 0.05
LEAST_COVERAGE = 0.70
# Without a past to compare with, a total may be so far off.
MOST_BIAS = 0.30
MIN_EARLIER = 3


@dataclass(frozen=True)
class Review:
    """What the newest matured predictions of one horizon say.

    Attributes
    ----------
    horizon_days
        H of the predictions.
    sentence
        What was predicted and what came.
    drift
        What has changed, in words; None where nothing has.
    """

    horizon_days: int
    sentence: str
    drift: str | None


def review_predictions(review: pd.DataFrame) -> list[Review]:
    """Compare the newest matured predictions of each horizon with earlier ones.

    Drift is named where the total, as known when it matured, is off by ``MOST_SPREADS`` spreads of
    the earlier totals and by at least 10 points, or by 30 % while fewer than three earlier cutoffs
    are known; where the normalized Gini is lower by .05; or where fewer than 70 % lie within an
    80 % interval.

    Parameters
    ----------
    review
        Rows of ``clv.matured_predictions``.

    Returns
    -------
    list of Review
        Shortest horizon first; empty while no label has matured.
    """
    overall = review[review["cohort"] == "all"].sort_values("cutoff_date")
    found = []
    for horizon, rows in overall.groupby("horizon_days"):
        newest, earlier = rows.iloc[-1], rows.iloc[:-1]
        found.append(Review(int(str(horizon)), _describe(newest), _find_drift(newest, earlier)))
    return found


def _describe(row: pd.Series) -> str:
    day = pd.Timestamp(row["cutoff_date"]).date()
    off = "" if pd.isna(row["total_bias"]) else f" ({row['total_bias']:+.1%})"
    return (
        f"Over {row['horizon_days']} days after {day}, {row['sum_predicted']:,.0f} was predicted "
        f"and {row['sum_actual']:,.0f} came in{off}; {row['expected_buyers']:,.0f} buyers were "
        f"expected and {row['actual_buyers']:,} came; {row['coverage_80']:.0%} lay between P10 "
        f"and P90; normalized Gini {row['normalized_gini']:.3f}."
    )


def _bias_when_matured(reviews: Any) -> Any:
    # Of all that came in later the newest review knows least, so it would seem to have changed.
    came_in = reviews["sum_actual_when_matured"]
    return reviews["sum_predicted"] / np.where(came_in > 0, came_in, np.nan) - 1


def _find_drift(newest: pd.Series, earlier: pd.DataFrame) -> str | None:
    reasons = []
    bias, before = _bias_when_matured(newest), _bias_when_matured(earlier).dropna()
    if len(before) >= MIN_EARLIER:
        shift = bias - before.mean()
        limit = max(MOST_SPREADS * float(before.std()), LEAST_SHIFT)
        if pd.notna(shift) and abs(shift) > limit:
            reasons.append(
                f"the total is off by {bias:+.0%} where it had been {before.mean():+.0%}"
            )
    elif pd.notna(bias) and abs(bias) > MOST_BIAS:
        reasons.append(f"the total is off by {bias:+.0%}")
    ginis = earlier["normalized_gini"].dropna()
    lost = float(ginis.mean() - newest["normalized_gini"]) if len(ginis) else np.nan
    if len(ginis) >= MIN_EARLIER and lost > LEAST_GINI_LOSS:
        reasons.append(
            f"the ranking fell to {newest['normalized_gini']:.3f} from {ginis.mean():.3f}"
        )
    if newest["coverage_80"] < LEAST_COVERAGE:
        reasons.append(f"only {newest['coverage_80']:.0%} lay between P10 and P90")
    if not reasons:
        return None
    return f"Drift over {newest['horizon_days']} days: {', and '.join(reasons)}."
