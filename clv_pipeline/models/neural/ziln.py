"""ZILN: a network whose head is a zero-inflated lognormal distribution.

Wang, X., Liu, T., and Miao, J. (2019). A Deep Probabilistic Model for Customer Lifetime Value
Prediction. arXiv:1912.07753. The head gives the chance of a purchase p and the location and scale
of a buyer's log value: -log L = BCE(bought, p) + bought (log s + log y + (log y - m)^2 / (2 s^2)),
and E[value] = p exp(m + s^2 / 2).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from clv_pipeline.models.base import (
    Files,
    FitOptions,
    dump_arrays,
    dump_json,
    load_arrays,
    load_json,
    sample_rows,
)
from clv_pipeline.models.baselines import squash
from clv_pipeline.models.neural.training import STEP, Heads, fit_network
from clv_pipeline.models.panel import Floats, Matrix, Target

# One column per frequent category; the rest share none.
MAX_CATEGORIES = 12


class ZILNModel:
    """A small network on every feature, with Google's ZILN head.

    PyTorch fits it; what was fitted is a few arrays, and numpy alone answers.

    Parameters
    ----------
    options
        Seed and most rows.
    epochs
        At most; fewer where held-out customers stop gaining.
    width
        Of the first hidden layer; the second has half of it.
    step
        Of the optimiser.

    Attributes
    ----------
    layers_
        Weights and biases of each layer, the head last.
    inputs_
        How columns become numbers: median, center, spread, codes of categories.
    """

    def __init__(
        self, options: FitOptions, epochs: int = 40, width: int = 64, step: float = STEP
    ) -> None:
        self.options = options
        self.epochs = epochs
        self.width = width
        self.step = step

    def fit(self, X: Matrix, y: Target) -> Self:
        """Fit on at most ``options.max_rows`` rows.

        Raises
        ------
        NeuralExtraError
            If PyTorch is not installed.
        """
        rows = sample_rows(len(X), self.options.max_rows, self.options.seed)
        seen, target = X.take(rows), y.take(rows)
        self._learn_inputs(seen)
        value = np.maximum(target.value, 0.0)
        buyers = value > 0
        self.scale_ = float(value[buyers].mean()) if buyers.any() else 1.0
        # Beyond what any customer brought, the lognormal's mean says nothing.
        self.highest_ = float(np.log(max(value.max() / self.scale_, 1e-6))) if buyers.any() else 0.0
        inputs = self._numbers(seen).astype(np.float32)
        self.layers_ = fit_network(
            inputs,
            (value / self.scale_).astype(np.float32),
            (self.width, self.width // 2),
            self.options.seed,
            self.epochs,
            self.step,
        )
        raw = self._means(inputs)
        total = float(raw.sum())
        # The head's mean leans on the tail of the lognormal: hold the total to what was seen.
        self.level_ = float((value / self.scale_).sum()) / total if total > 0 else 1.0
        return self

    def predict(self, X: Matrix) -> Floats:
        """Return the expected value."""
        return self._means(self._numbers(X).astype(np.float32)) * self.level_ * self.scale_

    def predict_probability(self, X: Matrix) -> Floats:
        """Return the chance of any value."""
        return Heads.of(forward(self.layers_, self._numbers(X).astype(np.float32))).chance

    def to_files(self) -> Files:
        """Return the fitted model as named files."""
        document = {
            "options": vars(self.options),
            "epochs": self.epochs,
            "scale": self.scale_,
            "highest": self.highest_,
            "level": self.level_,
            "width": self.width,
            "step": self.step,
            "codes": self.inputs_["codes"],
            "count_layers": len(self.layers_) // 2,
        }
        arrays: dict[str, Any] = {f"layer_{k}": a for k, a in enumerate(self.layers_)}
        arrays |= {name: self.inputs_[name] for name in ("median", "center", "spread")}
        return {"model.json": dump_json(document), "arrays.npz": dump_arrays(**arrays)}

    @classmethod
    def from_files(cls, files: Files) -> Self:
        """Read what ``to_files`` gave."""
        document, arrays = load_json(files["model.json"]), load_arrays(files["arrays.npz"])
        model = cls(FitOptions(**document["options"]), document["epochs"])
        model.width = document.get("width", model.width)
        model.step = document.get("step", model.step)
        model.scale_, model.highest_ = document["scale"], document["highest"]
        model.level_ = document["level"]
        model.inputs_ = {name: arrays[name] for name in ("median", "center", "spread")}
        model.inputs_["codes"] = document["codes"]
        model.layers_ = [arrays[f"layer_{k}"] for k in range(2 * document["count_layers"])]
        return model

    def _means(self, inputs: np.ndarray[Any, Any]) -> Floats:
        return Heads.of(forward(self.layers_, inputs)).mean(self.highest_)

    def _learn_inputs(self, X: Matrix) -> None:
        codes = {}
        numbers = [k for k, name in enumerate(X.names) if name not in X.categorical]
        for name in X.names:
            if name in X.categorical:
                known = X.column(name)
                found, counts = np.unique(known[np.isfinite(known)], return_counts=True)
                frequent = found[np.argsort(-counts, kind="stable")][:MAX_CATEGORIES]
                codes[name] = sorted(float(code) for code in frequent)
        raw = squash(X.values[:, numbers])
        known_any = ~np.isnan(raw).all(axis=0)
        median = np.zeros(raw.shape[1])
        median[known_any] = np.nanmedian(raw[:, known_any], axis=0)
        filled = np.where(np.isnan(raw), median, raw)
        spread = filled.std(axis=0)
        self.inputs_: dict[str, Any] = {
            "codes": codes,
            "median": median,
            "center": filled.mean(axis=0),
            "spread": np.where(spread > 1e-9, spread, 1.0),
        }

    def _numbers(self, X: Matrix) -> Floats:
        numbers = [k for k, name in enumerate(X.names) if name not in X.categorical]
        raw = squash(X.values[:, numbers])
        filled = np.where(np.isnan(raw), self.inputs_["median"], raw)
        # A value far outside of what was seen says no more than one at the border.
        scaled = np.clip((filled - self.inputs_["center"]) / self.inputs_["spread"], -6.0, 6.0)
        flags = [
            (X.column(name) == code).astype(np.float64)
            for name, codes in sorted(self.inputs_["codes"].items())
            for code in codes
        ]
        return np.column_stack([scaled, *flags]) if flags else scaled


def forward(
    layers: list[np.ndarray[Any, Any]], inputs: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Return what the network gives, in numpy: linear layers with ReLU between them."""
    found = inputs
    for k in range(0, len(layers), 2):
        found = found @ layers[k].T + layers[k + 1]
        if k + 2 < len(layers):
            found = np.maximum(found, 0.0)
    return found
