"""Which features are there, what does each bring, and what does its view cost?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clv_pipeline import dbt_project, transform
from clv_pipeline.orchestration import learning
from clv_pipeline.orchestration.partitions import data_days
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff, Fold
from clv_pipeline.warehouse import has_table, hold_run_lock, open_warehouse, read_frame

if TYPE_CHECKING:
    from clv_pipeline.evaluation.importance import Predict
    from clv_pipeline.features.registry import Feature
    from clv_pipeline.models.panel import Floats

MAX_ROWS = 5_000
HISTORY = "the purchase history"


class ReviewError(RuntimeError):
    """Features that can't be reviewed; the message says what is lacking."""


@dataclass(frozen=True)
class Review:
    """What features bring and cost.

    Attributes
    ----------
    horizon_days, evaluation
        What was predicted, and as of when: a cutoff that the model has not learned from.
    service
        The feature service.
    views
        A row per view: ``name``, ``loss`` of normalized Gini when all of it is shuffled,
        ``spread``, ``is_useful``, ``seconds`` that dbt takes for one cutoff, ``features``.
    features
        A row per feature that a model may read: the same with ``view`` instead.
    """

    horizon_days: int
    evaluation: Cutoff
    service: str
    views: pd.DataFrame
    features: pd.DataFrame

    @property
    def useless(self) -> pd.DataFrame:
        """Features that bring nothing, by what their view costs; whole views are marked."""
        found = self.features[~self.features["is_useful"].astype(bool)]
        whole = found.groupby("view")["name"].transform("size") == found["view"].map(
            self.features.groupby("view")["name"].size()
        )
        brings_nothing = set(self.views.loc[~self.views["is_useful"].astype(bool), "name"])
        drop = np.where(whole & found["view"].isin(brings_nothing), "the view", "the feature")
        return found.assign(drop=drop).sort_values(
            ["drop", "seconds", "view", "loss"], ascending=[False, False, True, True]
        )


def list_features(settings: Settings) -> pd.DataFrame:
    """Return the registry with what the newest run saw of each feature."""
    from clv_pipeline.features.registry import load_features

    installed = settings.paths.dbt_project
    features = load_features(installed if installed.exists() else None)
    frame = pd.DataFrame(
        {
            "feature": [f.name for f in features],
            "view": [f.view for f in features],
            "version": [f.version for f in features],
            "kind": [f.kind for f in features],
            "tags": [", ".join(sorted(f.tags)) for f in features],
            "model": ["yes" if f.is_model_input else "no" for f in features],
            "owner": [f.owner for f in features],
        }
    )
    if settings.paths.warehouse.exists():
        with open_warehouse(settings, read_only=True) as connection:
            if has_table(connection, "ops", "feature_health"):
                health = read_frame(
                    connection,
                    "SELECT feature, null_share, psi_training, age_days FROM ops.feature_health "
                    "QUALIFY rank() OVER (ORDER BY cutoff_date DESC, run_id DESC) = 1",
                )
                frame = frame.merge(health, on="feature", how="left")
    return frame


def review_features(settings: Settings, horizon_days: int | None = None) -> Review:
    """Fit the champion's recipe as of a past cutoff, and shuffle features in what it had not seen.

    Parameters
    ----------
    horizon_days
        H of the values; the longest that can be tested on past data when None.

    Raises
    ------
    ReviewError
        If there is no champion, or no past cutoff can be held out.
    """
    from clv_pipeline.evaluation.importance import permutation_importance
    from clv_pipeline.features.services import find_service
    from clv_pipeline.models import store

    version = store.champion_version(settings.paths.models)
    if version is None:
        raise ReviewError("There is no champion yet: run `clv train` first.")
    manifest = store.read_manifest(settings.paths.models, version)
    service = find_service(settings, manifest.get("feature_service"))
    columns = service.inputs
    fold, blend = _newest_fold(settings, Cutoff.parse(manifest["as_of"]), horizon_days)
    predict, rows, actual = _fit(settings, columns, fold, blend)
    names = {f.name: f.view for f in columns}
    views: dict[str, list[str]] = {}
    for name, view in names.items():
        views.setdefault(view, []).append(name)
    by_view = permutation_importance(predict, rows, actual, views, seed=settings.model.seed)
    by_feature = permutation_importance(
        predict, rows, actual, _groups(names), repeats=3, seed=settings.model.seed
    )
    seconds = _seconds(settings, fold.evaluation)
    return Review(
        fold.horizon_days,
        fold.evaluation,
        service.name,
        by_view.assign(
            seconds=by_view["name"].map(seconds),
            features=by_view["name"].map({view: len(held) for view, held in views.items()}),
        ),
        _per_feature(by_feature, names).assign(seconds=lambda frame: frame["view"].map(seconds)),
    )


