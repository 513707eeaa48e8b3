"""Time: cutoffs, horizons and which cutoffs may train or evaluate. The only date arithmetic.

A cutoff t0 is a business day D. Features see what happened on days <= D and was known by the end
of D; a label over H days sums days D < day <= D + H. The SQL twin of these two predicates is
``dbt_project/macros/as_of.sql``; a test holds them to each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

# A year before, on the same day of the week: 52 weeks.
YEAR_DAYS = 364


@dataclass(frozen=True, order=True)
class Cutoff:
    """A business day up to and including which the past is known.

    Parameters
    ----------
    day
        The day D, in the business time zone.
    """

    day: date

    @classmethod
    def parse(cls, text: str) -> Cutoff:
        """Read a cutoff from an ISO date such as ``1998-06-30``.

        Raises
        ------
        ValueError
            If the text is no ISO date.
        """
        try:
            return cls(date.fromisoformat(text))
        except ValueError:
            raise ValueError(
                f"'{text}' is not a cutoff: write a day as YYYY-MM-DD, for instance 1998-06-30."
            ) from None

    def __str__(self) -> str:
        return self.day.isoformat()

    def sees(self, day: date, known_day: date | None = None) -> bool:
        """Whether features at this cutoff may use something of ``day`` known on ``known_day``."""
        return day <= self.day and (known_day is None or known_day <= self.day)

    def labels(self, day: date, horizon_days: int) -> bool:
        """Whether something of ``day`` counts in this cutoff's label over ``horizon_days``."""
        return self.day < day <= self.last_label_day(horizon_days)

    def last_label_day(self, horizon_days: int) -> date:
        """Return the last day D + H of the label window."""
        return self.day + timedelta(days=horizon_days)

    def is_matured(self, horizon_days: int, data_through: date) -> bool:
        """Whether the label window is fully observed in data complete up to ``data_through``."""
        return self.last_label_day(horizon_days) <= data_through

    def shift(self, days: int) -> Cutoff:
        """Return the cutoff so many days later (earlier, when negative)."""
        return Cutoff(self.day + timedelta(days=days))


@dataclass(frozen=True)
class Fold:
    """One honest question: what would we have said at ``evaluation``, with what was known then?

    Attributes
    ----------
    evaluation
        The cutoff that is predicted.
    training
        Cutoffs whose labels were matured at ``evaluation``, oldest first.
    horizon_days
        H of the labels.
    """

    evaluation: Cutoff
    training: tuple[Cutoff, ...]
    horizon_days: int


def training_cutoffs(
    as_of: Cutoff,
    horizon_days: int,
    *,
    first_day: date,
    step_days: int,
    count: int,
    min_history_days: int,
) -> tuple[Cutoff, ...]:
    """List the cutoffs that may train a model for ``as_of``: every one has c + H <= as_of.

    Parameters
    ----------
    as_of
        The cutoff to train for; data are complete up to its day.
    horizon_days
        H, the label window in days.
    first_day
        First day with data.
    step_days
        Days between neighbouring cutoffs.
    count
        The most cutoffs to return.
    min_history_days
        A cutoff needs at least so many days of history behind it.

    Returns
    -------
    tuple of Cutoff
        Oldest first; empty when no cutoff is old enough to be matured and young enough to have
        a history.
    """
    earliest = first_day + timedelta(days=min_history_days - 1)
    newest = as_of.shift(-horizon_days)
    candidates = (newest.shift(-step_days * k) for k in range(count))
    return tuple(sorted(c for c in candidates if c.day >= earliest))


def same_season_cutoffs(
    as_of: Cutoff, horizon_days: int, *, first_day: date, step_days: int, min_history_days: int
) -> tuple[Cutoff, ...]:
    """List the cutoffs around a year before ``as_of``, whose labels saw the season that lies ahead.

    The same day a year before and one step to either side of it, where they were matured at
    ``as_of`` and have a history.
    """
    earliest = first_day + timedelta(days=min_history_days - 1)
    near = (as_of.shift(-YEAR_DAYS + step_days * k) for k in (-1, 0, 1))
    return tuple(c for c in near if c.day >= earliest and c.is_matured(horizon_days, as_of.day))


def learning_cutoffs(
    as_of: Cutoff,
    horizon_days: int,
    *,
    first_day: date,
    step_days: int,
    count: int,
    min_history_days: int,
) -> tuple[Cutoff, ...]:
    """List what a model for ``as_of`` learns from: the newest cutoffs, and the same season's.

    A cutoff of the same season that lies within half a step of a newer one adds nothing, and is
    left out. The arguments are those of ``training_cutoffs``.
    """
    newest = training_cutoffs(
        as_of,
        horizon_days,
        first_day=first_day,
        step_days=step_days,
        count=count,
        min_history_days=min_history_days,
    )
    seasonal = same_season_cutoffs(
        as_of,
        horizon_days,
        first_day=first_day,
        step_days=step_days,
        min_history_days=min_history_days,
    )
    added = [c for c in seasonal if all(abs((c.day - n.day).days) > step_days // 2 for n in newest)]
    return union_cutoffs([newest, added])


def backtest_folds(
    as_of: Cutoff,
    horizon_days: int,
    *,
    first_day: date,
    step_days: int,
    count: int,
    min_history_days: int,
    folds: int,
    fold_step_days: int,
) -> tuple[Fold, ...]:
    """List rolling-origin folds, newest evaluation cutoff last.

    The newest evaluation cutoff is ``as_of`` - H, the newest one whose label is matured; each fold
    trains on cutoffs that were matured at its own evaluation cutoff. Folds without a training
    cutoff are left out.
    """
    found = []
    for k in range(folds):
        evaluation = as_of.shift(-horizon_days - fold_step_days * k)
        training = learning_cutoffs(
            evaluation,
            horizon_days,
            first_day=first_day,
            step_days=step_days,
            count=count,
            min_history_days=min_history_days,
        )
        if training:
            found.append(Fold(evaluation, training, horizon_days))
    return tuple(reversed(found))


def daily_cutoffs(first: Cutoff, last: Cutoff) -> tuple[Cutoff, ...]:
    """List every day from ``first`` to ``last``, both included.

    Raises
    ------
    ValueError
        If ``last`` lies before ``first``.
    """
    if last < first:
        raise ValueError(f"the range of cutoffs ends ({last}) before it begins ({first}).")
    return tuple(first.shift(k) for k in range((last.day - first.day).days + 1))


def business_day(instant: datetime, time_zone: str) -> date:
    """Return the business day of an instant that carries an offset."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant} carries no offset, so its business day is unknown.")
    return instant.astimezone(ZoneInfo(time_zone)).date()


def union_cutoffs(groups: Iterable[Iterable[Cutoff]]) -> tuple[Cutoff, ...]:
    """Return the distinct cutoffs of several groups, oldest first."""
    return tuple(sorted({c for group in groups for c in group}))
