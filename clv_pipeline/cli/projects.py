"""The verbs that begin a project and look at it: init, doctor, demo, status, sql, dbt."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from clv_pipeline.cli.base import (
    cutoff_option,
    example,
    open_project,
    open_runner,
    with_project,
)
from clv_pipeline.settings import CONFIG_NAME, Settings
from clv_pipeline.timeline import Cutoff

# Asked before a run puts this environment's programs in the way.
_IS_FOUND = shutil.which("clv") is not None


@click.command(epilog=example("clv init data/orders-*.csv data/users.parquet"))
@click.argument("files", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Replace a clv.toml that is there.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path(), help="Where to write it."
)
def init(files: tuple[str, ...], force: bool, folder: Path) -> None:
    """Look at FILES and write a commented clv.toml with the best guess."""
    from clv_pipeline.ingest.inspect import propose_config
    from clv_pipeline.warehouse import write_atomically

    target = folder / CONFIG_NAME
    if target.exists() and not force:
        raise click.ClickException(f"{target} is there already; --force replaces it.")
    text = propose_config([Path(file) for file in files], folder)
    write_atomically(target, text.encode())
    click.echo(f"Wrote {target}. Read it, correct what is wrong, then run `clv doctor`.")


@click.command(epilog=example("clv doctor\nclv doctor --cutoff 1998-06-30"))
@cutoff_option("Day for which scores are wanted, to judge how fresh the data are.")
@with_project
def doctor(settings: Settings, cutoff: Cutoff | None) -> None:
    """Say whether the data can carry a model; exit code 1 when they can't."""
    from clv_pipeline.ingest.doctor import examine

    report = examine(settings, cutoff, received_at=datetime.now(UTC))
    click.echo(str(report))
    sys.exit(0 if report.can_train else 1)


@click.command(epilog=example("clv demo\nclv demo --dataset shop --customers 5000"))
@click.option("--dataset", type=click.Choice(["cdnow", "shop"]), default="cdnow", show_default=True)
@click.option(
    "--customers",
    type=click.IntRange(200, 1_000_000),
    default=3000,
    show_default=True,
    help="Size of the simulated shop.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("clv_demo"),
    show_default=True,
    help="Everything is written here.",
)
@click.option("--prepare-only", is_flag=True, help="Write data and clv.toml, run nothing.")
def demo(dataset: str, customers: int, folder: Path, prepare_only: bool) -> None:
    """Run the main job on bundled real data (cdnow) or on a simulated shop."""
    from clv_pipeline.orchestration import commands
    from clv_pipeline.orchestration.demo import prepare_demo

    prepare_demo(folder, dataset, customers)
    if prepare_only:
        click.echo(f"The data and clv.toml are in {folder}.")
        return
    settings = open_project(folder)
    with open_runner(settings) as runner:
        commands.run(runner, None, None)
        clv = "clv" if _IS_FOUND else os.path.relpath(sys.argv[0], folder)
        commands.show_answer(runner, folder, clv)


@click.command(epilog=example("clv status"))
@with_project
def status(settings: Settings) -> None:
    """Say how fresh the tables are, how the last runs ended and which checks failed."""
    from clv_pipeline.orchestration.status import describe_status

    for line in describe_status(settings):
        click.echo(line)


@click.command(
    epilog=example('clv sql "SELECT segment, count(*) FROM customer_clv GROUP BY ALL ORDER BY 2"')
)
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Print every row as CSV.")
@click.option(
    "--rows", type=click.IntRange(1, 100_000), default=40, show_default=True, help="Rows to show."
)
@with_project
def sql(settings: Settings, query: str, as_csv: bool, rows: int) -> None:
    """Ask the published tables, which can't be changed by it."""
    from clv_pipeline.orchestration.tables_view import print_query

    print_query(settings, query, as_csv=as_csv, rows=rows)


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
    epilog=example("clv dbt -- ls --resource-type model\nclv dbt -- docs generate"),
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True)
@with_project
def dbt(settings: Settings, arguments: tuple[str, ...]) -> None:
    """Run dbt in the project as installed for this folder, with its settings."""
    from clv_pipeline.orchestration.commands import run_dbt_command

    sys.exit(run_dbt_command(settings, arguments))
