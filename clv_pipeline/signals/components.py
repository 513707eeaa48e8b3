"""What texts are about: their words or their embeddings, reduced to a few components.

Fitted once, on the texts that were known by the day on which there were enough of them, and kept:
features at an earlier cutoff have no components, and those at a later one know of no later text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clv_pipeline.signals.plug_ins import load_plug_in

COUNT = 4
MIN_TEXTS = 500
# A word that fewer texts use says who wrote rather than what about.
MIN_TEXTS_OF_WORD = 5
MAX_WORDS = 2000


class Basis(Protocol):
    """A fitted reduction of texts."""

    def transform(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Reduce texts, shape (n, ``COUNT``), each from -1 to 1; NaN without a known word."""

    def to_json(self) -> str:
        """Write the basis as JSON."""


class Components(Protocol):
    """How texts become a few numbers.

    Attributes
    ----------
    version
        Name and version of what reads them, empty for words; when it changes, all is made anew.
    """

    version: str

    def fit(self, texts: Sequence[str]) -> Basis | None:
        """Fit on texts; None where they have too little in common."""

    def read(self, text: str) -> Basis:
        """Read what a basis gave as JSON."""


class Embedder(Protocol):
    """What a plug-in for embeddings is.

    Attributes
    ----------
    version
        Name and version; when it changes, all texts are embedded anew.
    """

    version: str

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return a vector of unit length per text, shape (n, d); NaN where it says nothing."""


@dataclass(frozen=True, eq=False)
class WordBasis:
    """A reduction of texts: term frequency times inverse document frequency, then truncated SVD.

    Attributes
    ----------
    words
        The vocabulary.
    weights
        Inverse document frequency of each word, shape (p,).
    components
        Shape (p, ``COUNT``).
    """

    words: tuple[str, ...]
    weights: npt.NDArray[np.float64]
    components: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, texts: Sequence[str]) -> WordBasis | None:
        """Fit on texts; None where they share too few words."""
        # Imported late: most shops have no texts.
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(
            min_df=MIN_TEXTS_OF_WORD, max_df=0.5, max_features=MAX_WORDS, strip_accents="unicode"
        )
        try:
            X = vectorizer.fit_transform(texts)
        except ValueError:  # no word is left
            return None
        if X.shape[1] <= COUNT:
            return None
        svd = TruncatedSVD(COUNT, algorithm="arpack", random_state=0).fit(X)
        return cls(
            tuple(map(str, vectorizer.get_feature_names_out())),
            np.round(vectorizer.idf_, 6),
            np.round(svd.components_.T, 6),
        )

    def transform(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Reduce texts, shape (n, ``COUNT``), each from -1 to 1; NaN without a known word."""
        from sklearn.feature_extraction.text import CountVectorizer

        vectorizer = CountVectorizer(vocabulary=list(self.words), strip_accents="unicode")
        X = vectorizer.transform(texts).multiply(self.weights).tocsr()
        length = np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel())
        found = np.asarray(X @ self.components)
        with np.errstate(invalid="ignore", divide="ignore"):
            reduced: npt.NDArray[np.float64] = np.clip(found / length[:, None], -1.0, 1.0)
        return reduced

    def to_json(self) -> str:
        """Write the basis as JSON."""
        return json.dumps(
            {
                "words": self.words,
                "weights": self.weights.tolist(),
                "components": self.components.tolist(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> WordBasis:
        """Read what ``to_json`` gave."""
        document = json.loads(text)
        return cls(
            tuple(document["words"]),
            np.array(document["weights"]),
            np.array(document["components"]),
        )


class WordComponents:
    """Components of the weighted words."""

    version = ""

    def fit(self, texts: Sequence[str]) -> WordBasis | None:
        """Fit on texts; None where they share too few words."""
        return WordBasis.fit(texts)

    def read(self, text: str) -> WordBasis:
        """Read what a basis gave as JSON."""
        return WordBasis.from_json(text)


@dataclass(frozen=True, eq=False)
class EmbeddingBasis:
    """A reduction of embeddings: principal components.

    Attributes
    ----------
    embedder
        Reads the texts.
    center
        Mean of the embeddings, shape (d,).
    components
        Shape (d, ``COUNT``), each column of unit length.
    """

    embedder: Embedder
    center: npt.NDArray[np.float64]
    components: npt.NDArray[np.float64]

    def transform(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Reduce texts, shape (n, ``COUNT``), each from -1 to 1; NaN where one says nothing."""
        found = (self.embedder.embed(texts) - self.center) @ self.components
        # Rounded: which texts are read together shows in the last digits.
        reduced: npt.NDArray[np.float64] = np.clip(found, -1.0, 1.0).round(5)
        return reduced

    def to_json(self) -> str:
        """Write the basis as JSON."""
        return json.dumps({"center": self.center.tolist(), "components": self.components.tolist()})


class EmbeddingComponents:
    """Components of embeddings.

    Parameters
    ----------
    embedder
        Reads the texts.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.version = embedder.version
        self._embedder = embedder

    def fit(self, texts: Sequence[str]) -> EmbeddingBasis | None:
        """Fit on texts; None where too few of them say something."""
        vectors = np.asarray(self._embedder.embed(texts), dtype=np.float64)
        vectors = vectors[np.isfinite(vectors).all(axis=1)]
        if min(vectors.shape) <= COUNT:
            return None
        center = vectors.mean(axis=0)
        found = np.linalg.svd(vectors - center, full_matrices=False)[2][:COUNT].T
        # A component and its opposite say the same: the largest weight is positive.
        signs = np.sign(found[np.abs(found).argmax(axis=0), range(COUNT)])
        return EmbeddingBasis(self._embedder, np.round(center, 6), np.round(found * signs, 6))

    def read(self, text: str) -> EmbeddingBasis:
        """Read what a basis gave as JSON."""
        document = json.loads(text)
        center, components = np.array(document["center"]), np.array(document["components"])
        return EmbeddingBasis(self._embedder, center, components)


def _minilm() -> Components:
    from clv_pipeline.signals.minilm import MiniLM

    return EmbeddingComponents(MiniLM())


COMPONENTS: dict[str, Callable[[], Components]] = {"words": WordComponents, "minilm": _minilm}


def load_components(name: str) -> Components:
    """Make what the setting names.

    Raises
    ------
    TextScoringError
        If there is no such thing, or its package is not installed.
    """
    if name in COMPONENTS:
        return COMPONENTS[name]()
    return EmbeddingComponents(load_plug_in("components", name, COMPONENTS))
