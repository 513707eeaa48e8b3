"""How large the warehouse becomes week after week: with what is kept, and with everything kept.

    python -m benchmarks.growth                      four hundred thousand orders, eight weeks

Each week builds the twelve cutoffs before it, a month apart, as a training does, and those of seven
nights at once. Nothing new is sold meanwhile, so all that is added is what runs derive; of
predictions only the dates are written.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import scale
from benchmarks.measuring import arguments_of, write_results
from clv_pipeline import transform
from clv_pipeline.engines.building import drop_past_cutoffs
from clv_pipeline.settings import FeatureSettings
from clv_pipeline.warehouse import open_warehouse, read_row

WEEKS = 8
AS_OF, FEATURES = transform.STAGES["as_of"], transform.STAGES["features"]


@dataclass(frozen=True)
class Week:
    """What lies in the warehouse at a week's end.

    Attributes
    ----------
    mebibytes
        Size of its file.
    used
        What of it is in use, in MiB; the rest serves what is written next.
    cutoffs
        In ``features.customer_features``.
    """

    mebibytes: float
    used: float
    cutoffs: int


@dataclass(frozen=True)
class Growth:
    """Both warehouses, week by week."""

    built: float
    kept: list[Week]
    whole: list[Week]

    def render(self) -> str:
        """Return the table in Markdown."""
        lines = [
            f"With days and nothing as of any cutoff, the warehouse takes {self.built:,.0f} MiB.",
            "",
            "| week | with what is kept | in use | cutoffs | with everything | in use | cutoffs |",
            "|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for number, pair in enumerate(zip(self.kept, self.whole, strict=True), start=1):
            cells = [
                f"{week.mebibytes:,.0f} MiB | {week.used:,.0f} MiB | {week.cutoffs}"
                for week in pair
            ]
            lines.append(f"| {number} | {' | '.join(cells)} |")
        return "\n".join([*lines, ""])


def night_after_night(home: Path, *, drops: bool) -> list[Week]:
    """Run some weeks as schedules do, without models."""
    settings = scale.settings_of(home)
    weeks = []
    first = scale.ONE[0].shift(-7 * WEEKS)
    for number in range(WEEKS):
        monday = first.shift(7 * number)
        learned = [monday.shift(-30 * k) for k in range(1, 13)]
        nights = [monday.shift(day) for day in range(1, 8)]
        for cutoffs, is_training in (([*learned, monday], True), (nights, False)):
            if drops:
                drop_past_cutoffs(settings, cutoffs, is_training=is_training)
            scale.run_models(home, sorted(cutoffs), (AS_OF, FEATURES))
        with open_warehouse(settings) as connection:
            connection.execute(
                "INSERT INTO scores.customer_predictions (cutoff_date) SELECT unnest(?::DATE[])",
                [[night.day for night in nights]],
            )
        weeks.append(look_at(home))
        print(f"  week {number + 1}: {weeks[-1].mebibytes:,.0f} MiB", file=sys.stderr)
    return weeks


def look_at(home: Path) -> Week:
    """Measure the warehouse."""
    settings = scale.settings_of(home)
    with open_warehouse(settings, read_only=True) as connection:
        (cutoffs,) = read_row(
            connection, "SELECT count(DISTINCT cutoff_date) FROM features.customer_features"
        )
        (used,) = read_row(
            connection, "SELECT sum(used_blocks * block_size) FROM pragma_database_size()"
        )
    size = settings.paths.warehouse.stat().st_size
    return Week(size / 2**20, float(used) / 2**20, cutoffs)


def main() -> None:
    """Run both, print the table and write it."""
    options = arguments_of(__doc__, ("growth",), orders=400_000).parse_args()
    history, _ = scale.write_orders(options.folder / f"orders_{options.orders}", options.orders)
    home = options.folder / f"growing_{options.orders}"
    scale.make_home(home, history)
    scale.land(home)
    staged = (transform.STAGES["staging"], transform.STAGES["intermediate"])
    scale.run_models(home, scale.ONE, staged)
    warehouse = scale.settings_of(home).paths.warehouse
    built = warehouse.stat().st_size / 2**20
    untouched = warehouse.with_suffix(".before")
    shutil.copyfile(warehouse, untouched)
    kept = night_after_night(home, drops=True)
    shutil.copyfile(untouched, warehouse)
    whole = night_after_night(home, drops=False)
    shutil.rmtree(home)
    write_results(
        "growth",
        f"A warehouse of {options.orders:,} orders, week after week",
        f"python -m benchmarks.growth --orders {options.orders:_}",
        [Growth(built, kept, whole)],
        f"A training and seven nights a week. Kept are {FeatureSettings().keep_nights} nights, "
        "the last of each month and what the newest training has built, as by "
        "default; beside it what became of the same weeks if nothing was dropped.",
        options.results,
    )


if __name__ == "__main__":
    main()
