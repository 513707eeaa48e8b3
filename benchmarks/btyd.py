"""How long buy-till-you-die models take to fit and to answer: `python benchmarks/btyd.py [N]`.

Customers are simulated in whole days as BG/NBD has it, first orders spread over two years.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from clv_pipeline.models.btyd import BGNBD, MBGNBD, GammaGamma, ParetoNBD
from clv_pipeline.models.btyd.fitting import collapse

TRUTH = {"r": 0.4, "alpha": 30.0, "a": 0.8, "b": 2.5}


def simulate(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frequency, recency and T of so many customers, all in whole days."""
    rng = np.random.default_rng(seed)
    observed = rng.integers(1, 731, count).astype(float)
    rate = rng.gamma(TRUTH["r"], 1 / TRUTH["alpha"], count)
    leaving = rng.beta(TRUTH["a"], TRUTH["b"], count)
    frequency, recency, now = np.zeros(count), np.zeros(count), np.zeros(count)
    active = np.arange(count)
    while len(active):
        now[active] += np.maximum(np.ceil(rng.exponential(1 / rate[active])), 1.0)
        active = active[now[active] <= observed[active]]
        frequency[active] += 1
        recency[active] = now[active]
        active = active[rng.random(len(active)) >= leaving[active]]
    return frequency, recency, observed


def main(count: int) -> None:
    """Print a table."""
    history = simulate(count)
    rows = len(collapse(list(history))[0][0])
    print(f"{count:,} customers, {rows:,} distinct (frequency, recency, T)")
    print(f"{'model':<12} {'fit s':>7} {'answer s':>9}  {'status':<18} parameters")
    for kind in (BGNBD, MBGNBD, ParetoNBD):
        started = time.perf_counter()
        model = kind().fit(*history)
        fitted = time.perf_counter()
        (x, t_x, T), _, places = collapse(list(history))
        orders = model.expected_purchases(365.0, x, t_x, T)[places]
        chance = model.probability_purchase(365.0, x, t_x, T)[places]
        answered = time.perf_counter()
        assert np.isfinite(orders).all() and ((chance >= 0) & (chance <= 1)).all()
        found = ", ".join(
            f"{name} {value:.3f} ±{model.result_.standard_errors[name]:.3f}"
            for name, value in model.parameters_.items()
        )
        print(
            f"{kind.name:<12} {fitted - started:7.1f} {answered - fitted:9.1f}  "
            f"{model.result_.status:<18} {found}"
        )
    rng = np.random.default_rng(1)
    repeat = history[0] > 0
    spend = rng.gamma(6.0 * history[0][repeat], rng.gamma(4.0, 0.2, repeat.sum()) ** -1.0)
    started = time.perf_counter()
    model = GammaGamma().fit(history[0][repeat], np.round(spend / history[0][repeat], 2) + 0.01)
    print(
        f"{GammaGamma.name:<12} {time.perf_counter() - started:7.1f} {'':>9}  "
        f"{model.result_.status:<18} on {repeat.sum():,} repeat buyers"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
