"""A circle in the map of merged accounts is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clv_pipeline.ingest.merges import find_cycle
from clv_pipeline.ingest.report import LandingError
from tests.ingest.conftest import Shop, as_csv


@pytest.mark.parametrize(
    ("merges", "cycle"),
    [
        ([(1, "a", "b"), (2, "b", "c")], None),
        ([(1, "a", "b"), (2, "b", "a")], ["b", "a", "b"]),
        ([(1, "a", "b"), (1, "b", "a")], ["a", "b", "a"]),
        ([(1, "a", "b"), (2, "b", "c"), (3, "c", "a")], ["c", "a", "b", "c"]),
        # Split off before the other way round begins.
        ([(1, "a", "b"), (2, "a", "a"), (3, "b", "a")], None),
        ([(1, "a", "b"), (2, "a", "c"), (3, "b", "a")], None),
        ([(1, "a", "a")], None),
        ([(1, "a", "b"), (2, "a", "b")], None),
    ],
)
def test_cycles(merges: list[tuple[int, str, str]], cycle: list[str] | None) -> None:
    assert find_cycle(merges) == cycle


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from("abcde"), st.sampled_from("abcde")),
        max_size=8,
    )
)
def test_a_cycle_is_found_exactly_when_some_day_has_one(
    merges: list[tuple[int, str, str]],
) -> None:
    merges = sorted(merges, key=lambda merge: merge[0])
    has_cycle = False
    for day in {merge[0] for merge in merges}:
        owner = {old: new for at, old, new in merges if at <= day}
        for start in owner:
            account = start
            for _ in range(6):
                account = owner.get(account, account)
            # After six steps a chain of five accounts has ended, unless it is a circle.
            has_cycle |= owner.get(account, account) != account
    assert (find_cycle(merges) is not None) == has_cycle


def test_landing_refuses_a_cycle_and_lands_nothing_of_the_file(shop: Shop) -> None:
    header = ("old_user_id", "new_user_id", "ts")
    shop.write("a.csv", as_csv([("o1", "u", "2024-01-01", "1")]))
    shop.inputs["account_merges"] = {"files": ["merges-*.txt"]}
    shop.write("merges-1.txt", as_csv([("anna", "ann", "2024-01-01")], header))
    assert shop.land().inputs["account_merges"].new.count_kept == 1
    shop.write("merges-2.txt", as_csv([("ann", "anna", "2024-02-01")], header))
    with pytest.raises(LandingError, match=r"merges-2\.txt run in a circle: ann -> anna -> ann"):
        shop.land()
    assert shop.query("SELECT old_user_id FROM raw.account_merges") == [("anna",)]