def _newest_fold(
    settings: Settings, as_of: Cutoff, horizon_days: int | None
) -> tuple[Fold, tuple[Cutoff, ...]]:
    from clv_pipeline.planning import plan_horizon

    days = data_days(settings)
    horizons = settings.value.horizons if horizon_days is None else (horizon_days,)
    if days is not None:
        for horizon in sorted(horizons, reverse=True):
            folds = plan_horizon(settings, as_of, horizon, days[0]).folds
            if folds:
                return folds[-1]
    raise ReviewError(
        "No past cutoff can be held out to see what features bring: the history is too short for "
        f"the horizon{'s' * (len(horizons) > 1)} {', '.join(map(str, horizons))}."
    )


def _fit(
    settings: Settings, columns: Sequence[Feature], fold: Fold, blend: Sequence[Cutoff]
) -> tuple[Predict, pd.DataFrame, Floats]:
    from clv_pipeline.models.base import FitOptions
    from clv_pipeline.models.fold import FittedHorizon, Workbench
    from clv_pipeline.models.histories import Histories
    from clv_pipeline.models.panel import Panel
    from clv_pipeline.timeline import union_cutoffs

    cutoffs = union_cutoffs([fold.training, blend, (fold.evaluation,)])
    panel = Panel.build(*learning.read_panel(settings, cutoffs, columns), columns)
    bench = Workbench(
        panel,
        FitOptions.from_settings(settings, fold.horizon_days),
        Histories(panel, settings.model.seed),
    )
    fitted = FittedHorizon(bench.options).fit(bench, fold.training, blend)
    known = bench.experts(fold.training)
    rows, target = panel.matrix(fold.horizon_days, [fold.evaluation])
    chosen = np.sort(np.random.default_rng(settings.model.seed).permutation(len(rows))[:MAX_ROWS])

    def predict(asked: pd.DataFrame) -> Floats:
        answer = fitted.model_.combine(
            fitted.model_.level_zero_.predict(bench.matrix(asked, known))
        )
        value: Floats = answer["value"]
        return value

    return predict, rows.iloc[chosen].reset_index(drop=True), target.value[chosen]


def _groups(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Put what sums up a purchase history in one group: its parts hang together."""
    from clv_pipeline.models.panel import ALWAYS_KEPT

    groups: dict[str, list[str]] = {HISTORY: [name for name in names if name in ALWAYS_KEPT]}
    return groups | {name: [name] for name in names if name not in ALWAYS_KEPT}


def _per_feature(found: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    from clv_pipeline.models.panel import ALWAYS_KEPT

    history = found[found["name"] == HISTORY]
    parts = [history.assign(name=name) for name in names if name in ALWAYS_KEPT]
    frame = pd.concat([*parts, found[found["name"] != HISTORY]], ignore_index=True)
    return frame.assign(view=frame["name"].map(names))


def _seconds(settings: Settings, cutoff: Cutoff) -> dict[str, float]:
    """Measure how long dbt takes for each view, by building one cutoff anew."""
    variables = dbt_project.dbt_variables(settings, [cutoff], cutoff, "feature_review")
    with hold_run_lock(settings):
        results = transform.run_dbt(
            settings, ["run", "--select", transform.STAGES["features"]], variables
        )
    return {result.node.rpartition(".")[2]: result.seconds for result in results}
