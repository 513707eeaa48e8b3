"""Each scorer, on texts whose sense is plain, and on real reviews where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clv_pipeline.settings import TextSettings
from clv_pipeline.signals.plug_ins import TextScoringError
from clv_pipeline.signals.scorers import TextScorer, check_scores, load_scorer

# Stars and the words that somebody would write with them.
REVIEWS = {
    "english": (
        (5, "Excellent quality, fast delivery, I love it! Highly recommended."),
        (5, "Perfect. Great service and a wonderful gift."),
        (5, "Best purchase of the year, I am very happy with it."),
        (4, "Good product, nice colours, arrived on time."),
        (4, "Pretty good, works well and looks nice."),
        (3, "It is okay, nothing special."),
        (3, "Does what it says."),
        (2, "Not good. The quality is poor and it feels cheap."),
        (2, "Disappointed, it is not what I expected."),
        (1, "Terrible! It arrived broken and nobody answers my mails."),
        (1, "Worst shop ever, awful service, I want my money back."),
        (1, "A horrible experience, the parcel never arrived."),
    ),
    "portuguese": (
        (5, "Produto excelente, entrega rápida, adorei! Recomendo muito."),
        (5, "Muito bom, perfeito, estou muito feliz."),
        (5, "Ótima loja, produto maravilhoso."),
        (4, "Bom produto, chegou no prazo."),
        (4, "Gostei, bonito e de boa qualidade."),
        (3, "É o que diz."),
        (2, "Não gostei, qualidade ruim."),
        (2, "Fiquei triste, o produto é fraco."),
        (1, "Péssimo, horrível, produto com defeito, quero meu dinheiro de volta."),
        (1, "Não recebi o produto, que decepção terrível."),
    ),
}


@pytest.fixture(scope="module", params=sorted(REVIEWS))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def scorer(language: str) -> TextScorer:
    return load_scorer(TextSettings(scorer=language))


def test_sentiment_follows_the_stars(language: str, scorer: TextScorer) -> None:
    stars = pd.Series([stars for stars, _ in REVIEWS[language]])
    scores = check_scores(scorer, [text for _, text in REVIEWS[language]])
    assert scores["sentiment"].corr(stars, method="spearman") > 0.8
    assert (scores["is_complaint"] & (stars >= 4)).sum() == 0
    assert scores.loc[stars == 1, "is_complaint"].all()


def test_a_text_without_words_says_nothing(scorer: TextScorer) -> None:
    scores = check_scores(scorer, ["", "12345 !!", "🙂"])
    assert scores["sentiment"].isna().tolist()[:2] == [True, True]
    assert not scores["is_complaint"].any()


def test_the_same_text_has_the_same_score(scorer: TextScorer, language: str) -> None:
    texts = [text for _, text in REVIEWS[language]]
    alone = pd.concat([check_scores(scorer, [text]) for text in texts], ignore_index=True)
    pd.testing.assert_frame_equal(check_scores(scorer, texts), alone)


@pytest.mark.real_data
def test_sentiment_of_real_reviews_follows_their_stars(
    shared_data: Path, record_property: pytest.FixtureRequest
) -> None:
    """Olist's Portuguese reviews: rank correlation 0.60, and 0.63 with their titles."""
    reviews = pd.read_parquet(shared_data / "olist_sample" / "sample_order_reviews.parquet")
    reviews = reviews[reviews["review_comment_message"].notna()].reset_index(drop=True)
    scorer = load_scorer(TextSettings(scorer="portuguese"))
    scores = check_scores(scorer, list(reviews["review_comment_message"]))
    correlation = scores["sentiment"].corr(reviews["review_score"], method="spearman")
    record_property("rank_correlation", float(round(correlation, 3)))  # type: ignore[operator]
    assert correlation > 0.55
    share = scores.groupby(reviews["review_score"])["is_complaint"].mean()
    assert share[1] > 0.65
    assert share[5] < 0.1


class Own:
    """A scorer of one's own, as 'package.module:Class' names it."""

    version = "own 1"

    def score(self, texts: list[str]) -> pd.DataFrame:
        return pd.DataFrame({"sentiment": [0.5 for _ in texts], "is_complaint": False})


class Wrong(Own):
    def score(self, texts: list[str]) -> pd.DataFrame:
        return pd.DataFrame({"sentiment": [7.0 for _ in texts], "is_complaint": False})


class Short(Own):
    def score(self, texts: list[str]) -> pd.DataFrame:
        return pd.DataFrame({"sentiment": [0.0]})


def test_a_scorer_of_ones_own_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("own_scorers")
    module.Own = Own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_scorers", module)
    scorer = load_scorer(TextSettings(scorer="own_scorers:Own"))
    assert check_scores(scorer, ["a", "b"])["sentiment"].tolist() == [0.5, 0.5]
    with pytest.raises(TextScoringError, match=r"'own_scorers:Missing' can't be loaded"):
        load_scorer(TextSettings(scorer="own_scorers:Missing"))
    with pytest.raises(TextScoringError, match="Allowed are english, portuguese, chat"):
        load_scorer(TextSettings(scorer="klingon"))


@pytest.mark.parametrize(
    ("scorer", "why"), [(Wrong(), "outside -1 to 1"), (Short(), "gave 1 rows")]
)
def test_what_a_scorer_gives_is_checked(scorer: TextScorer, why: str) -> None:
    with pytest.raises(TextScoringError, match=why):
        check_scores(scorer, ["a", "b"])
