"""How well the total of a window is forecast: by shop, with and without a season, and by cohorts.

``python -m benchmarks.levels`` fits buy-till-you-die at a cutoff every 30 days of each shop of
``benchmarks.accuracy_shops``, measures the level of every window (``models.seasons``), forecasts
each from those that had matured by then (``models.totals``), and prints by how much it was missed.
The errors that ``totals`` starts from are those printed here. About two minutes of one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.accuracy import markdown
from benchmarks.accuracy_shops import CASES, features_at, labels_at, read_days
from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.btyd.fitting import FitError
from clv_pipeline.models.histories import history_matrix
from clv_pipeline.models.history import HistoryModel
from clv_pipeline.models.panel import Floats, Matrix, Target
from clv_pipeline.models.season_index import NO_SEASON, SeasonIndex
from clv_pipeline.models.seasons import Levels
from clv_pipeline.models.totals import GROWN_DAYS, forecast_level, level_sources
from clv_pipeline.settings.learning import RETAIL_SEASON
from clv_pipeline.timeline import YEAR_DAYS, Cutoff

RESULTS = Path(__file__).parent / "results" / "levels.md"
HORIZONS = (60, 90, 180)
STEP_DAYS = 30
FEWEST = 20
ALL = "all"


@dataclass(frozen=True)
class Window:
    """One window of one group of customers: what buy-till-you-die expected, and what came."""

    level: float
    expected: float
    came: float


Windows = dict[Cutoff, dict[str, Window]]


def _groups(X: Matrix) -> dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return cohorts and segments of one cutoff's customers; each pair is everybody."""
    age, repeats = X.column("T"), X.column("frequency")
    idle = X.column("days_since_last_order")
    return {
        ALL: age >= 0,
        "new": age <= 180,
        "old": age > 180,
        "once": repeats == 0,
        "repeat": repeats > 0,
        "active": idle <= 90,
        "idle": idle > 90,
    }


PAIRS = {"first order within 180 days": ("new", "old"), "one-time buyers": ("once", "repeat")}
PAIRS |= {"order within 90 days": ("active", "idle")}


def measure(shop: str) -> dict[int, Windows]:
    """Return the windows of a shop by horizon."""
    days = read_days(shop)["date"]
    last, multiple = days.max(), FitOptions(30).giant_multiple
    found: dict[int, Windows] = {horizon: {} for horizon in HORIZONS}
    cutoff = Cutoff(days.min().date()).shift(2 * STEP_DAYS - 1)
    while cutoff.is_matured(min(HORIZONS), last.date()):
        X = history_matrix(features_at(shop, cutoff))
        try:
            history = HistoryModel(1).fit(X)
        except FitError:
            cutoff = cutoff.shift(STEP_DAYS)
            continue
        for horizon in HORIZONS:
            if not cutoff.is_matured(horizon, last.date()):
                continue
            rows = labels_at(shop, cutoff, horizon)
            came = rows["label_value"].to_numpy()
            y = Target(came, rows["label_orders"].to_numpy(float), rows["has_purchase"].to_numpy())
            known = X.with_columns(history.for_horizon(horizon).forecast(X))
            expected = known.column("btyd_value")
            found[horizon][cutoff] = {
                name: Window(
                    Levels.measure(known.take(part), y.take(part), horizon, multiple).known[cutoff][
                        0
                    ],
                    float(expected[part].sum()),
                    float(came[part].sum()),
                )
                for name, part in _groups(X).items()
                if part.sum() >= FEWEST
            }
        cutoff = cutoff.shift(STEP_DAYS)
    features_at.cache_clear()
    return found


def errors(windows: Windows, horizon: int, first_day: date) -> Iterator[dict[str, object]]:
    """Forecast every window in each way, from those that had matured; yield the log errors."""
    index = SeasonIndex(RETAIL_SEASON, first_day)
    shops = _levels(windows, ALL)
    for cutoff, groups in windows.items():
        truth = float(np.log(groups[ALL].came / groups[ALL].expected))
        forecast = forecast_level(shops, cutoff, horizon, index)
        year_ago = index.days_known(cutoff.shift(-YEAR_DAYS))
        row: dict[str, object] = {
            "year_before": "none"
            if not forecast.knows_season
            else ("young" if year_ago < GROWN_DAYS else "grown"),
            "nothing": -truth,
            "without the season of other shops": forecast_level(
                shops, cutoff, horizon, NO_SEASON.since(first_day)
            ).level
            - truth,
            "as it is": forecast.level - truth,
        }
        sources = level_sources(shops, cutoff, horizon, index)
        row |= {f"source {name}": level - truth for name, level in sources.items()}
        for name, pair in PAIRS.items():
            parts = [g for g in pair if g in groups]
            total = sum(
                groups[g].expected
                * np.exp(forecast_level(_levels(windows, g), cutoff, horizon, index).level)
                for g in parts
            )
            came = sum(groups[g].came for g in parts)
            row[f"by cohort: {name}"] = float(np.log(max(total, 1e-9) / max(came, 1e-9)))
        yield row


def _levels(windows: Windows, group: str) -> Mapping[Cutoff, float]:
    return {c: groups[group].level for c, groups in windows.items() if group in groups}


def _root_mean_square(values: pd.Series[float]) -> float:
    known: Floats = values.dropna().to_numpy(dtype=np.float64)
    return float(np.sqrt(np.mean(known**2))) if len(known) else np.nan


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """Return a column per shop and state of knowledge, a row per way to forecast."""
    columns = {f"{shop}, {year}": row for (shop, year), row in table.iterrows()}
    return pd.DataFrame(columns).rename_axis("").reset_index()


def main() -> None:
    """Print the table and write it down."""
    rows = []
    for shop in dict.fromkeys(shop for shop, _, _ in CASES):
        first_day = read_days(shop)["date"].min().date()
        for horizon, windows in measure(shop).items():
            rows += [{"shop": shop, **row} for row in errors(windows, horizon, first_day)]
    found = pd.DataFrame(rows)
    groups = found.groupby(["shop", "year_before"], sort=False)
    table = groups[list(found.columns[2:])].agg(_root_mean_square)
    table.insert(0, "windows", groups.size().astype(str))
    text = "\n".join(
        [
            "# By how much a window's total is missed\n",
            "Printed by `python -m benchmarks.levels`: root mean square of the log error of the "
            f"total, windows of {', '.join(map(str, HORIZONS))} days. The year before: none; "
            f"young, the shop was younger than {GROWN_DAYS} days then; grown.\n",
            markdown(_flat(table)),
        ]
    )
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
