"""Categories with many values: what they tell, and that they leak nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from clv_pipeline.models.credibility import MIN_CUSTOMERS, Credibility
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.explaining import concept_of
from clv_pipeline.models.panel import Target
from tests.models.panels import column

DAYS = pd.to_datetime(["2024-01-31", "2024-02-29", "2024-03-31"])


def make_rows(names: np.ndarray, effect: np.ndarray | float = 0.0, seed: int = 0):
    """Customers at three cutoffs; what becomes of one is much the same each time."""
    rng = np.random.default_rng(seed)
    count = len(names)
    usual = rng.gamma(1.0, 1.0, count) + effect
    frames = [
        pd.DataFrame(
            {
                "customer_id": [f"c{i}" for i in range(count)],
                "cutoff_date": day,
                "first_sku": names,
                "value": np.maximum(usual + rng.normal(0, 0.1, count), 0.0),
            }
        )
        for day in DAYS
    ]
    rows = pd.concat(frames, ignore_index=True)
    value = rows.pop("value").to_numpy()
    return rows, Target(value, value, value > 0)


def naive(rows: pd.DataFrame, y: Target) -> np.ndarray:
    """The mean of the category, the row's own label among them."""
    return pd.Series(y.value).groupby(rows["first_sku"].to_numpy()).transform("mean").to_numpy()


@pytest.mark.parametrize("seed", range(5))
def test_a_random_category_tells_nothing_of_the_labels_it_was_fitted_on(seed):
    rng = np.random.default_rng(seed)
    names = np.array([f"sku{k}" for k in rng.integers(0, 250, 2000)])
    rows, y = make_rows(names, seed=seed)
    # The usual mean per category gives the row's own label away.
    assert spearmanr(naive(rows, y), y.value).statistic > 0.25
    _, X = Encoder.fit_transform(rows, [column("first_sku", "categorical")], y)
    if "first_sku" in X:
        seen = X.column("first_sku")
        assert abs(spearmanr(seen, y.value).statistic) < 0.08
        # And hardly anything is made of what is chance.
        assert seen.std() < 0.2 * naive(rows, y).std()


def test_an_id_is_left_out():
    names = np.array([f"sku{k}" for k in range(500)])
    rows, y = make_rows(names)
    assert Encoder.fit(rows, [column("first_sku", "categorical")], y).names == ()


def test_what_a_category_tells_is_learned_and_holds_for_others():
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, 100, 3000)
    worth = rng.gamma(1.0, 1.0, 100)
    names = np.array([f"sku{k}" for k in kinds])
    rows, y = make_rows(names, worth[kinds])
    encoder, X = Encoder.fit_transform(rows, [column("first_sku", "categorical")], y)
    assert X.categorical == frozenset()
    # By its own name, an effect is told in the words of its concept.
    assert concept_of(X.names[0], "feat_basket") == "variety"
    assert spearmanr(X.column("first_sku"), worth[np.tile(kinds, 3)]).statistic > 0.8
    others = pd.DataFrame(
        {
            "customer_id": ["new", "unseen", "nothing"],
            "cutoff_date": DAYS[0],
            "first_sku": [f"sku{worth.argmax()}", "sku-never-seen", None],
        }
    )
    again = Encoder.from_dict(encoder.to_dict())
    best, unseen, nothing = again.transform(others).column("first_sku")
    prior = encoder.figures["first_sku"].prior
    assert best > prior
    assert unseen == pytest.approx(prior)
    assert np.isnan(nothing)


def test_no_row_is_told_its_own_customer_s_outcome():
    rng = np.random.default_rng(2)
    kinds = rng.integers(0, 80, 800)
    names = pd.Series([f"sku{k}" for k in kinds])
    customers = pd.Series([f"c{i}" for i in range(800)])
    outcome = rng.gamma(1.0, 1.0, 800) + kinds / 40
    one = Credibility.fit(names, customers, outcome)
    changed = outcome.copy()
    changed[0] += 0.01
    two = Credibility.fit(names, customers, changed)
    # With prior and inertia held, the customer's own number stays; the category's moves.
    held = Credibility(one.prior, one.inertia, two.figures)
    before = one.transform_training_rows(names, customers, outcome)
    after = held.transform_training_rows(names, customers, changed)
    assert before[0] == pytest.approx(after[0], rel=1e-12)
    assert held.transform(names)[0] > one.transform(names)[0] + 1e-6
    moved = np.abs(after - before) > 1e-6
    assert moved[kinds == kinds[0]].any()
    assert not moved[kinds != kinds[0]].any()


def test_the_figure_is_the_mean_shrunk_by_the_ratio_of_the_variances():
    names = pd.Series(["a"] * 10 + ["b"] * 10 + ["rare"] * (MIN_CUSTOMERS - 1))
    customers = pd.Series([f"c{i}" for i in range(len(names))])
    rng = np.random.default_rng(3)
    outcome = np.concatenate([rng.normal(m, 1.0, n) for m, n in ((0, 10), (3, 10), (1, 4))])
    fitted = Credibility.fit(names, customers, outcome)
    groups = [outcome[:10], outcome[10:20], outcome[20:]]
    # Written out with loops, after Buehlmann and Straub.
    mean = outcome.mean()
    noise = sum(((g - g.mean()) ** 2).sum() for g in groups) / (24 - 3)
    spread = (sum(len(g) * (g.mean() - mean) ** 2 for g in groups) - 2 * noise) / (
        24 - sum(len(g) ** 2 for g in groups) / 24
    )
    expected = (groups[0].sum() + noise / spread * mean) / (10 + noise / spread)
    assert fitted.inertia == pytest.approx(noise / spread)
    assert fitted.figures["a"] == pytest.approx(expected)
    assert set(fitted.figures) == {"a", "b"}


def test_no_rows_tell_nothing():
    nobody = pd.Series([], dtype=object)
    assert not Credibility.fit(nobody, nobody, np.array([])).is_telling
