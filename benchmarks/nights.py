"""What the night after a long history costs, until its features are there.

    python -m benchmarks.nights                                    a million orders
    python -m benchmarks.nights --orders 100_000_000 --runs 2      onto what benchmarks.scale built

History is that of `benchmarks.scale`, built first where it is not there. Each run delivers the last
day's rows once more, a day later and under new ids; of every twentieth id the row stays what it
was, and so restates an order. Then the features of one cutoff are built: those of the day before,
into empty tables, and beside them those of the night.
"""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from pathlib import Path

from benchmarks import scale
from benchmarks.measuring import Table, Timed, arguments_of, measure, write_results
from clv_pipeline import transform
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_database, quote_literal

THE_DAY_BEFORE = (Cutoff(scale.LAST_DAY - timedelta(days=1)),)
HISTORY = (transform.STAGES["staging"], *scale.DAY_MODELS, "int_account_owners", "int_event_days")


def build(home: Path, history: Path) -> Timed:
    """Land and build a history."""
    scale.make_home(home, history)
    began = time.perf_counter()
    scale.land(home)
    landed = time.perf_counter() - began
    return Timed(landed + scale.run_models(home, scale.ONE, HISTORY).seconds)


def deliver(home: Path, night: Path) -> None:
    """Write the file of one night more."""
    names = {number: home / "orders" / f"zz_night_{number}.parquet" for number in range(1, 1_000)}
    number, target = next(item for item in names.items() if not item[1].exists())
    with open_database() as connection:
        connection.execute(
            "COPY (SELECT * REPLACE (CASE WHEN hash(transaction_id) % 20 = 0 THEN transaction_id "
            f"ELSE '{number}-' || transaction_id END AS transaction_id, "
            f"ts + INTERVAL {number} DAY AS ts, "
            f"ingested_at + INTERVAL {number} DAY AS ingested_at) "
            f"FROM read_parquet({quote_literal(str(night))})) "
            f"TO {quote_literal(str(target))} (FORMAT parquet)"
        )


def main() -> None:
    """Measure, print the table and write it."""
    options = arguments_of(__doc__, ("nights",)).parse_args()
    history, night = scale.write_orders(options.folder / f"orders_{options.orders}", options.orders)
    home = options.folder / f"home_{options.orders}"
    whole = "landing, staging and days of all history"
    table = Table("A night", against=whole)
    if not scale.settings_of(home).paths.warehouse.exists():
        table.add(measure(whole, build, home, history, runs=1))
    added = measure(
        "a night: landing, staging, days",
        scale.add_day,
        home,
        runs=options.runs,
        prepare=partial(deliver, home, night),
    )
    table.add(added, note=scale.tell(added))
    stages = ("int_event_days", transform.STAGES["as_of"], transform.STAGES["features"])
    first = measure(
        "one cutoff, the first",
        scale.run_models,
        home,
        THE_DAY_BEFORE,
        stages,
        runs=1,
        prepare=partial(scale.drop, home, "features", "as_of"),
    )
    table.add(first, note=scale.slowest(first))
    cutoff = measure("one cutoff more", scale.run_models, home, scale.ONE, stages, runs=1)
    table.add(cutoff, against=first.name, note=scale.slowest(cutoff))
    write_results(
        f"nights_{options.orders}",
        f"A night after {options.orders:,} orders",
        f"python -m benchmarks.nights --orders {options.orders:_} --runs {options.runs}",
        [table],
        "Times of models are dbt's own. DuckDB may use 4 GB.",
        options.results,
    )


if __name__ == "__main__":
    main()
