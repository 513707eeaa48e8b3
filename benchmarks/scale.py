"""What the data side costs, from files to features, as orders grow.

Orders come from the simulated shop: heavy-tailed, 20 a customer, a file per month in which they
arrived, 5 % of the rows refunds, 2 % late; the last day is a file of its own, the night's. A memory
limit of 4 GB is set for DuckDB.

    python -m benchmarks.scale                                   a million orders, every question
    python -m benchmarks.scale --orders 10_000_000 --runs 1
    python -m benchmarks.scale --only landing,day_added

Questions: landing, staging, days (each builds history once more), day_added (a night through all
three), one_cutoff and twelve_cutoffs (as-of tables and features), peers (RFM and windows from raw
files by DuckDB, polars and pandas, and by our models from the daily table), rfm (the summaries of
lifetimes and pymc-marketing).
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import peers
from benchmarks.measuring import (
    Measured,
    Table,
    Timed,
    arguments_of,
    is_installed,
    measure,
    write_results,
)
from benchmarks.watching import folder_bytes, watch_folder
from clv_pipeline import dbt_project, transform
from clv_pipeline.drawing import NOBODY_DRAWN, Draw, plan_draw, share_of
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.ingest.shop.benchmark import write_orders_parquet
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import hold_run_lock, open_warehouse, read_row

QUESTIONS = (
    "landing", "staging", "days", "day_added", "one_cutoff", "twelve_cutoffs", "peers", "rfm",
)  # fmt: skip
LAST_DAY = date(2024, 12, 31)
# When its night begins in the shop's time zone.
NIGHT = datetime(2024, 12, 30, 23, tzinfo=UTC)
ONE = (Cutoff(LAST_DAY),)
TWELVE = tuple(Cutoff(LAST_DAY - timedelta(days=30 * k)) for k in range(12, 0, -1))
# Libraries whose summary for buy-till-you-die models is measured where they are installed.
RFM_PEERS = {"lifetimes": "lifetimes.utils", "pymc_marketing": "pymc_marketing.clv.utils"}
DAY_MODELS = ("int_customer_days", "int_customer_day_items", "int_customer_day_places")


def settings_of(home: Path) -> Settings:
    """Return the settings of one benchmark's project."""
    return build_settings(
        home,
        {
            "project": {"time_zone": "Europe/Berlin", "reporting_currency": "EUR"},
            "inputs": {"transactions": {"files": ["orders/*.parquet"]}},
            "engine": {"memory_limit": "4GB", "threads": os.cpu_count() or 1},
        },
    )


def write_orders(folder: Path, orders: int) -> tuple[Path, Path]:
    """Write a history, file by file, and the night that follows it, where they are missing.

    Returns
    -------
    tuple of Path
        The history's folder and the night's file.
    """
    night = folder / "night.parquet"
    if night.exists():
        return folder / "history", night
    shutil.rmtree(folder, ignore_errors=True)
    files = write_orders_parquet(folder / "history", orders)
    table = pq.read_table(files[-1])
    # The columns of every file keep the types that the shop wrote.
    is_night = pc.greater_equal(table["ingested_at"], pa.scalar(NIGHT, pa.timestamp("us", "UTC")))
    for file, rows in ((night, is_night), (files[-1], pc.invert(is_night))):
        pq.write_table(table.filter(rows), file, compression="zstd")
    return folder / "history", night


def make_home(home: Path, history: Path) -> None:
    """Make an empty project that reads the history."""
    shutil.rmtree(home, ignore_errors=True)
    (home / "orders").mkdir(parents=True)
    for file in history.glob("*.parquet"):
        (home / "orders" / file.name).symlink_to(file.resolve())


def land(home: Path) -> dict[str, Any]:
    """Land what has not landed."""
    settings = settings_of(home)
    with hold_run_lock(settings), watch_folder(settings.paths.home) as disk:
        report = land_inputs(settings, "benchmark", progress=_say).inputs["transactions"]
    return {"rows": report.new.count_in, "disk": disk.peak_bytes}


def _say(text: str) -> None:
    print(f"    {text}", file=sys.stderr, flush=True)


