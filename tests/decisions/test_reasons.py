"""Words against the facts of the customer, and their effects against the explanation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.decisions.reasons import LEAST_EFFECT, give_reasons, merge_same
from clv_pipeline.models.explaining import CONCEPTS, Explanation

OFTEN = {
    "count_order_days": 12.0,
    "count_orders": 13.0,
    "recency": 99.0,
    "T": 102.0,
    "days_since_last_order": 3.0,
    "sum_value": 1200.0,
    "count_orders_180d": 13.0,
}
ONCE = {
    "count_order_days": 1.0,
    "count_orders": 1.0,
    "recency": 0.0,
    "T": 480.0,
    "days_since_last_order": 480.0,
    "sum_value": 20.0,
    "count_orders_180d": 0.0,
}
NEVER = {
    **dict.fromkeys(OFTEN),
    "count_order_days": 0.0,
    "count_orders": 0.0,
    "sum_value": 0.0,
    "tenure_days": 40.0,
}


def reasons(customers: dict[str, tuple[dict[str, Any], dict[str, float]]]) -> pd.DataFrame:
    features = pd.DataFrame([{"customer_id": name, **row} for name, (row, _) in customers.items()])
    effects = pd.DataFrame([effect for _, effect in customers.values()], columns=list(CONCEPTS))
    effects.index = pd.Index(list(customers), name="customer_id")
    return give_reasons(features, Explanation(365, 10.0, effects.fillna(0.0)))


def test_words_state_the_facts_with_the_largest_effect_first():
    found = reasons(
        {
            "often": (OFTEN, {"frequency": 212.4, "recency": 80.0, "spend": 30.0, "trend": -9.0}),
            "once": (ONCE, {"frequency": -6.0, "recency": -35.1, "spend": -8.0}),
        }
    )
    often, once = found.loc["often"], found.loc["once"]
    assert often["reason_1"] == "ordered on 12 days, every 9 days on average"
    assert often["reason_1_effect"] == 212.4
    assert often["reason_2"] == "last order just 3 days ago"
    assert often["reason_3"] == "spent 100.00 per order day on average"
    assert once["reason_1"] == "first and only order already 480 days ago"
    assert once["reason_1_effect"] == -35.1
    assert once["reason_2"] == "spent only 20.00 so far"
    assert once["reason_3"] == "ordered only once"


def test_words_that_judge_stand_only_where_fact_and_effect_agree():
    found = reasons(
        {
            "often": (OFTEN, {"frequency": -3.0, "recency": -2.0, "spend": -1.0}),
            "once": (ONCE, {"frequency": 3.0, "recency": 2.0, "spend": 1.0}),
        }
    )
    words = " ".join(str(w) for w in found[["reason_1", "reason_2", "reason_3"]].to_numpy().ravel())
    assert not any(judging in words for judging in ("only 20", "only once", "just", "already"))
    assert found.loc["once", "reason_1"] == "ordered once"
    assert found.loc["often", "reason_2"] == "last order 3 days ago"


def test_who_never_ordered_gets_that_as_one_reason():
    found = reasons(
        {
            "never": (NEVER, {"frequency": -5.0, "recency": -2.0, "trend": 1.0, "tenure": -0.5}),
            "often": (OFTEN, {"frequency": 1.0}),
        }
    ).loc["never"]
    assert found["reason_1"] == "has not ordered yet"
    assert found["reason_1_effect"] == pytest.approx(-6.0)
    assert found["reason_2"] == "known for 40 days"
    assert pd.isna(found["reason_3"])
    assert pd.isna(found["reason_3_effect"])


def test_base_and_all_effects_add_up_to_the_value():
    effects = {"frequency": 212.4, "recency": 80.0, "spend": 30.0, "trend": -9.0, "tenure": 0.004}
    found = reasons({"often": (OFTEN, effects), "never": (NEVER, {"spend": 0.001})})
    parts = [f"reason_{k}_effect" for k in (1, 2, 3)]
    value = found["reason_base"] + found[[*parts, "reason_rest_effect"]].sum(axis=1)
    assert value["often"] == pytest.approx(10.0 + sum(effects.values()))
    assert found.loc["often", "reason_rest_effect"] == pytest.approx(-9.0 + 0.004)
    assert value["never"] == pytest.approx(10.001) and found.loc["never", parts].isna().all()


def test_merging_keeps_the_sums():
    rng = np.random.default_rng(1)
    index = pd.Index(["a", "b", "c"], name="customer_id")
    effects = pd.DataFrame(rng.normal(size=(3, len(CONCEPTS))), index, list(CONCEPTS))
    past = pd.DataFrame({"count_order_days": [0.0, 1.0, 5.0]}, index)
    merged = merge_same(past, effects)
    np.testing.assert_allclose(merged.sum(axis=1), effects.sum(axis=1))
    pd.testing.assert_series_equal(merged.loc["c"], effects.loc["c"])
    assert merged.loc["b", "tenure"] == 0


def test_effects_of_less_than_a_cent_are_no_reasons():
    found = reasons({"often": (OFTEN, {"frequency": 1.0, "spend": LEAST_EFFECT / 2})}).loc["often"]
    assert pd.notna(found["reason_1"])
    assert pd.isna(found["reason_2"])
    assert pd.isna(found["reason_2_effect"])


@pytest.mark.parametrize("customer", [OFTEN, ONCE, NEVER], ids=["often", "once", "never"])
@pytest.mark.parametrize("effect", [2.0, -2.0])
@pytest.mark.parametrize("concept", CONCEPTS)
def test_every_concept_has_words_whatever_is_known(customer, effect, concept):
    found = reasons({"c": (customer, {concept: effect})}).loc["c"]
    assert found["reason_1"]
    assert not any(odd in found["reason_1"] for odd in ("nan", "None", "unknown"))
    assert found["reason_1_effect"] == effect


def test_reasons_repeat_themselves():
    customers = {"often": (OFTEN, dict.fromkeys(CONCEPTS, 1.0)), "once": (ONCE, {"spend": -1.0})}
    pd.testing.assert_frame_equal(reasons(customers), reasons(customers))
