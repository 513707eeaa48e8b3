"""How good the ensemble is beside its parts and its peers, and what each of its steps brings.

``python -m benchmarks.accuracy`` fits everything as of each cutoff of each shop with the project's
defaults, predicts the window after it, and prints two tables: the models, and the ensemble with one
step left out at a time. ``--quick`` takes one cutoff per shop. Both are written to
``benchmarks/results/accuracy.md``. Nothing is seen of the days after a cutoff but to judge by.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy_shops import CASES, features_at, labels_at, make_panel, read_days
from clv_pipeline.evaluation.metrics import purchase_measures, value_measures
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.blending import ClusterBlend
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.fold import FittedHorizon, Workbench
from clv_pipeline.models.histories import Histories, history_matrix
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.panel import Floats, Panel
from clv_pipeline.models.season_index import NO_SEASON
from clv_pipeline.models.seasons import Levels
from clv_pipeline.models.tilting import Tilt
from clv_pipeline.planning import learned_horizons, plan_horizon, required_cutoffs
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff, training_cutoffs

MEASURES = (
    "normalized_gini",
    "spearman",
    "relative_rmse",
    "absolute_bias",
    "decile_mape",
    "top_10_capture",
    "auc",
)
CAP = 0.995
RESULTS = Path(__file__).parent / "results" / "accuracy.md"


class _NoHistories(Histories):
    def at(self, cutoff: Cutoff) -> None:
        """Know no purchase history."""
        return


class _NoLevels(Workbench):
    def levels(self, newest: Cutoff) -> Levels:
        """Know no season."""
        return Levels(self.options.horizon_days, {})


class _Sum(ClusterBlend):
    def predict(self, experts: Mapping[str, Floats], cluster: NDArray[np.int64]) -> Floats:
        """Return the weighted sum, as blends usually are."""
        return self._weighted(experts, cluster)


def _equal(blend: ClusterBlend, names: Collection[str]) -> ClusterBlend:
    """Return a blend of equal weights of some experts, in the place of one that was learned."""
    known = [name for name in blend.weights_ if name in names]
    other = ClusterBlend.given(dict.fromkeys(known, 1 / len(known)))
    other.scale_ = blend.scale_
    return other


class Case:
    """One shop, one cutoff, one horizon, and what came to pass."""

    def __init__(self, shop: str, day: str, horizon: int) -> None:
        self.shop, self.horizon, self.as_of = shop, horizon, Cutoff.parse(day)
        self.settings: Settings = build_settings(
            Path(gettempdir()), {"value": {"horizons": [horizon]}, "model": {"threads": 1}}
        )
        self.first_day = read_days(shop)["date"].min().date()
        self.learned = learned_horizons(self.settings, self.as_of, self.first_day)
        cutoffs = required_cutoffs(self.settings, self.as_of, self.first_day)
        self.panel = make_panel(shop, cutoffs, self.learned, self.as_of)
        self.histories = Histories(self.panel, self.settings.model.seed)
        self.rows = self.panel.for_cutoffs([self.as_of]).features
        self.truth = labels_at(shop, self.as_of, horizon).set_index("customer_id")
        self.truth = self.truth.loc[self.rows["customer_id"]]

    def fit(
        self,
        panel: Panel | None = None,
        histories: Histories | None = None,
        bench: type[Workbench] = Workbench,
        *,
        clusters: int | None = None,
        giants: float | None = None,
        count: int | None = None,
        same_season: bool = True,
    ) -> CLVModel:
        """Fit the ensemble as training does; without the choice of a simpler model."""
        panel, histories = panel or self.panel, histories or self.histories
        model = CLVModel((self.horizon,))
        model.history_ = histories.at(self.as_of)
        is_extended = self.learned[0] != self.horizon
        horizon = self.learned[0]
        options = FitOptions.from_settings(self.settings, horizon)
        options = replace(
            options,
            clusters=clusters or options.clusters,
            giant_multiple=giants or options.giant_multiple,
        )
        plan = plan_horizon(self.settings, self.as_of, horizon, self.first_day)
        training, blend = plan.training, plan.blend
        if not same_season or count:
            newest, before = (
                training_cutoffs(
                    as_of,
                    horizon,
                    first_day=self.first_day,
                    step_days=self.settings.cadence.training_step_days,
                    count=count or self.settings.cadence.training_cutoffs,
                    min_history_days=self.settings.cadence.min_history_days,
                )
                for as_of in (self.as_of, training[-1])
            )
            training, blend = newest, before
        work = bench(panel, options, histories)
        model.fitted_[horizon] = FittedHorizon(options).fit(work, training, blend)
        model.fitted_[horizon].tilt_to(self.rows, model.history_)
        if is_extended and model.history_ is not None:
            model.bridged_[self.horizon] = horizon
        return model

    def answer(self, model: CLVModel) -> tuple[Floats, Floats]:
        """Return values and chances of an order."""
        found = model.predict(self.rows)
        return found["value"][:, 0], found["probability"][:, 0]

    def capped(self) -> Panel:
        """Return the panel with each cutoff's labels capped at a high quantile of the positive."""
        labels = self.panel.labels.copy()
        keys = [labels["cutoff_date"], labels["horizon_days"]]
        positive = labels["label_value"].where(labels["label_value"] > 0)
        most = positive.groupby(keys).transform(lambda v: v.quantile(CAP))
        labels["label_value"] = labels["label_value"].clip(upper=most.fillna(np.inf))
        return replace(self.panel, labels=labels)

    def models(self) -> Iterator[tuple[str, Floats, Floats | None]]:
        """Fit and ask every model."""
        X = history_matrix(self.rows)
        for name, purchases, first in (
            ("Pareto/NBD + Gamma-Gamma", "pareto_nbd", False),
            ("BG/NBD + Gamma-Gamma", "bg_nbd", False),
            ("Pareto/NBD + Gamma-Gamma with the first order", "pareto_nbd", True),
        ):
            history = HistoryModel(self.horizon, purchases, first).fit(X)
            forecast = history.forecast(X)
            yield name, forecast["btyd_value"], forecast["btyd_probability"]
        model = self.fit()
        yield "ensemble", *self.answer(model)
        fitted = model.fitted_[self.learned[0]]
        served = fitted.model_
        blend, tilt = served.value_blend_, served.tilt_
        names = {
            "btyd_seasonal": "the same, season-adjusted",
            "hurdle": "XGBoost hurdle",
            "tweedie": "XGBoost Tweedie",
            "poisson": "XGBoost Poisson orders times spend",
        }
        for part, name in names.items():
            served.serve(part)
            yield name, self.answer(model)[0], None
        served.tilt_, served.value_blend_ = Tilt.none(), blend
        yield "- without the tilt towards likelier orders", self.answer(model)[0], None
        served.tilt_ = tilt
        everyone = ClusterBlend.from_dict({**blend.to_dict(), "by_cluster": []})
        few = ClusterBlend.from_dict({**blend.to_dict(), "giants": None})
        blends = {
            "summed, not averaged on the log scale": _Sum.from_dict(blend.to_dict()),
            "with equal weights": _equal(blend, blend.weights_),
            "without clusters' weights": everyone,
            "without giants' weights": few,
            "Tweedie without hurdle": _equal(blend, {"btyd", "tweedie"}),
            "hurdle without Tweedie": _equal(blend, {"btyd", "hurdle"}),
            "without orders times spend": _equal(blend, {"btyd", "hurdle", "tweedie"}),
        }
        for name, other in blends.items():
            served.value_blend_ = other
            yield f"- {name}", self.answer(model)[0], None
        served.value_blend_ = blend
        index = NO_SEASON.since(self.first_day)
        served.levels_ = replace(served.levels_, index=index)
        yield "- without the season of other shops", *self.answer(model)

    def ablations(self) -> Iterator[tuple[str, Floats, Floats | None]]:
        """Fit and ask the ensemble with one step left out at a time."""
        without = _NoHistories(self.panel, self.settings.model.seed)
        steps = {
            "without K-means (one cluster)": lambda: self.fit(clusters=1),
            "without buy-till-you-die": lambda: self.fit(histories=without),
            "newest cutoff alone": lambda: self.fit(count=1),
            "without last year's cutoffs": lambda: self.fit(same_season=False),
            "without levels and season": lambda: self.fit(bench=_NoLevels),
            "labels capped at 99.5 %": lambda: self.fit(panel=self.capped()),
            "labels never capped": lambda: self.fit(giants=1e12),
        }
        for name, fit in steps.items():
            yield f"- {name}", *self.answer(fit())

    def measure(self, value: Floats, chance: Floats | None, base: float) -> dict[str, float]:
        """Return the figures of one model."""
        actual = self.truth["label_value"].to_numpy()
        bought = self.truth["has_purchase"].to_numpy()
        found = value_measures(actual, value)
        score = value if chance is None else chance
        return {
            **{m: found[m] for m in MEASURES if m in found},
            "relative_rmse": found["rmse"] / base,
            "absolute_bias": abs(found["total_bias"]),
            "bias": found["total_bias"],
            "auc": purchase_measures(bought, np.clip(score, 0.0, 1.0))["auc"]
            if chance is not None
            else np.nan,
        }


