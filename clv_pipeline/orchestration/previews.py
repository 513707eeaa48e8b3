"""What an asset shows of itself in the UI: row counts, a few rows, a plot. No personal data."""

import base64
import io
from collections.abc import Callable, Sequence
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

import dagster as dg

from clv_pipeline.ingest.contract import CONTRACTS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ROW_COUNT = "dagster/row_count"
SUMMARY = "summary"
INK, BLUE, GREY = "#334155", "#2563eb", "#94a3b8"
# Who a row is about is no business of a preview; what is the same in each row says nothing.
_PERSONAL_SUFFIXES = ("_id", "_json", "email", "name")
_SAME_IN_EACH_ROW = ("cutoff_date", "horizon_days", "model_version", "run_id")


def describe_rows(count: int, summary: str) -> dict[str, Any]:
    """Return the metadata that every asset carries: how many rows, and a line for the progress."""
    return {ROW_COUNT: dg.MetadataValue.int(int(count)), SUMMARY: summary}


def personal_columns() -> list[str]:
    """Return the names of columns that say something personal, in any table."""
    from clv_pipeline.features.registry import load_features

    landed = {f.name for contract in CONTRACTS.values() for f in contract.fields if f.personal}
    derived = {f.name for f in load_features() if {"personal", "protected"} & set(f.tags)}
    return sorted(landed | derived)


def preview(frame: "pd.DataFrame", rows: int = 5) -> dg.MarkdownMetadataValue:
    """Show the first rows as a markdown table; who they are about is left out."""
    shown = frame.head(rows)
    kept = [
        str(column)
        for column in shown.columns
        if not str(column).endswith((*_PERSONAL_SUFFIXES, *_SAME_IN_EACH_ROW))
    ]
    known = shown[kept].astype(object).where(shown[kept].notna(), None)
    lines = ["| " + " | ".join(kept) + " |", "|" + " --- |" * len(kept)]
    lines += [
        "| " + " | ".join(_cell(value) for value in row) + " |"
        for row in known.itertuples(index=False, name=None)
    ]
    return dg.MetadataValue.md("\n".join(lines))


def plot(
    draw: Callable[["Axes"], None], *, title: str, width: float = 7, height: float = 3
) -> dg.MarkdownMetadataValue:
    """Draw a figure and return it as a markdown image.

    Parameters
    ----------
    draw
        Draws on the axes it is given.
    title
        Says in words what the figure shows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=96, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    draw(axes)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    buffer = io.BytesIO()
    # savefig would draw twice.
    canvas.print_png(buffer)  # type: ignore[no-untyped-call]
    return show_image(buffer.getvalue(), title=title)


def show_image(png: bytes, *, title: str) -> dg.MarkdownMetadataValue:
    """Return a PNG as a markdown image."""
    image = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{image})")


def plot_line(days: Sequence[Any], values: Sequence[float], *, title: str) -> Any:
    """Plot a series over days."""

    def draw(axes: "Axes") -> None:
        axes.fill_between(list(days), list(values), color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(list(days), list(values), color=BLUE, linewidth=1.4)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#e2e8f0", linewidth=0.6)

    return plot(draw, title=title)


def plot_bars(
    names: Sequence[str], values: Sequence[float], *, title: str, marked: str | None = None
) -> Any:
    """Plot horizontal bars, the first name on top; ``marked`` is drawn in colour."""

    def draw(axes: "Axes") -> None:
        colors = [BLUE if marked is None or name == marked else GREY for name in names]
        bars = axes.barh(list(names), list(values), color=colors)
        axes.bar_label(bars, fmt="%.4g", fontsize=8, color=INK, padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.12)

    return plot(draw, title=title, height=max(2.0, 0.3 * len(names) + 0.8))


def plot_histogram(values: Any, *, title: str, label: str) -> Any:
    """Plot how values are distributed, in bins of equal ratio, those at or below 0 apart."""
    import numpy as np

    array = np.asarray(values, dtype=float)
    array = array[np.isfinite(array)]
    positive = array[array > 0]

    def draw(axes: "Axes") -> None:
        if len(positive):
            low = max(positive.min(), positive.max() * 1e-6)
            edges = np.geomspace(low, positive.max() * 1.0001, 41)
            axes.hist(np.clip(positive, low, None), bins=edges.tolist(), color=BLUE)
            axes.set_xscale("log")
        rest = len(array) - len(positive)
        note = f"{label}; {rest:,} at or below 0 are not drawn" if rest else label
        axes.set_xlabel(note, fontsize=8, color=INK)

    return plot(draw, title=title)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.4g}"
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
