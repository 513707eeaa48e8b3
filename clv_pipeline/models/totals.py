"""The total of the window ahead: what several sources say of its level, weighed by evidence.

The level is the logarithm of the customers' total over buy-till-you-die's. Three sources: that
buy-till-you-die is right but for the season, that it errs as it usually did (mean over past
windows) but for the season, and that it errs as it did over the same window a year before (season,
and what the model makes of it). Each is weighed by the inverse of its mean squared error over past
windows, as it would have been forecast then. Overlapping windows are few independent ones, so each
source starts from what it erred by on other shops.

The season of the first two is the index of the window's months, known from other shops
(``season_index``), times a strength: 1 where nothing is known, drawn to what past windows say of
this shop by a regression of their levels on the index. A shop against whose own ups and downs the
index goes is hardly moved by it, and where the year before is known its word counts most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clv_pipeline.models.season_index import NO_SEASON, SeasonIndex
from clv_pipeline.timeline import YEAR_DAYS, Cutoff

# Log errors that each source is known for, and how many windows that knowledge counts as.
# Measured over 344 windows of two real and three simulated shops (`benchmarks/levels.py`).
PRIOR_ERROR = {"btyd": 0.2, "usual": 0.4, "last_year": 0.08}
PRIOR_WINDOWS = 4.0
# A year before, a shop of fewer days was another one: all of its customers were new.
GROWN_DAYS, YOUNG_ERROR = 180, 0.3
# Between two windows so far apart at most the year before is interpolated; a lone one may start so
# many days off.
SEASON_GAP_DAYS = 45
NEAREST_SEASON_DAYS = 20
USUAL_WINDOWS = 6
EVIDENCE_WINDOWS = 6
LARGEST_LEVEL = float(np.log(3.0))
# Not even the same window a year before was ever nearer on average.
LEAST_SPREAD = 0.1
# Of the published season a shop has this much, give or take; beyond the second figure, never.
STRENGTH, STRENGTH_SPREAD, LARGEST_STRENGTH = 1.0, 0.5, 3.0
# What a window's level is off, seasons aside: by the shop, and by the luck of one window.
SHOP_SPREAD, WINDOW_SPREAD = 0.25, 0.1


@dataclass(frozen=True)
class LevelForecast:
    """The level that is forecast for one window.

    Attributes
    ----------
    level
        Logarithm of the total over buy-till-you-die's.
    spread
        Standard deviation of its error, on the log scale.
    sources, weights
        By source, its level and its weight; weights sum to 1.
    """

    level: float
    spread: float
    sources: dict[str, float]
    weights: dict[str, float]

    @property
    def knows_season(self) -> bool:
        """Whether the same window a year before is known."""
        return "last_year" in self.sources


def level_sources(
    known: Mapping[Cutoff, float],
    target: Cutoff,
    horizon_days: int,
    index: SeasonIndex = NO_SEASON,
) -> dict[str, float]:
    """Return what each source says of the window after ``target``, from windows matured by then."""
    matured = {c: level for c, level in known.items() if c.is_matured(horizon_days, target.day)}
    season = {c: index.log_ratio(c, horizon_days) for c in (*matured, target)}
    strength = season_strength(matured, season, horizon_days)
    ahead = strength * season[target]
    found = {"btyd": ahead}
    if not matured:
        return found
    newest = sorted(matured)[-USUAL_WINDOWS:]
    found["usual"] = ahead + float(np.mean([matured[c] - strength * season[c] for c in newest]))
    year_before = target.shift(-YEAR_DAYS)
    if (level := _level_at(matured, year_before)) is not None:
        found["last_year"] = level
    return found


def season_strength(
    levels: Mapping[Cutoff, float], season: Mapping[Cutoff, float], horizon_days: int
) -> float:
    """Return how much of the index a shop shows: Bayesian regression of its levels on the index.

    Parameters
    ----------
    levels
        Of past windows.
    season
        What the index says of each of them (``SeasonIndex.log_ratio``).
    horizon_days
        H of the windows; overlapping ones count as the few independent ones that they are.
    """
    if not levels:
        return STRENGTH
    days = sorted(levels)
    said = np.array([season[c] for c in days])
    came = np.array([levels[c] for c in days])
    precision = _independent(days, horizon_days) / len(days) / WINDOW_SPREAD**2
    design = np.column_stack([np.ones(len(days)), said])
    prior = np.diag([1 / SHOP_SPREAD**2, 1 / STRENGTH_SPREAD**2])
    towards = np.array([0.0, STRENGTH / STRENGTH_SPREAD**2])
    found = np.linalg.solve(
        prior + precision * design.T @ design, towards + precision * design.T @ came
    )
    return float(np.clip(found[1], 0.0, LARGEST_STRENGTH))


def forecast_level(
    known: Mapping[Cutoff, float],
    target: Cutoff,
    horizon_days: int,
    index: SeasonIndex = NO_SEASON,
) -> LevelForecast:
    """Forecast the level of the window after ``target``.

    Parameters
    ----------
    known
        Levels of past windows by cutoff; windows that end after ``target`` are left aside.
    target
        The cutoff that is predicted.
    horizon_days
        H of the windows.
    index
        What the calendar alone says of a window.
    """
    sources = level_sources(known, target, horizon_days, index)
    past = sorted(c for c in known if c.is_matured(horizon_days, target.day))[-EVIDENCE_WINDOWS:]
    errors: dict[str, list[float]] = {name: [] for name in sources}
    for cutoff in past:
        for name, level in level_sources(known, cutoff, horizon_days, index).items():
            if name in errors:
                errors[name].append(level - known[cutoff])
    squares = {
        name: _believed_square(_prior_error(name, target, index), found, past, horizon_days)
        for name, found in errors.items()
    }
    total = sum(1 / square for square in squares.values())
    weights = {name: 1 / square / total for name, square in squares.items()}
    level = sum(weights[name] * sources[name] for name in sources)
    # Sources err alike, so the mean is no better than the best of them.
    spread = max(float(np.sqrt(min(squares.values()))), LEAST_SPREAD)
    level = float(np.clip(level, -LARGEST_LEVEL, LARGEST_LEVEL))
    return LevelForecast(level, spread, sources, weights)


def _level_at(known: Mapping[Cutoff, float], target: Cutoff) -> float | None:
    """Return the level at a day: its own, or between its neighbours, or that of the nearest."""
    if target in known:
        return known[target]
    before, after = (
        max((c for c in known if c < target), default=None),
        min((c for c in known if c > target), default=None),
    )
    if before and after and (gap := (after.day - before.day).days) <= SEASON_GAP_DAYS:
        share = (target.day - before.day).days / gap
        return (1 - share) * known[before] + share * known[after]
    near = [c for c in (before, after) if c is not None]
    nearest = min(near, key=lambda c: abs((c.day - target.day).days), default=None)
    if nearest is None or abs((nearest.day - target.day).days) > NEAREST_SEASON_DAYS:
        return None
    return known[nearest]


def _prior_error(source: str, target: Cutoff, index: SeasonIndex) -> float:
    if source == "last_year" and index.days_known(target.shift(-YEAR_DAYS)) < GROWN_DAYS:
        return YOUNG_ERROR
    return PRIOR_ERROR[source]


def _believed_square(
    prior: float, errors: list[float], past: list[Cutoff], horizon_days: int
) -> float:
    if not errors:
        return prior**2
    independent = min(_independent(past, horizon_days), len(errors))
    square = float(np.mean(np.square(errors)))
    return (PRIOR_WINDOWS * prior**2 + independent * square) / (PRIOR_WINDOWS + independent)


def _independent(past: list[Cutoff], horizon_days: int) -> float:
    """Count windows; those that overlap say the same thing again."""
    span = (past[-1].day - past[0].day).days
    return min(1.0 + span / horizon_days, len(past))