def run(cases: tuple[tuple[str, str, int], ...], *, with_ablations: bool = True) -> pd.DataFrame:
    """Return a row per case and model."""
    rows = []
    for shop, day, horizon in cases:
        start = time.perf_counter()
        try:
            case = Case(shop, day, horizon)
        except FileNotFoundError as missing:
            print(f"{shop} left out: {missing}", file=sys.stderr)
            continue
        answers = list(case.models()) + (list(case.ablations()) if with_ablations else [])
        base = value_measures(case.truth["label_value"].to_numpy(), answers[0][1])["rmse"]
        for name, value, chance in answers:
            figures = case.measure(value, chance, base)
            rows.append({"shop": shop, "cutoff": day, "horizon": horizon, "model": name, **figures})
        features_at.cache_clear()
        took = time.perf_counter() - start
        print(f"{shop} {day} {horizon} days: {took:.0f} s", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def report(found: pd.DataFrame) -> str:
    """Return the tables in Markdown: means over cutoffs by shop, and the ensemble by cutoff."""
    order = list(dict.fromkeys(found["model"]))
    parts = ["# Accuracy\n", "Means over the cutoffs; RMSE relative to Pareto/NBD + Gamma-Gamma.\n"]
    for shop, rows in [("all shops", found), *found.groupby("shop", sort=False)]:
        by_model, cutoffs = rows.groupby("model"), rows.groupby(["shop", "cutoff"]).ngroups
        # A mean over fewer cutoffs than the others' is no figure to stand beside them.
        complete = [m for m in order if by_model.size().get(m, 0) == cutoffs]
        means = by_model[list(MEASURES)].mean().reindex(complete)
        parts += [f"\n## {shop}: {cutoffs} cutoffs\n", markdown(means.reset_index())]
    parts += [_describe_steps(found)]
    ensemble = found[found["model"] == "ensemble"]
    columns = ["shop", "cutoff", "horizon", *MEASURES, "bias"]
    parts += ["\n## The ensemble, cutoff by cutoff\n", markdown(ensemble[columns])]
    return "\n".join(parts) + "\n"


def _describe_steps(found: pd.DataFrame) -> str:
    """Return what changes when a step is left out: the mean, and on how many cutoffs it is worse.

    Twice the standard error over the cutoffs tells a change from the luck of these cutoffs.
    """
    wide = found.pivot(index=["shop", "cutoff", "horizon"], columns="model", values=list(MEASURES))
    rows = []
    for model in (m for m in dict.fromkeys(found["model"]) if m.startswith("- ")):
        row: dict[str, object] = {"left out or changed": model.removeprefix("- ")}
        row["cutoffs"] = int(wide["normalized_gini"][model].count())
        for measure in MEASURES:
            change = (wide[measure][model] - wide[measure]["ensemble"]).dropna()
            if change.empty:
                row[measure] = ""
                continue
            lower_is_worse = measure in ("normalized_gini", "spearman", "top_10_capture", "auc")
            worse = int((change < 0).sum() if lower_is_worse else (change > 0).sum())
            error = 2 * float(change.std()) / np.sqrt(len(change)) if len(change) > 1 else np.nan
            row[measure] = f"{change.mean():+.4f} ±{error:.4f} ({worse} worse)"
        rows.append(row)
    if not rows:
        return ""
    head = "\n## What each step brings: the figure without it, less the ensemble's\n\n"
    note = (
        "Mean over the cutoffs, ± two standard errors over the cutoffs, and how many are worse.\n\n"
    )
    return head + note + markdown(pd.DataFrame(rows)) + "\n"


def markdown(frame: pd.DataFrame) -> str:
    """Return a table, figures with three decimals."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.3f}"
        return str(value)

    lines = ["| " + " | ".join(map(str, frame.columns)) + " |"]
    lines += ["|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(map(text, row)) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)


def main() -> None:
    """Print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one cutoff per shop")
    parser.add_argument("--without-ablations", action="store_true")
    parser.add_argument("--shop", action="append", help="only this shop; may be repeated")
    arguments = parser.parse_args()
    cases = tuple(c for c in CASES if not arguments.shop or c[0] in arguments.shop)
    if arguments.quick:
        cases = tuple({case[0]: case for case in cases}.values())
    found = run(cases, with_ablations=not arguments.without_ablations)
    text = report(found)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
