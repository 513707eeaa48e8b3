"""What is added to landed rows before dbt runs: scores of texts, and holidays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.settings import Settings
from clv_pipeline.signals import prepare_holidays, prepare_texts, texts
from clv_pipeline.signals.components import COUNT, WordBasis
from clv_pipeline.signals.holidays import code_of, holidays_of
from clv_pipeline.transform import prepare_sources
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.support import fill_raw


class Counting:
    """Scores by length, and counts what it is asked."""

    def __init__(self, version: str = "counting 1") -> None:
        self.version = version
        self.asked: list[str] = []

    def score(self, texts: Sequence[str]) -> pd.DataFrame:
        self.asked += texts
        return pd.DataFrame({"sentiment": [len(t) / 100 for t in texts], "is_complaint": False})


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Counting:
    scorer = Counting()
    monkeypatch.setattr(texts, "load_scorer", lambda settings: scorer)
    return scorer


def text_rows(words: Sequence[str], day: str = "2024-01-01", file: int = 1) -> pd.DataFrame:
    ts = pd.Timestamp(day)
    return pd.DataFrame({"user_id": "u", "ts": ts, "text": list(words), "_file_id": file})


def scores(settings: Settings) -> pd.DataFrame:
    prepare_sources(settings)
    with open_warehouse(settings, read_only=True) as connection:
        return read_frame(connection, "SELECT * FROM ops.text_scores ORDER BY ALL")


def test_a_text_is_scored_once_and_again_when_it_or_the_scorer_changes(
    settings: Settings, scorer: Counting
) -> None:
    fill_raw(settings, {"texts": text_rows(["good", "not bad"])})
    first = scores(settings)
    assert first["sentiment"].tolist() == [0.04, 0.07]
    assert first["component_1"].isna().all()
    scores(settings)
    fill_raw(settings, {"texts": text_rows(["a third one"], file=2)}, append=True)
    scores(settings)
    assert scorer.asked == ["good", "not bad", "a third one"]
    fill_raw(settings, {"texts": text_rows(["good", "changed"])})
    assert scores(settings)["sentiment"].tolist() == [0.04, 0.07]
    assert scorer.asked[3:] == ["changed"]
    scorer.version = "counting 2"
    assert set(scores(settings)["scorer"]) == {"counting 2"}
    assert scorer.asked[4:] == ["good", "changed"]
    fill_raw(settings, {})
    assert scores(settings).empty


def test_components_are_fitted_on_what_was_known_first_and_never_again(
    settings: Settings, scorer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MIN_TEXTS", 60)
    subjects = ["parcel late slow post", "colour bright nice blue", "size small tight fit"]
    early = [f"{subjects[k % 3]} {subjects[k % 3].split()[k % 4]}" for k in range(60)]
    fill_raw(settings, {"texts": text_rows(early, "2024-01-05")})
    before = scores(settings)
    names = [f"component_{k + 1}" for k in range(COUNT)]
    assert before[names].notna().all(axis=None)
    assert before[names].abs().max(axis=None) <= 1
    later = text_rows(["parcel late and a word nobody used", "qwerty"], "2024-02-01", file=2)
    fill_raw(settings, {"texts": later}, append=True)
    after = scores(settings)
    # What was scored stays what it was, and no later text moves it.
    pd.testing.assert_frame_equal(after[after["_file_id"] == 1].reset_index(drop=True), before)
    assert after.loc[after["_file_id"] == 2, "component_1"].notna().tolist() == [True, False]
    with open_warehouse(settings, read_only=True) as connection:
        basis = read_frame(connection, "SELECT * FROM ops.text_basis")
    assert basis["fitted_on"].dt.date.tolist() == [date(2024, 1, 5)]
    assert basis["count_texts"].tolist() == [60]


def test_a_basis_read_back_reduces_as_before() -> None:
    words = ["late parcel", "late post", "nice blue", "bright blue", "small fit", "tight fit"] * 6
    basis = WordBasis.fit(words)
    assert basis is not None
    again = WordBasis.from_json(basis.to_json())
    np.testing.assert_array_equal(basis.transform(words), again.transform(words))
    assert WordBasis.fit(["a", "b"]) is None


def test_holidays_of_the_countries_in_the_data(settings: Settings) -> None:
    orders = pd.DataFrame(
        {
            "user_id": "u",
            "ts": pd.to_datetime(["2023-12-31", "2024-02-01", "2024-03-01", "2024-03-02"]),
            "amount": 1.0,
            "country": ["DE", "United Kingdom", "Atlantis", "unknown"],
        }
    )
    fill_raw(settings, {"transactions": orders})
    prepare_sources(settings)
    with open_warehouse(settings) as connection:
        rows = read_frame(connection, "SELECT * FROM ops.holidays")
        assert set(rows["country"]) == {"DE", "United Kingdom"}
        years = rows.groupby("country")["holiday_date"].agg(lambda days: set(days.dt.year))
        assert all(found == {2023, 2024, 2025} for found in years)
        days = set(rows.loc[rows["country"] == "DE", "holiday_date"].dt.date)
        assert {date(2024, 1, 1), date(2024, 10, 3), date(2024, 12, 25)} <= days
        assert prepare_holidays(connection) == 0
        assert prepare_texts(connection, settings) == 0


@pytest.mark.parametrize(
    ("country", "code"),
    [("de", "DE"), ("DEU", "DE"), ("united states", "US"), ("UK", "GB"), ("Nowhere", None)],
)
def test_a_country_is_found_by_code_or_name(country: str, code: str | None) -> None:
    assert code_of(country) == code


def test_holidays_are_named_in_english_where_the_package_can() -> None:
    assert holidays_of("DE", [2024])[0] == (date(2024, 1, 1), "New Year's Day")
