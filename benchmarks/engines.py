"""Do the engines build the same tables? Two whole real shops, on DuckDB and on Spark.

    python -m benchmarks.engines                      # CDNOW and Online Retail II, whole
    python -m benchmarks.engines --shops cdnow

Each shop is landed once, as rows of ``raw``, and its stages from staging to features are built by
both engines at a few cutoffs. Keys, counts, days, texts and decimals must be equal, doubles within
1e-9 of their size; one row is printed for each table. Ends with 1 where anything differs. Needs the
extra `spark` and Java.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from benchmarks.accuracy_shops import CDNOW, RETAIL
from benchmarks.comparing import Pair
from benchmarks.measuring import RESULTS, describe_machine
from clv_pipeline.dbt_project import dbt_variables, packaged_dbt_project
from clv_pipeline.dbt_yaml import SOURCES
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.tables import create_tables
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import STAGES, run_dbt
from clv_pipeline.warehouse import open_warehouse, quote_literal

TABLES = tuple(
    f"{stage}.{path.stem}"
    for stage in STAGES
    if stage != "marts"
    for path in sorted((packaged_dbt_project() / "models" / stage).glob("*.sql"))
)
# Of each shop: time zone, and cutoffs, the last of which is where its data end.
SHOPS: dict[str, tuple[str, tuple[date, ...]]] = {
    "cdnow": ("America/New_York", (date(1997, 9, 30), date(1997, 12, 31), date(1998, 6, 30))),
    "online_retail": ("Europe/London", (date(2010, 6, 30), date(2010, 9, 9), date(2010, 12, 8))),
}
# Both read the same columns of raw.transactions; the other columns and inputs stay empty.
_ROWS = {
    "cdnow": f"""
        SELECT
            customer_id::VARCHAR AS user_id,
            NULL::VARCHAR AS transaction_id,
            NULL::VARCHAR AS sku,
            NULL::VARCHAR AS country,
            false AS is_refund,
            date::TIMESTAMP AS ts,
            amount,
            quantity
        FROM read_csv({quote_literal(str(CDNOW))})""",
    # A line each; what has no price is no sale, and an invoice with a C takes goods back.
    "online_retail": f"""
        SELECT
            CustomerID::BIGINT::VARCHAR AS user_id,
            Invoice AS transaction_id,
            StockCode AS sku,
            Country AS country,
            starts_with(Invoice, 'C') AS is_refund,
            InvoiceDate AS ts,
            round(Quantity * Price, 4) AS amount,
            Quantity AS quantity
        FROM read_parquet({quote_literal(str(RETAIL / "*.parquet"))})
        WHERE Price > 0""",
}


def fill_shop(settings: Settings, shop: str) -> int:
    """Put a shop's lines into ``raw.transactions`` as one delivery; return how many."""
    columns = {c.name: c.kind for c in SOURCES["raw"]["transactions"].columns}
    given = ("user_id", "transaction_id", "sku", "country", "is_refund", "ts", "amount", "quantity")
    chosen = [f"CAST({name} AS {columns[name]}) AS {name}" for name in given]
    chosen += ["0 AS variable_cost", "1 AS _file_id", "row_number() OVER () AS _row_number"]
    with open_warehouse(settings) as connection:
        for schema, tables in SOURCES.items():
            create_tables(connection, schema, tables)
        connection.execute(
            f"INSERT INTO raw.transactions BY NAME SELECT {', '.join(chosen)} FROM ({_ROWS[shop]})"
        )
        answer = connection.execute("SELECT count(*) FROM raw.transactions").fetchall()
    return int(answer[0][0])


def build_stages(settings: Settings, cutoffs: tuple[date, ...]) -> float:
    """Build every stage but the marts, without their tests; return the seconds it took."""
    began = time.perf_counter()
    chosen = [part for stage in STAGES if stage != "marts" for part in ("--select", STAGES[stage])]
    days = [Cutoff(day) for day in cutoffs]
    variables = dbt_variables(settings, days, days[-1], "run")
    run_dbt(settings, ["build", *chosen, "--exclude-resource-type", "test"], variables)
    return time.perf_counter() - began


def compare_shop(shop: str, folder: Path, memory: str) -> tuple[str, bool]:
    """Build one shop on both engines; return a table in Markdown, and whether all are equal."""
    time_zone, cutoffs = SHOPS[shop]
    project = {"time_zone": time_zone, "reporting_currency": "GBP"}
    spark = {"name": "spark", "spark_master": "local[2]", "spark_memory": memory}
    homes, seconds, count = [], [], 0
    for name, engine in {"DuckDB": {}, "Spark": spark}.items():
        home = build_settings(folder / shop / name, {"project": project, "engine": engine})
        count = fill_shop(home, shop)
        seconds.append(build_stages(home, cutoffs))
        homes.append(home)
        print(f"  {shop} on {name}: {count:,} lines, {seconds[-1]:.0f} s", file=sys.stderr)
    days = ", ".join(map(str, cutoffs))
    rows = [
        f"## {shop}: {count:,} lines, cutoffs {days}",
        "",
        f"DuckDB took {seconds[0]:.0f} s, Spark {seconds[1]:.0f} s.",
        "",
        "| table | rows | columns held exactly | doubles | rows that differ |",
        "|---|---:|---:|---:|---|",
    ]
    pair, are_equal = Pair(*(home.paths.warehouse for home in homes)), True
    try:
        for table in TABLES:
            found = pair.differences(table)
            kinds = list(pair.columns("ours", table).values())
            doubles = kinds.count("DOUBLE")
            exact = len(kinds) - doubles - kinds.count("hash")
            told = ", ".join(f"{name}: {count}" for name, count in found.items()) or "none"
            size = pair.count(f"FROM ours.{table}")
            rows.append(f"| {table} | {size:,} | {exact} | {doubles} | {told} |")
            are_equal &= not found
    finally:
        pair.close()
    return "\n".join([*rows, ""]), are_equal


def main() -> None:
    """Compare the shops that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shops", nargs="+", choices=list(SHOPS), default=list(SHOPS))
    parser.add_argument("--memory", default="4g", help="of Spark's driver")
    parser.add_argument("--folder", type=Path, help="where the homes lie, to be looked at later")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        found = [compare_shop(shop, folder, options.memory) for shop in options.shops]
    command = "python -m benchmarks.engines"
    text = "Every table from staging to features, built by DuckDB and by Spark from the same rows."
    parts = ["# The same tables on two engines", "", text, "", describe_machine(), ""]
    page = "\n".join([*parts, *(table for table, _ in found), f"`{command}`", ""])
    print(page)
    if options.shops == list(SHOPS):
        (RESULTS / "engines.md").write_text(page, encoding="utf-8")
    sys.exit(0 if all(are_equal for _, are_equal in found) else 1)


if __name__ == "__main__":
    main()
