from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clv_pipeline.timeline import (
    Cutoff,
    backtest_folds,
    business_day,
    daily_cutoffs,
    learning_cutoffs,
    training_cutoffs,
)

DAYS = st.dates(date(1990, 1, 1), date(2030, 1, 1))
FIRST = date(1997, 1, 1)


@given(day=DAYS, event=DAYS, known=DAYS, horizon=st.integers(1, 400))
def test_no_day_is_both_feature_and_label(
    day: date, event: date, known: date, horizon: int
) -> None:
    cutoff = Cutoff(day)
    assert not (cutoff.sees(event, known) and cutoff.labels(event, horizon))
    assert cutoff.sees(event) == (event <= day)
    assert cutoff.labels(event, horizon) == (0 < (event - day).days <= horizon)


@given(
    as_of=DAYS,
    horizon=st.integers(1, 400),
    step=st.integers(1, 60),
    count=st.integers(1, 20),
    history=st.integers(1, 300),
)
def test_training_cutoffs_are_matured_and_have_a_history(
    as_of: date, horizon: int, step: int, count: int, history: int
) -> None:
    found = training_cutoffs(
        Cutoff(as_of),
        horizon,
        first_day=FIRST,
        step_days=step,
        count=count,
        min_history_days=history,
    )
    assert len(found) <= count
    assert list(found) == sorted(set(found))
    for cutoff in found:
        assert cutoff.is_matured(horizon, as_of)
        assert (cutoff.day - FIRST).days + 1 >= history
    if found:
        assert not found[-1].shift(1).is_matured(horizon, as_of)


def test_training_cutoffs_of_cdnow() -> None:
    found = training_cutoffs(
        Cutoff.parse("1998-06-30"),
        180,
        first_day=FIRST,
        step_days=30,
        count=3,
        min_history_days=90,
    )
    assert [str(c) for c in found] == ["1997-11-02", "1997-12-02", "1998-01-01"]


def test_a_model_also_learns_from_the_season_that_lies_ahead() -> None:
    found = learning_cutoffs(
        Cutoff.parse("1998-06-30"),
        90,
        first_day=FIRST,
        step_days=30,
        count=3,
        min_history_days=90,
    )
    season = ["1997-06-01", "1997-07-01", "1997-07-31"]
    assert [str(c) for c in found] == [*season, "1998-01-31", "1998-03-02", "1998-04-01"]
    assert Cutoff.parse(season[1]).day.weekday() == Cutoff.parse("1998-06-30").day.weekday()


@given(as_of=DAYS, horizon=st.integers(1, 400), step=st.integers(2, 60), count=st.integers(1, 20))
def test_cutoffs_of_the_season_are_matured_and_near_no_other(
    as_of: date, horizon: int, step: int, count: int
) -> None:
    found = learning_cutoffs(
        Cutoff(as_of),
        horizon,
        first_day=FIRST,
        step_days=step,
        count=count,
        min_history_days=60,
    )
    assert all(c.is_matured(horizon, as_of) for c in found)
    assert all((c.day - FIRST).days + 1 >= 60 for c in found)
    gaps = [(b.day - a.day).days for a, b in pairwise(found)]
    assert all(gap > step // 2 for gap in gaps)


def test_each_fold_trains_on_what_was_matured_when_it_is_evaluated() -> None:
    folds = backtest_folds(
        Cutoff.parse("1998-06-30"),
        90,
        first_day=FIRST,
        step_days=30,
        count=6,
        min_history_days=90,
        folds=5,
        fold_step_days=60,
    )
    assert [str(f.evaluation) for f in folds] == [
        "1997-08-04",
        "1997-10-03",
        "1997-12-02",
        "1998-01-31",
        "1998-04-01",
    ][5 - len(folds) :]
    for fold in folds:
        assert fold.training
        assert all(c.is_matured(90, fold.evaluation.day) for c in fold.training)


def test_daily_cutoffs_are_counted_with_both_ends() -> None:
    days = daily_cutoffs(Cutoff.parse("2024-02-27"), Cutoff.parse("2024-03-01"))
    assert [str(d) for d in days] == ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"]
    with pytest.raises(ValueError, match="before it begins"):
        daily_cutoffs(days[1], days[0])


def test_the_business_day_follows_the_time_zone() -> None:
    late = datetime(2024, 3, 31, 22, 30, tzinfo=UTC)
    assert business_day(late, "Europe/Berlin") == date(2024, 4, 1)
    assert business_day(late, "America/New_York") == date(2024, 3, 31)
    # The day that loses an hour has 23 of them.
    start = datetime(2024, 3, 30, 23, 0, tzinfo=UTC)
    hours = [start + timedelta(hours=h) for h in range(48)]
    assert sum(business_day(h, "Europe/Berlin") == date(2024, 3, 31) for h in hours) == 23
    with pytest.raises(ValueError, match="offset"):
        business_day(datetime(2024, 1, 1), "UTC")


@pytest.mark.parametrize("text", ["1998-6-30", "30.06.1998", "", "tomorrow"])
def test_a_cutoff_that_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="YYYY-MM-DD"):
        Cutoff.parse(text)
