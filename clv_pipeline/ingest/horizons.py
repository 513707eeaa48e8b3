"""Which horizons a history of orders can carry, as ``clv init`` proposes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

DEFAULT_HORIZONS = (30, 90, 180, 365)
DEFAULT_HISTORY_DAYS = 90


def horizon_lines(covered: Sequence[tuple[date, date]]) -> list[str]:
    """Return the sections [value] and [cadence]: the horizons that the orders can train.

    Parameters
    ----------
    covered
        First and last day of each file of orders; none where there are no orders.
    """
    if not covered:
        return ["[value]", f"horizons = {list(DEFAULT_HORIZONS)}"]
    first, last = min(days[0] for days in covered), max(days[1] for days in covered)
    days = (last - first).days + 1
    history = DEFAULT_HISTORY_DAYS
    horizons = [h for h in DEFAULT_HORIZONS if days >= history + h]
    lines = ["[value]", f"# The orders cover {days:,} days, from {first} to {last}."]
    lines += [_verdict(h, days) for h in DEFAULT_HORIZONS]
    if not horizons:
        horizons, history = [max(days // 4, 1)], max(days // 4, 1)
        lines.append("# The history is too short for any of them: this is a quarter of it.")
    lines += [f"horizons = {horizons}", "", "[cadence]"]
    if history != DEFAULT_HISTORY_DAYS:
        lines.append(f"min_history_days = {history} # days of history that a training needs")
    return [*lines, f"# last_cutoff = {last} # uncomment it where no further orders will come"]


def _verdict(horizon: int, days: int) -> str:
    train, test = DEFAULT_HISTORY_DAYS + horizon, DEFAULT_HISTORY_DAYS + 2 * horizon
    if days < train:
        return f"# {horizon} days ahead: too little to train on, which takes {train} days."
    if days < test:
        return f"# {horizon} days ahead: can train, but a backtest takes {test} days."
    return f"# {horizon} days ahead: can train and be backtested."
