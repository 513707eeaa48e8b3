"""Does landing take more memory for a longer file? One file of a million rows, of three, of nine.

    python -m benchmarks.landing --runs 1
    python -m benchmarks.landing --runs 1 --only csv

The orders are those of `benchmarks.scale`, in one Parquet file or one CSV file. DuckDB fills its
buffers up to its limit whatever it does, so the limit is low here: what grows beyond it shows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks import scale
from benchmarks.measuring import Table, arguments_of, measure, write_results
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.warehouse import hold_run_lock, open_database, quote_literal

SHARES = (1 / 9, 1 / 3, 1.0)
LIMIT = "512MB"
FORMATS = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER"}


def settings_of(home: Path, kind: str) -> Settings:
    """Return the settings of a project that lands one file."""
    return build_settings(
        home,
        {
            "project": {"time_zone": "Europe/Berlin", "reporting_currency": "EUR"},
            "inputs": {"transactions": {"files": [f"orders.{kind}"]}},
            "engine": {"memory_limit": LIMIT, "threads": 2},
        },
    )


def write_file(path: Path, history: Path, rows: int) -> None:
    """Write the first rows of a history into one file."""
    path.parent.mkdir(parents=True)
    source = quote_literal(f"{history}/*.parquet")
    with open_database() as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_parquet({source}) LIMIT {rows}) "
            f"TO {quote_literal(str(path))} ({FORMATS[path.suffix[1:]]})"
        )


def land(home: Path, kind: str) -> int:
    """Land the file; return how many rows it had."""
    settings = settings_of(home, kind)
    with hold_run_lock(settings):
        return land_inputs(settings, "benchmark").inputs["transactions"].new.count_in


def main() -> None:
    """Measure, print the table and write it."""
    options = arguments_of(__doc__, tuple(FORMATS), orders=10_000_000).parse_args()
    history, _ = scale.write_orders(options.folder / f"orders_{options.orders}", options.orders)
    home, tables = options.folder / "one_file", []
    for kind in options.only:
        table = Table(f"One {kind} file", against=None)
        shutil.rmtree(home, ignore_errors=True)
        for share in SHARES:
            rows = int(options.orders * 0.9 * share)
            write_file(home / str(rows) / f"orders.{kind}", history, rows)
            found = measure(f"{rows:,} rows", land, home / str(rows), kind, runs=options.runs)
            first = table.lines[0][0] if table.lines else found
            times = found.peak_bytes / first.peak_bytes
            table.add(found, first.name, note=f"{times:.2f} times the memory of the shortest")
            shutil.rmtree(home / str(rows))
        tables.append(table)
    write_results(
        "landing",
        "Landing one long file",
        f"python -m benchmarks.landing --orders {options.orders:_} --runs {options.runs}",
        tables,
        f"DuckDB may use {LIMIT}; the peak is that of the whole process.",
        options.results,
    )


if __name__ == "__main__":
    main()
