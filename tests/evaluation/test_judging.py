"""What past windows can say of a model that knows no season."""

from __future__ import annotations

import math

import pytest

from clv_pipeline.evaluation.judging import judgeable

BACKTESTS = dict.fromkeys(("zero", "pareto_nbd", "btyd", "btyd_seasonal", "ensemble"), ())
CHRISTMAS = math.log(1.5)


@pytest.mark.parametrize(
    ("shown", "ahead", "is_left_out"),
    [
        ([0.0, 0.02], 0.05, False),  # flat months, and flat ones ahead
        ([0.0, 0.02], CHRISTMAS, True),  # Christmas comes, and no fold had one
        ([0.0, CHRISTMAS], CHRISTMAS, False),  # one had
        ([CHRISTMAS], -0.3, True),  # the one that was shown is over
        ([], 0.0, True),  # nothing was shown
    ],
)
def test_a_model_without_a_season_is_weighed_where_its_season_was_shown(
    shown: list[float], ahead: float, is_left_out: bool
) -> None:
    kept, sentence = judgeable(BACKTESTS, shown, ahead)
    assert set(BACKTESTS) - set(kept) == ({"zero", "pareto_nbd", "btyd"} if is_left_out else set())
    assert bool(sentence) == is_left_out


def test_the_reason_says_what_is_expected() -> None:
    assert "expected to bring 150% of what" in judgeable(BACKTESTS, [0.0], CHRISTMAS)[1]
    only = {"ensemble": ()}
    assert judgeable(only, [0.0], CHRISTMAS) == (only, "")
