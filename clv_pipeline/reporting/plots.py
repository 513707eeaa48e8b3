"""Plots of how good the predictions are and what drives them, as PNG. They name nobody."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clv_pipeline.evaluation.backtest import Forecasts
from clv_pipeline.evaluation.calibration import calibration_bins, concentration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, BLUE, GREY, RED, LIGHT = "#334155", "#2563eb", "#94a3b8", "#dc2626", "#e2e8f0"
COLORS = (BLUE, "#f59e0b", "#059669", "#7c3aed", GREY)
# More dots than this hide each other.
MAX_DOTS = 3000


def draw(
    panels: Sequence[Callable[[Axes], None]], *, width: float = 4.2, height: float = 3.4
) -> bytes:
    """Draw panels side by side and return a PNG.

    Parameters
    ----------
    panels
        Each draws on the axes that it is given.
    width, height
        Of a panel, in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * len(panels), height), dpi=96, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=8)
        axes.grid(color=LIGHT, linewidth=0.6)
        axes.set_axisbelow(True)
        panel(axes)
    buffer = io.BytesIO()
    # savefig would draw twice.
    canvas.print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def plot_calibration(forecasts: Forecasts, model: str) -> bytes:
    """Plot mean predicted against mean actual value by tenths, and the same for the purchase."""
    title = f"Calibration of {model}, {_when(forecasts)}"

    def value(axes: Axes) -> None:
        bins = np.array(list(calibration_bins(forecasts.actual, forecasts.value)))
        low = float(np.min(bins[:, 2:4][bins[:, 2:4] > 0], initial=np.inf))
        if not np.isfinite(low):
            low = 1.0
        predicted, actual = (np.maximum(bins[:, k], low * 0.7) for k in (2, 3))
        _diagonal(axes, low * 0.6, float(max(predicted.max(), actual.max())) * 1.4)
        axes.plot(predicted, actual, "o-", color=BLUE, markersize=4, linewidth=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _name(axes, title, "mean predicted value of a tenth", "mean actual value")

    def purchase(axes: Axes) -> None:
        bins = np.array(
            list(calibration_bins(forecasts.bought.astype(float), forecasts.probability))
        )
        top = min(1.0, float(bins[:, 2:4].max()) * 1.1 + 0.01)
        _diagonal(axes, 0.0, top)
        axes.plot(bins[:, 2], bins[:, 3], "o-", color=BLUE, markersize=4, linewidth=1)
        _name(axes, "Probability of an order", "mean predicted", "share with an order")

    has_probability = bool(np.isfinite(forecasts.probability).all())
    return draw([value, purchase] if has_probability else [value])


def plot_concentration(models: Mapping[str, Forecasts]) -> bytes:
    """Plot Lorenz curves from the top, and the lift, of some models on one cutoff.

    Parameters
    ----------
    models
        By name, what serves first; at most four are drawn. All of one horizon and cutoff.
    """
    chosen = list(models.items())[:4]
    first = chosen[0][1]

    def lorenz(axes: Axes) -> None:
        _diagonal(axes, 0.0, 1.0, "anyone")
        shares, best = concentration(first.actual, first.actual)
        axes.plot(shares, best, color=GREY, linewidth=1, linestyle="--", label="hindsight")
        for (name, forecasts), color in zip(chosen, COLORS, strict=False):
            _, found = concentration(forecasts.actual, forecasts.value)
            is_first = name == chosen[0][0]
            axes.plot(
                shares, found, color=color, linewidth=1.4, label=name, zorder=3 if is_first else 2
            )
        axes.legend(fontsize=7, frameon=False, loc="lower right")
        _name(
            axes,
            f"Value found, {_when(first)}",
            "share of customers, best predicted first",
            "share of value",
        )

    def lift(axes: Axes) -> None:
        axes.axhline(1.0, color=GREY, linewidth=1)
        for (name, forecasts), color in zip(chosen, COLORS, strict=False):
            shares, found = concentration(forecasts.actual, forecasts.value)
            axes.plot(shares[2:], found[2:] / shares[2:], color=color, linewidth=1.4, label=name)
        axes.set_ylim(bottom=0)
        _name(axes, "Lift", "share of customers, best predicted first", "times the mean customer")

    return draw([lorenz, lift])


def plot_residuals(forecasts: Forecasts, model: str) -> bytes:
    """Plot actual less predicted value against the prediction, and where the error comes from."""
    title = f"Residuals of {model}, {_when(forecasts)}"
    residual = forecasts.actual - forecasts.value

    def dots(axes: Axes) -> None:
        rows = np.arange(len(residual))
        if len(rows) > MAX_DOTS:
            rows = np.random.default_rng(0).choice(len(rows), MAX_DOTS, replace=False)
        low = max(float(forecasts.value.max()) * 1e-4, 1e-9)
        axes.scatter(
            np.maximum(forecasts.value[rows], low),
            residual[rows],
            s=5,
            alpha=0.25,
            color=BLUE,
            linewidths=0,
        )
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=max(float(np.median(np.abs(residual))), 1e-6))
        _name(axes, title, "predicted value", "actual less predicted")

    def sums(axes: Axes) -> None:
        order = np.argsort(forecasts.value, kind="stable")
        parts = np.array_split(order, min(10, len(order)))
        totals = [float(residual[part].sum()) for part in parts]
        colors = [BLUE if total >= 0 else RED for total in totals]
        axes.bar(range(1, len(totals) + 1), totals, color=colors)
        axes.axhline(0.0, color=INK, linewidth=0.8)
        _name(axes, "Total missed by tenths", "tenth by prediction, 10 is the highest", "value")

    return draw([dots, sums])