def run_models(
    home: Path, cutoffs: Sequence[Cutoff], models: Sequence[str], draw: Draw = NOBODY_DRAWN
) -> Timed:
    """Build models; the time is dbt's, of the models alone, on one thread after the other."""
    settings = settings_of(home)
    variables = dbt_project.dbt_variables(settings, cutoffs, ONE[0], "benchmark", draw)
    transform.run_dbt(settings, ["parse"], variables)
    began = time.perf_counter()
    selected = [part for model in models for part in ("--select", model)]
    with watch_folder(settings.paths.home) as disk:
        results = transform.run_dbt(settings, ["run", *selected, "--threads", "1"], variables)
    wall = time.perf_counter() - began
    seconds = {result.node.split(".")[-1]: result.seconds for result in results}
    return Timed(sum(seconds.values()), {"wall": wall, "models": seconds, "disk": disk.peak_bytes})


def learn_from(home: Path, cutoffs: Sequence[Cutoff], models: Sequence[str]) -> Timed:
    """Build cutoffs as a training does: of so many customers as a panel holds."""
    settings = settings_of(home)
    began = time.perf_counter()
    draw = plan_draw(settings, cutoffs, ONE[0])
    planned = time.perf_counter() - began
    built = run_models(home, cutoffs, models, draw)
    with open_warehouse(settings, read_only=True) as connection:
        (rows,) = read_row(connection, "SELECT count(*) FROM features.customer_features")
    share = share_of(draw.halvings)
    return Timed(planned + built.seconds, {**built.answer, "share": share, "rows": rows})


def drop(home: Path, *schemas: str) -> None:
    """Forget what was built."""
    with open_warehouse(settings_of(home)) as connection:
        for schema in schemas:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def add_night(home: Path, night: Path, kept: Path | None) -> None:
    """Put the warehouse back to before the night, unless it is the only one, and add its file."""
    warehouse = settings_of(home).paths.warehouse
    if kept is not None:
        if not kept.exists():
            shutil.copyfile(warehouse, kept)
        shutil.copyfile(kept, warehouse)
    target = home / "orders" / "zz_night.parquet"
    target.unlink(missing_ok=True)
    target.symlink_to(night.resolve())


def add_day(home: Path) -> Timed:
    """Land the night's file, stage it, and take it into the daily tables."""
    began = time.perf_counter()
    answer = land(home)
    landed = time.perf_counter() - began
    built = run_models(home, ONE, (transform.STAGES["staging"], *DAY_MODELS, "int_account_owners"))
    return Timed(landed + built.seconds, {**answer, "landing": landed, **built.answer})


def tell(found: Measured) -> str:
    """Say what a day cost, by part."""
    models = found.answer["models"]
    parts = {"landing": found.answer["landing"], **{n: models[n] for n in DAY_MODELS}}
    parts["stg_transactions"] = models["stg_transactions"]
    told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
    return f"{found.answer['rows']:,} rows; {told}"


def measure_history(
    home: Path, history: Path, night: Path, only: Sequence[str], runs: int
) -> Table:
    """Measure landing, staging, days, and a day added to them."""
    table = Table("History, and a night", against="landing, staging and days of all history")
    found = [
        measure("landing", land, home, runs=runs, prepare=partial(make_home, home, history)),
        measure(
            "staging",
            run_models,
            home,
            ONE,
            (transform.STAGES["staging"],),
            runs=runs,
            prepare=partial(drop, home, "intermediate", "staging"),
        ),
        measure(
            "days",
            run_models,
            home,
            ONE,
            (*DAY_MODELS, "int_account_owners", "int_event_days"),
            runs=runs,
            prepare=partial(drop, home, "intermediate"),
        ),
    ]
    rows = found[0].answer["rows"]
    size = folder_bytes(settings_of(home).paths.home) / 2**20
    notes = [f"{rows:,} rows; {folder_bytes(history) / 2**20:,.0f} MiB of Parquet", "", ""]
    notes[2] = f"the warehouse has {size:,.0f} MiB"
    for one, note in zip(found, notes, strict=True):
        if one.name in only:
            disk = f"at most {one.answer['disk'] / 2**20:,.0f} MiB of disk"
            table.add(one, note="; ".join(filter(None, (note, disk))))
    whole = Measured(
        "landing, staging and days of all history",
        (sum(one.median for one in found),),
        max(one.peak_bytes for one in found),
    )
    table.add(whole, note="the sum of the three")
    if "day_added" in only:
        kept = home / "before_night.duckdb" if runs > 1 else None
        day = measure(
            "a day added", add_day, home, runs=runs, prepare=partial(add_night, home, night, kept)
        )
        table.add(day, note=tell(day))
        if kept is not None:
            kept.unlink()
    return table


