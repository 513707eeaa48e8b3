from __future__ import annotations

import numpy as np
import pytest

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.boosting import BoostedMean, HurdleModel
from clv_pipeline.models.panel import Matrix, Target
from clv_pipeline.models.sampling import stratify

N = 30_000


@pytest.fixture(scope="module")
def shop() -> tuple[Matrix, Target]:
    """Four cutoffs, one much smaller; one in ten buys, and values have a heavy tail."""
    rng = np.random.default_rng(5)
    day = np.array(["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"], dtype="datetime64[D]")
    cutoff = day[rng.choice(4, N, p=[0.02, 0.28, 0.3, 0.4])]
    level = rng.normal(size=N)
    buys = rng.random(N) < 0.2 / (1 + np.exp(-level))
    value = np.where(buys, np.exp(2 + level + 1.5 * rng.normal(size=N)), 0.0)
    X = Matrix(
        np.arange(N).astype(str).astype(object),
        cutoff,
        ("level", "noise"),
        np.column_stack([level, rng.normal(size=N)]).astype(np.float32),
    )
    return X, Target(value, buys.astype(float), buys)


def test_a_panel_that_fits_is_taken_whole(shop: tuple[Matrix, Target]) -> None:
    X, y = shop
    sample = stratify(X.cutoff_date, y, N, seed=0)
    assert sample.weight is None
    assert np.array_equal(sample.rows, np.arange(N))


def test_sums_over_the_sample_are_those_of_the_panel(shop: tuple[Matrix, Target]) -> None:
    X, y = shop
    most = N // 10
    misses, plain = [], []
    for seed in range(20):
        sample = stratify(X.cutoff_date, y, most, seed)
        assert len(sample.rows) == len(set(sample.rows)) <= most
        assert len(sample.rows) >= 0.99 * most
        assert sample.weight is not None
        assert sample.weight.mean() == pytest.approx(1)
        weight = sample.weight / sample.weight.sum()
        # Each cutoff, and buyers among its customers, keep their exact share.
        for day in np.unique(X.cutoff_date):
            here = X.cutoff_date[sample.rows] == day
            assert weight[here].sum() == pytest.approx((X.cutoff_date == day).mean())
            bought = weight[here & y.has_purchase[sample.rows]].sum()
            assert bought == pytest.approx((y.has_purchase & (X.cutoff_date == day)).mean())
        misses.append(weight @ y.value[sample.rows] / y.value.mean() - 1)
        rows = np.random.default_rng(seed).choice(N, most, replace=False)
        plain.append(y.value[rows].mean() / y.value.mean() - 1)
    # Unbiased, and with much less luck than rows drawn alike.
    assert abs(np.mean(misses)) < 0.02
    assert np.std(misses) < 0.5 * np.std(plain)
    again = stratify(X.cutoff_date, y, most, 3)
    assert np.array_equal(again.rows, stratify(X.cutoff_date, y, most, 3).rows)


def test_a_stratum_of_few_does_not_vanish(shop: tuple[Matrix, Target]) -> None:
    X, y = shop
    sample = stratify(X.cutoff_date, y, 60, seed=0)
    assert len(sample.rows) <= 60
    kept = X.cutoff_date[sample.rows]
    assert set(kept) == set(X.cutoff_date)


def test_models_of_the_sample_keep_the_level_of_the_panel(shop: tuple[Matrix, Target]) -> None:
    X, y = shop
    sample = stratify(X.cutoff_date, y, N // 6, seed=1)
    few, target = X.take(sample.rows), y.take(sample.rows)
    options = FitOptions(30, trees=30, depth=2)
    tweedie = BoostedMean(options).fit(few, target, None, sample.weight)
    whole = BoostedMean(options).fit(X, y)
    assert tweedie.predict(X).sum() == pytest.approx(whole.predict(X).sum(), rel=0.1)
    hurdle = HurdleModel(options).fit(few, target, None, sample.weight)
    chance = hurdle.predict_probability(X)
    assert chance.sum() == pytest.approx(y.has_purchase.sum(), rel=0.05)
    # Without the weights buyers would seem far likelier than they are.
    blind = HurdleModel(options).fit(few, target)
    assert blind.predict_probability(X).sum() > 1.3 * y.has_purchase.sum()
