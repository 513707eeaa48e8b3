"""Features that can go: by the same validation as a search for parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from clv_pipeline.evaluation.splits import Split
from clv_pipeline.evaluation.trials import EXPERTS, FittedSubject, Subject, judge, run_trial
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.panel import ALWAYS_KEPT, Panel

# A loss that is higher by less is no loss: the simpler set of features stays.
TOLERANCE = 0.001


def drop_features(
    panel: Panel,
    options: FitOptions,
    splits: Sequence[Split],
    *,
    subject: Subject = EXPERTS,
    parameters: Mapping[str, float] | None = None,
    until: float = float("inf"),
    tell: Callable[[str], object] | None = None,
) -> tuple[tuple[str, ...], float]:
    """Leave out features, the least important first, while the loss does not rise.

    Importance is what the loss gains when a feature's values are dealt anew among the rows that
    judge (permutation importance, Breiman 2001). Features that count for nothing go together;
    then halves of them, when that was too much.

    Returns
    -------
    tuple
        The features that can go, and the loss without them.
    """
    say = tell or (lambda text: None)
    held = parameters or {}
    present = run_trial(panel, options, splits, held, subject=subject)
    best_loss, gone = present.loss, frozenset[str]()
    importance = permutation_importance(panel, options, splits[-1], subject, held)
    free = sorted((n for n in importance if n not in ALWAYS_KEPT), key=lambda n: importance[n])
    group = [name for name in free if importance[name] <= 0]
    while group and time.monotonic() < until:
        trial = run_trial(panel, options, splits, held, gone | set(group), subject)
        is_kept = trial.loss <= best_loss * (1 + TOLERANCE)
        say(
            f"without {len(gone) + len(group)} of {len(importance)} features: loss "
            f"{trial.loss:.4f} against {best_loss:.4f}, {'left out' if is_kept else 'kept'}"
        )
        if is_kept:
            gone, best_loss = gone | set(group), min(trial.loss, best_loss)
            break
        group = group[: len(group) // 2]
    return tuple(sorted(gone)), best_loss


def permutation_importance(
    panel: Panel,
    options: FitOptions,
    split: Split,
    subject: Subject = EXPERTS,
    parameters: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return by feature how much the loss rises when its values are dealt anew."""
    model = FittedSubject(panel, options, subject, parameters)
    model.fit(split.train, split.train_target)
    actual = split.test_target.value
    base = judge(actual, model.predict(split.test))[0]
    rng = np.random.default_rng(options.seed)
    found = {}
    for name in model.encoder_.names:
        order = rng.permutation(len(split.test))
        dealt = split.test.assign(**{name: split.test[name].to_numpy()[order]})
        found[name] = judge(actual, model.predict(dealt))[0] - base
    return found
