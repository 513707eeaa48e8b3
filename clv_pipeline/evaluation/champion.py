"""What the present champion would have said, where it had not learned the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clv_pipeline.evaluation.backtest import Forecasts, customer_keys, load_forecasts
from clv_pipeline.models import store
from clv_pipeline.models.manifest import find_other_question
from clv_pipeline.models.panel import Panel, PanelError
from clv_pipeline.timeline import Cutoff


@dataclass(frozen=True, eq=False)
class Champion:
    """The champion as the gate sees it.

    Attributes
    ----------
    version
        None before the first promotion.
    as_of
        The day up to which it had learned.
    backtest
        Its answers; None where it can't be read or asked.
    is_same_recipe
        Whether settings, features and code are the challenger's.
    notes
        What was wrong with it.
    other_question
        What it was trained for instead of what is asked now; None where that is the same.
    """

    version: str | None = None
    as_of: Cutoff | None = None
    backtest: tuple[Forecasts, ...] | None = None
    is_same_recipe: bool = False
    notes: tuple[str, ...] = ()
    other_question: str | None = None


def compare_with_champion(
    folder: Path,
    panel: Panel,
    as_of: Cutoff,
    challenger: Sequence[Forecasts],
    manifest: dict[str, Any],
) -> Champion:
    """Ask the champion what the challenger was asked.

    A champion that was trained for the same cutoff is judged by the backtest that was saved with
    it. An older one answers itself at the evaluation cutoffs on or after the day up to which it
    had learned; at earlier ones it may have seen the labels, so they are left out.

    Parameters
    ----------
    folder
        ``settings.paths.models``.
    panel
        Holds the features of the evaluation cutoffs.
    as_of
        The challenger's cutoff.
    challenger
        Its backtest.
    manifest
        Its manifest.
    """
    try:
        version = store.champion_version(folder)
        if version is None:
            return Champion()
        files, earlier = store.load_files(folder, version)
        model, _ = store.load_model(folder, version)
    except store.ModelStoreError as error:
        return Champion(version="unreadable", notes=(str(error),))
    learned = Cutoff.parse(earlier["as_of"])
    is_same = earlier["recipe"] == manifest["recipe"]
    other = find_other_question(earlier, manifest["recipe"]["settings"])
    if other is not None:
        return Champion(version, learned, other_question=other)
    if learned == as_of:
        return Champion(version, learned, load_forecasts(files), is_same)
    answers = []
    try:
        for asked in challenger:
            if asked.evaluation < learned or asked.horizon_days not in model.horizons:
                continue
            rows = panel.features_at(asked.evaluation)
            k = model.horizons.index(asked.horizon_days)
            found = model.predict(rows)
            keys = customer_keys(rows["customer_id"].to_numpy(dtype=object))
            _, i, j = np.intersect1d(asked.keys, keys, return_indices=True)
            answers.append(
                Forecasts(
                    asked.horizon_days,
                    asked.evaluation,
                    asked.keys[i],
                    asked.actual[i],
                    asked.bought[i],
                    found["value"][j, k],
                    found["probability"][j, k],
                )
            )
    except PanelError as error:
        return Champion(version, learned, None, is_same, (f"The champion can't answer: {error}",))
    return Champion(version, learned, tuple(answers), is_same)
