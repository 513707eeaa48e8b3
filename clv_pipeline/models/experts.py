"""Fitted experts and the encoder that goes with them, as one thing to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from clv_pipeline.models.base import Files, dump_json, load_json, nest, unnest
from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.ensemble import LevelZero


@dataclass(frozen=True, eq=False)
class FittedExperts:
    """Experts with the encoder of their own training rows.

    Attributes
    ----------
    encoder, level_zero
        Fitted on the same rows.
    uses_history
        Whether the buy-till-you-die expert takes part.
    """

    encoder: Encoder
    level_zero: LevelZero
    uses_history: bool

    def to_files(self) -> Files:
        """Return the fitted experts as named files."""
        document = {"encoder": self.encoder.to_dict(), "uses_history": self.uses_history}
        return {"experts.json": dump_json(document)} | nest("parts", self.level_zero.to_files())

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document = load_json(files["experts.json"])
        level_zero = LevelZero.from_files(unnest("parts", files))
        return cls(Encoder.from_dict(document["encoder"]), level_zero, document["uses_history"])
