"""What `clv run` costs from files to published tables: the first run, and the night after it.

    python -m benchmarks.whole_run                       a million orders
    python -m benchmarks.whole_run --orders 10_000_000

The orders are those of `benchmarks.scale`. The first run lands all history but the last night,
trains and publishes; the night lands one file more, scores every customer and publishes.
"""

from __future__ import annotations

import io
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measuring import Measured, Table, arguments_of, measure, write_results
from benchmarks.scale import LAST_DAY, make_home, write_orders
from clv_pipeline.orchestration.environment import prepare_environment
from clv_pipeline.progress import Progress
from clv_pipeline.settings import CONFIG_NAME, load_settings
from clv_pipeline.timeline import Cutoff

TOML = """\
[project]
time_zone = "Europe/Berlin"
reporting_currency = "EUR"

[cadence]
last_cutoff = {last}

[inputs.transactions]
files = ["orders/*.parquet"]
"""


class Listener(Progress):
    """Keeps how long each stage took."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))


def prepare(home: Path, history: Path) -> None:
    """Make an empty project."""
    make_home(home, history)
    (home / CONFIG_NAME).write_text(TOML.format(last=LAST_DAY), encoding="utf-8")


def add_night(home: Path, night: Path) -> None:
    """Deliver the night's file."""
    (home / "orders" / "zz_night.parquet").symlink_to(night.resolve())


def run(home: Path, cutoff: date) -> dict[str, Any]:
    """Run and publish; return the seconds of each step."""
    settings = load_settings(home)
    prepare_environment(settings)
    from clv_pipeline.orchestration import commands

    seconds: dict[str, float] = {}
    with commands.hold_runner(settings, Listener()) as runner:
        real = runner.run

        def watched(*arguments: Any) -> Any:
            outcome = real(*arguments)
            for step, took in outcome.step_seconds.items():
                seconds[step] = seconds.get(step, 0.0) + took
            return outcome

        runner.run = watched  # type: ignore[method-assign]
        commands.run(runner, Cutoff(cutoff), None)
    return seconds


def _describe(found: Measured) -> str:
    slowest = sorted(found.answer.items(), key=lambda item: -item[1])[:5]
    told = ", ".join(f"{step.split('__')[-1]} {seconds:.1f}" for step, seconds in slowest)
    return f"{len(found.answer)} steps take {sum(found.answer.values()):.1f} s; {told}"


def main() -> None:
    """Measure, print the table and write it."""
    options = arguments_of(__doc__, ("whole_run",)).parse_args()
    history, night = write_orders(options.folder / f"orders_{options.orders}", options.orders)
    home = options.folder / f"whole_{options.orders}"
    table = Table("From files to published tables", against="the first run, with training")
    first = partial(prepare, home, history)
    found = measure("the first run, with training", run, home, LAST_DAY, runs=1, prepare=first)
    table.add(found, note=_describe(found))
    later = partial(add_night, home, night)
    found = measure("the night after it", run, home, LAST_DAY, runs=1, prepare=later)
    table.add(found, note=_describe(found))
    write_results(
        f"whole_run_{options.orders}",
        f"A whole run: {options.orders:,} orders",
        f"python -m benchmarks.whole_run --orders {options.orders:_}",
        [table],
        "Simulated orders, 20 a customer; `clv run` in a process of its own, imports included in "
        "the time and not in the steps.",
        options.results,
    )


if __name__ == "__main__":
    main()
