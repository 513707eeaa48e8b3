"""Fitting a network by PyTorch: the ZILN loss, early stopping, the same draws each time."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from clv_pipeline.models.panel import Floats

BATCH = 512
LEAST_BATCHES = 8
HELD_OUT = 0.15
PATIENCE = 5
STEP = 2e-3
LEAST_SCALE, MOST_SCALE = 0.05, 3.0


class NeuralExtraError(RuntimeError):
    """PyTorch is needed and not installed; the message says how to install it."""


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def require_torch() -> Any:
    """Import PyTorch.

    Raises
    ------
    NeuralExtraError
        If it is not installed.
    """
    if not has_torch():
        raise NeuralExtraError(
            "model.neural needs PyTorch, which is not installed: "
            "pip install 'clv-pipeline[neural]', or leave model.neural at false."
        )
    import torch

    return torch


@dataclass(frozen=True, eq=False)
class Heads:
    """What the three outputs of a ZILN head stand for.

    Attributes
    ----------
    chance
        Of any value.
    location, scale
        Of a buyer's log value.
    """

    chance: Floats
    location: Floats
    scale: Floats

    @classmethod
    def of(cls, outputs: np.ndarray[Any, Any]) -> Heads:
        """Read the outputs of a network, shape (n, 3)."""
        raw = outputs.astype(np.float64)
        scale = np.clip(np.logaddexp(0.0, raw[:, 2]), LEAST_SCALE, MOST_SCALE)
        return cls(1 / (1 + np.exp(-np.clip(raw[:, 0], -30, 30))), raw[:, 1], scale)

    def mean(self, highest: float) -> Floats:
        """Return the expected value; a buyer's at most the largest that was seen."""
        return self.chance * np.exp(np.minimum(self.location + self.scale**2 / 2, highest))


def ziln_loss(torch: Any, outputs: Any, value: Any) -> Any:
    """Return the mean negative log-likelihood of a zero-inflated lognormal (Wang et al. 2019)."""
    bought = (value > 0).to(outputs.dtype)
    chance = torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], bought)
    scale = torch.nn.functional.softplus(outputs[:, 2]).clamp(LEAST_SCALE, MOST_SCALE)
    log_value = torch.log(torch.where(value > 0, value, torch.ones_like(value)))
    amount = torch.log(scale) + log_value + (log_value - outputs[:, 1]) ** 2 / (2 * scale**2)
    return chance + (bought * amount).mean()


def fit_network(
    inputs: np.ndarray[Any, Any],
    value: np.ndarray[Any, Any],
    hidden: tuple[int, ...],
    seed: int,
    epochs: int,
    step: float = STEP,
) -> list[np.ndarray[Any, Any]]:
    """Fit linear layers with ReLU between them and a ZILN head.

    Returns
    -------
    list of array
        Weight and bias of each layer.
    """
    torch = require_torch()
    sizes = [inputs.shape[1], *hidden, 3]

    def build() -> Any:
        layers: list[Any] = []
        for before, after in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    network = optimise(torch, build, (torch.from_numpy(inputs),), value, seed, epochs, step)
    return [p.detach().numpy().copy() for p in network.parameters()]


def optimise(
    torch: Any,
    build: Callable[[], Any],
    inputs: tuple[Any, ...],
    value: np.ndarray[Any, Any],
    seed: int,
    epochs: int,
    step: float = STEP,
) -> Any:
    """Fit any network that gives three outputs per row, by Adam with early stopping.

    A part of the rows is held out; the weights of the epoch that does best on them are kept. One
    thread and fixed seeds: the same input gives the same bits on one machine.

    Parameters
    ----------
    build
        Makes the network.
    inputs
        Tensors with a row each; the network is called with one batch of each.
    step
        Adam's.
    """
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        network, target = build(), torch.from_numpy(value)
        order = rng.permutation(len(value))
        held = torch.from_numpy(order[: int(HELD_OUT * len(order))])
        seen = order[len(held) :]
        optimiser = torch.optim.Adam(network.parameters(), lr=step, weight_decay=1e-4)
        # A small shop has few batches of full size; fewer rows in each let it learn as fast.
        parts = min(max(len(seen) // BATCH, LEAST_BATCHES), max(len(seen), 1))
        best, kept, waited = float("inf"), network.state_dict(), 0
        for _ in range(epochs):
            network.train()
            for batch in np.array_split(rng.permutation(seen), parts):
                rows = torch.from_numpy(batch)
                optimiser.zero_grad()
                loss = ziln_loss(torch, network(*(x[rows] for x in inputs)), target[rows])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimiser.step()
            network.eval()
            with torch.no_grad():
                if not len(held):
                    continue
                now = float(ziln_loss(torch, network(*(x[held] for x in inputs)), target[held]))
            if now < best - 1e-4:
                best, waited = now, 0
                kept = {name: p.clone() for name, p in network.state_dict().items()}
            else:
                waited += 1
                if waited >= PATIENCE:
                    break
        if best < float("inf"):
            network.load_state_dict(kept)
        network.eval()
        return network
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