def plot_effects(effects: pd.DataFrame, dependence: pd.DataFrame) -> bytes:
    """Plot the main drivers of one horizon, and how the mean value moves with the first of them.

    Parameters
    ----------
    effects
        Rows of ``scores.feature_effects`` of one horizon.
    dependence
        Rows of ``scores.partial_dependence`` of the same horizon.
    """
    from matplotlib.patches import Patch

    overall = effects[effects["segment"] == "all"].nsmallest(10, "driver_rank")

    def bars(axes: Axes) -> None:
        hues = {"up": BLUE, "down": RED, "mixed": GREY}
        axes.barh(
            overall["driver"],
            overall["mean_absolute_effect"],
            color=[hues[word] for word in overall["direction"]],
        )
        axes.invert_yaxis()
        keys = [Patch(color=color, label=f"more of it: {word}") for word, color in hues.items()]
        axes.legend(handles=keys, fontsize=7, frameon=False, loc="lower right")
        days = int(overall["horizon_days"].iloc[0]) if len(overall) else 0
        _name(axes, f"What drives the value over {days} days", "mean effect per customer", "")

    def curves(axes: Axes) -> None:
        for (driver, rows), color in zip(
            dependence.groupby("driver", sort=False), COLORS, strict=False
        ):
            place = np.linspace(0, 1, len(rows)) if len(rows) > 1 else np.zeros(len(rows))
            low, high = rows["driver_value"].min(), rows["driver_value"].max()
            axes.plot(
                place,
                rows["mean_predicted"],
                "o-",
                markersize=3,
                linewidth=1.2,
                color=color,
                label=f"{driver}: {low:,.3g} to {high:,.3g}",
            )
        axes.legend(fontsize=7, frameon=False)
        axes.set_xticks([0, 1], ["lowest", "highest"])
        _name(axes, "Partial dependence", "the driver set to", "mean predicted value")

    return draw([bars, curves], width=4.8)


def plot_review(review: pd.DataFrame) -> bytes:
    """Plot predicted against actual totals of matured predictions, and by cohort for the newest.

    Parameters
    ----------
    review
        Rows of ``clv.matured_predictions``.
    """
    overall = review[review["cohort"] == "all"].sort_values("cutoff_date")
    horizons = sorted(overall["horizon_days"].unique())
    newest = overall.iloc[-1]
    is_newest = (review["cutoff_date"] == newest["cutoff_date"]) & (
        review["horizon_days"] == newest["horizon_days"]
    )
    cohorts = review[is_newest & (review["cohort"] != "all")].sort_values("cohort").tail(18)

    def bias(axes: Axes) -> None:
        axes.axhline(0.0, color=INK, linewidth=0.8)
        for horizon, color in zip(horizons, COLORS, strict=False):
            rows = overall[overall["horizon_days"] == horizon]
            axes.plot(
                rows["cutoff_date"],
                rows["total_bias"],
                "o-",
                markersize=3,
                color=color,
                label=f"{horizon} days",
            )
        axes.legend(fontsize=7, frameon=False)
        axes.tick_params(axis="x", rotation=30)
        _name(axes, "How far predictions were off", "cutoff", "predicted over actual, less 1")

    def by_cohort(axes: Axes) -> None:
        place = np.arange(len(cohorts))
        axes.bar(place - 0.2, cohorts["sum_predicted"], 0.4, color=BLUE, label="predicted")
        axes.bar(place + 0.2, cohorts["sum_actual"], 0.4, color=GREY, label="actual")
        axes.set_xticks(place, list(cohorts["cohort"]), rotation=60, ha="right")
        axes.legend(fontsize=7, frameon=False)
        day = pd.Timestamp(newest["cutoff_date"]).date()
        _name(axes, f"By first order, {newest['horizon_days']} days after {day}", "", "value")

    return draw([bias, by_cohort], width=4.8)


def _diagonal(axes: Axes, low: float, high: float, label: str | None = None) -> None:
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, label=label)


def _name(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel(across, fontsize=8, color=INK)
    axes.set_ylabel(up, fontsize=8, color=INK)


def _when(forecasts: Forecasts) -> str:
    return f"{forecasts.horizon_days} days after {forecasts.evaluation}"
