"""What texts are about: their words, weighted and reduced to a few components.

Fitted once, on the texts that were known by the day on which there were enough of them, and kept:
features at an earlier cutoff have no components, and those at a later one know of no later text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

COUNT = 4
MIN_TEXTS = 500
# A word that fewer texts use says who wrote rather than what about.
MIN_TEXTS_OF_WORD = 5
MAX_WORDS = 2000


@dataclass(frozen=True, eq=False)
class Basis:
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
    def fit(cls, texts: Sequence[str]) -> Basis | None:
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
    def from_json(cls, text: str) -> Basis:
        """Read what ``to_json`` gave."""
        document = json.loads(text)
        return cls(
            tuple(document["words"]),
            np.array(document["weights"]),
            np.array(document["components"]),
        )