def measure_features(home: Path, history: Path, only: Sequence[str], runs: int) -> Table:
    """Measure the as-of tables and features of one and of twelve cutoffs, and peers."""
    table = Table("Features", against="the plain scan of the amounts")
    scan = measure("the plain scan of the amounts", peers.scan_amounts, history, runs=runs)
    table.add(scan, note="DuckDB sums the one column of the Parquet files")
    stages = (transform.STAGES["as_of"], transform.STAGES["features"])
    fresh = partial(drop, home, "features", "as_of")
    if "one_cutoff" in only or "twelve_cutoffs" in only:
        one = measure("one cutoff", run_models, home, ONE, stages, runs=runs, prepare=fresh)
        table.add(one, note=slowest(one))
    if "twelve_cutoffs" in only:
        name = "twelve cutoffs to learn from, 30 days apart"
        many = measure(name, learn_from, home, TWELVE, stages, runs=runs, prepare=fresh)
        held = f"{many.answer['rows']:,} rows, {many.answer['share']:.3%} of the customers"
        table.add(many, against="one cutoff", note=f"{held}; {slowest(many)}")
    if "peers" in only:
        wanted = ("customer_spine", "customer_history", "feat_rfm", "feat_windows")
        ours = "RFM and windows by our models, from the daily table"
        table.add(measure(ours, run_models, home, ONE, wanted, runs=runs, prepare=fresh))
        for library in ("duckdb", "polars", "pandas"):
            if is_installed(library):
                label = "DuckDB" if library == "duckdb" else library
                name = f"RFM and windows by {label}, from raw files"
                function = getattr(peers, f"features_by_{library}")
                table.add(measure(name, function, history, LAST_DAY, runs=runs), against=ours)
    return table


def measure_rfm(home: Path, history: Path, runs: int) -> Table:
    """Measure RFM alone beside the summary of a library for buy-till-you-die models."""
    ours = "customer_history, from the daily table"
    table = Table("RFM alone", against=ours)
    wanted = ("customer_spine", "customer_history")
    fresh = partial(drop, home, "features", "as_of")
    table.add(measure(ours, run_models, home, ONE, wanted, runs=runs, prepare=fresh))
    for library, module in RFM_PEERS.items():
        if is_installed(library):
            name = f"{library.replace('_', '-')}'s summary, from raw files"
            function = getattr(peers, f"rfm_by_{library}")
            imported = partial(importlib.import_module, module)
            table.add(measure(name, function, history, LAST_DAY, runs=runs, prepare=imported))
    return table


def name_missing(only: Sequence[str]) -> str:
    """Say which peers of the RFM table are not installed, and so not in it."""
    missing = [name for name in RFM_PEERS if "rfm" in only and not is_installed(name)]
    names = " and ".join(name.replace("_", "-") for name in missing)
    return f" Not installed, so not measured: {names}." if names else ""


def slowest(found: Measured) -> str:
    """Say which models took longest."""
    models = sorted(found.answer["models"].items(), key=lambda item: -item[1])[:4]
    return "slowest: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in models)


def main() -> None:
    """Measure, print tables and write them."""
    parser = arguments_of(__doc__, QUESTIONS)
    options = parser.parse_args()
    folder, only = options.folder, options.only
    history, night = write_orders(folder / f"orders_{options.orders}", options.orders)
    home = folder / f"home_{options.orders}"
    tables = []
    if {"landing", "staging", "days", "day_added"} & set(only):
        tables.append(measure_history(home, history, night, only, options.runs))
    elif not settings_of(home).paths.warehouse.exists():
        make_home(home, history)
        land(home)
        run_models(home, ONE, (transform.STAGES["staging"], transform.STAGES["intermediate"]))
    if {"one_cutoff", "twelve_cutoffs", "peers"} & set(only):
        tables.append(measure_features(home, history, only, options.runs))
    if "rfm" in only:
        tables.append(measure_rfm(home, history, options.runs))
    chosen = "" if only == QUESTIONS else f" --only {','.join(only)}"
    write_results(
        f"scale_{options.orders}",
        f"From files to features: {options.orders:,} orders",
        f"python -m benchmarks.scale --orders {options.orders:_} --runs {options.runs}{chosen}",
        tables,
        "Simulated orders, 20 a customer. Times of models are dbt's own, one model after the "
        "other; starting dbt is not in them. DuckDB may use 4 GB." + name_missing(only),
        options.results,
    )


if __name__ == "__main__":
    main()
