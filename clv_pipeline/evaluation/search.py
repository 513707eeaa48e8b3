"""Search for better parameters, and for features that can go, by validation on unseen outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clv_pipeline.evaluation import trials as room
from clv_pipeline.evaluation.proposing import Method, Space, propose
from clv_pipeline.evaluation.selecting import drop_features
from clv_pipeline.evaluation.splits import Split
from clv_pipeline.evaluation.trials import EXPERTS, Subject, Trial
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.candidates import plain
from clv_pipeline.models.panel import Panel


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    trials
        In the order in which they were tried; the first has the present settings.
    best
        The one of the least loss.
    left_out
        Features that can go without a loss; empty where that was not asked for.
    loss_without
        The best trial's loss without them.
    splits
        What it was judged on, in words.
    subject
        What was searched for.
    """

    trials: tuple[Trial, ...]
    best: Trial
    left_out: tuple[str, ...]
    loss_without: float
    splits: tuple[str, ...]
    subject: Subject = EXPERTS

    def to_toml(self) -> str:
        """Return the lines to put under ``[model]`` in clv.toml."""
        lines = ["[model]"]
        own = {k: v for k, v in self.best.parameters.items() if k not in EXPERTS.space}
        for name, value in self.best.parameters.items():
            if name not in own:
                lines.append(f"{name} = {plain(value)}")
        if own:
            pairs = ", ".join(f"{name} = {plain(value)}" for name, value in own.items())
            lines.append(f"networks.{self.subject.name} = {{ {pairs} }}")
        if self.left_out:
            names = ", ".join(f'"{name}"' for name in self.left_out)
            lines.append(f"left_out_features = [{names}]")
        return "\n".join(lines) + "\n"


def search(
    panel: Panel,
    options: FitOptions,
    splits: Sequence[Split],
    *,
    subject: Subject = EXPERTS,
    method: Method = "bayes",
    budget_seconds: float = 300.0,
    select_features: bool = False,
    tell: Callable[[str], object] | None = None,
    space: Space | None = None,
) -> SearchResult:
    """Try sets of parameters until the time is up.

    The present settings are tried first.

    Parameters
    ----------
    panel
        Names the features.
    options
        The present settings; the seed decides every draw.
    splits
        From ``splits_by_time`` or ``splits_by_cohort``.
    subject
        One of ``SUBJECTS``.
    method
        How the next set is chosen (``propose``).
    budget_seconds
        No trial begins after it; half of it is for the features, where they are asked for.
    select_features
        Also find features that can go, by permutation on the newest split.
    tell
        Told a line per trial.
    space
        By name, the values to choose from, instead of the subject's.

    Raises
    ------
    ValueError
        If there is no split to judge by.
    """
    if not splits:
        raise ValueError("there is nothing to judge by: no cutoff has matured labels behind it.")
    say = tell or (lambda text: None)
    chosen = subject.space if space is None else space
    started = time.monotonic()
    until = started + budget_seconds * (0.5 if select_features else 1.0)
    trials: list[Trial] = []
    judged: list[tuple[dict[str, float], float]] = []
    now = subject.present(options)
    present = {name: now[name] for name in chosen}
    for parameters in propose(present, chosen, method, options.seed, judged):
        if trials and time.monotonic() >= until:
            break
        trial = room.run_trial(panel, options, splits, parameters, subject=subject)
        trials.append(trial)
        judged.append((parameters, trial.loss))
        best = min(trials, key=lambda t: t.loss)
        shown = ", ".join(f"{name} {plain(value)}" for name, value in parameters.items())
        say(
            f"{time.monotonic() - started:5.0f} s  {subject.name}, trial {len(trials)}: loss "
            f"{trial.loss:.4f}, Gini {trial.normalized_gini:.4f} ({shown}); best {best.loss:.4f}"
        )
    best = min(trials, key=lambda t: t.loss)
    left_out: tuple[str, ...] = ()
    loss = best.loss
    if select_features:
        left_out, loss = drop_features(
            panel,
            options,
            splits[-1:],
            subject=subject,
            parameters=best.parameters,
            until=started + budget_seconds,
            tell=say,
        )
    names = tuple(split.name for split in splits)
    return SearchResult(tuple(trials), best, left_out, loss, names, subject)
