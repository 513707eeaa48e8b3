"""The spread of groups is found again where it was put in, and luck is not taken for it."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from clv_pipeline.evaluation.backtest import FoldResult
from clv_pipeline.evaluation.groups import PRIOR_SPREAD, estimate_group_spread
from clv_pipeline.models.coherence import DEFAULT_LOG_SPREAD
from clv_pipeline.models.panel import Target
from clv_pipeline.timeline import Cutoff, Fold


def fold(spread: float, seed: int, groups: int = 12, size: int = 4000) -> FoldResult:
    rng = np.random.default_rng(seed)
    names = np.repeat([f"country {k}" for k in range(groups)], size)
    chance = rng.uniform(0.2, 0.9, len(names))
    value = chance * 50.0
    shift = np.repeat(1.3 * np.exp(spread * rng.normal(size=groups)), size)
    bought = rng.random(len(names)) < chance
    noise = rng.lognormal(-(DEFAULT_LOG_SPREAD**2) / 2, DEFAULT_LOG_SPREAD, len(names))
    actual = np.where(bought, 50.0 * shift * noise, 0.0)
    return FoldResult(
        Fold(Cutoff(date(2024, 3, 31)), (Cutoff(date(2023, 12, 31)),), 90),
        np.arange(len(names)),
        Target(actual, bought.astype(float), bought),
        {"ensemble": value},
        {"ensemble": chance},
        {},
        {"country": names},
        "",
    )


def test_a_spread_is_found_again():
    found = estimate_group_spread([fold(0.25, seed) for seed in range(4)], "ensemble")
    assert found == pytest.approx(0.25, rel=0.3)


def test_luck_is_no_spread():
    found = estimate_group_spread([fold(0.0, seed) for seed in range(4)], "ensemble")
    assert found < 0.4 * PRIOR_SPREAD


def test_without_groups_it_is_taken_for_granted():
    alone = fold(0.2, 0)
    alone.slices["country"][:] = "one"
    assert estimate_group_spread([alone], "ensemble") == PRIOR_SPREAD
    assert estimate_group_spread([], "ensemble") == PRIOR_SPREAD
