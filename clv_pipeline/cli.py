"""The `clv` command. Each verb calls one function or one Dagster job; errors are sentences."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clv_pipeline.settings import CONFIG_NAME, Settings, load_settings
from clv_pipeline.timeline import Cutoff, daily_cutoffs

if TYPE_CHECKING:
    pass

CONFIG_VARIABLE = "CLV_CONFIG"
Command = Callable[..., Any]


def read_cutoff(ctx: click.Context, param: click.Parameter, value: str | None) -> Cutoff | None:
    """Read a day as YYYY-MM-DD."""
    try:
        return None if value is None else Cutoff.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def example(text: str) -> str:
    """Return an epilog that keeps its line breaks."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in text.splitlines())


def with_project(command: Command) -> Command:
    """Give a command --config, and the settings as its first argument."""

    @click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="clv.toml or the folder that holds it.  [default: $CLV_CONFIG, or here]",
    )
    @wraps(command)
    def run(config: Path | None, **arguments: Any) -> Any:
        return command(open_project(config), **arguments)

    return run


def open_project(config: Path | None) -> Settings:
    """Read the settings, and let whatever this process starts read the same ones."""
    settings = load_settings(config)
    named = config or Path(os.environ.get(CONFIG_VARIABLE, "."))
    file = named / CONFIG_NAME if named.is_dir() else named
    os.environ[CONFIG_VARIABLE] = str(file.resolve())
    return settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="clv-pipeline", prog_name="clv")
@click.option("--debug", is_flag=True, help="Show where in the code an error came from.")
def cli(debug: bool) -> None:
    """Say what each customer is worth from here on, and what to do about it."""


@cli.command(epilog=example("clv init data/orders-*.csv data/users.parquet"))
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


@cli.command(epilog=example("clv doctor\nclv doctor --cutoff 1998-06-30"))
@click.option(
    "--cutoff",
    metavar="DATE",
    callback=read_cutoff,
    help="Day for which scores are wanted, to judge how fresh the data are.",
)
@with_project
def doctor(settings: Settings, cutoff: Cutoff | None) -> None:
    """Say whether the data can carry a model; exit code 1 when they can't."""
    from clv_pipeline.ingest.doctor import examine

    report = examine(settings, cutoff)
    click.echo(str(report))
    sys.exit(0 if report.can_train else 1)


@cli.command(epilog=example("clv run\nclv run --cutoff 1998-06-30 --no-train"))
@click.option(
    "--cutoff",
    metavar="DATE",
    callback=read_cutoff,
    help="Day up to which the past is known.  [default: the last day with data]",
)
@click.option(
    "--train/--no-train",
    default=None,
    help="Train a challenger first.  [default: when there is no champion]",
)
@with_project
def run(settings: Settings, cutoff: Cutoff | None, train: bool | None) -> None:
    """Land what is new, score every customer as of a cutoff, and publish."""
    from clv_pipeline.orchestration import commands

    with open_runner(settings) as runner:
        commands.run(runner, cutoff, train)


@cli.command(epilog=example("clv train --cutoff 1998-06-30"))
@click.option(
    "--cutoff",
    metavar="DATE",
    callback=read_cutoff,
    help="Day to train for.  [default: last day with data]",
)
@with_project
def train(settings: Settings, cutoff: Cutoff | None) -> None:
    """Train a challenger; the gate decides whether it becomes the champion."""
    from clv_pipeline.orchestration import commands

    with open_runner(settings) as runner:
        commands.train(runner, cutoff)


@cli.command(epilog=example("clv tune --budget-seconds 600\nclv tune --by cohort --search grid"))
@click.option(
    "--cutoff",
    metavar="DATE",
    callback=read_cutoff,
    help="Day whose training cutoffs are searched on.  [default: last day with data]",
)
@click.option(
    "--by",
    type=click.Choice(["time", "cohort"]),
    default="time",
    show_default=True,
    help="Judge on later cutoffs, or on customers of other first-order months.",
)
@click.option(
    "--search",
    "method",
    type=click.Choice(["bayes", "random", "grid"]),
    default="bayes",
    show_default=True,
    help="How the next trial is chosen.",
)
@click.option(
    "--budget-seconds",
    type=click.FloatRange(1, 86_400),
    default=300.0,
    show_default=True,
    help="No trial begins later.",
)
@click.option("--features", "select_features", is_flag=True, help="Find features that can go, too.")
@click.option("--horizon", type=int, help="Days to search for.  [default: the churn horizon]")
@with_project
def tune(
    settings: Settings,
    cutoff: Cutoff | None,
    by: str,
    method: str,
    budget_seconds: float,
    select_features: bool,
    horizon: int | None,
) -> None:
    """Search for better settings of [model]; write them beside the data, to be copied by hand."""
    from clv_pipeline.orchestration.tables_view import print_frame
    from clv_pipeline.orchestration.tuning import tune as search

    found = search(
        settings,
        cutoff,
        by=by,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        budget_seconds=budget_seconds,
        select_features=select_features,
        horizon_days=horizon,
        tell=lambda line: click.echo(line, err=True),
    )
    print_frame(found.trials.head(10), title=f"The best trials over {found.horizon_days} days")
    click.echo(f"{found.toml}\nWrote {found.file}. Copy what convinces you into clv.toml.")


@cli.command(epilog=example("clv backfill 1998-06-01 1998-06-30"))
@click.argument("first", metavar="FROM", callback=read_cutoff)
@click.argument("last", metavar="TO", callback=read_cutoff)
@with_project
def backfill(settings: Settings, first: Cutoff, last: Cutoff) -> None:
    """Score and publish every day FROM .. TO, both included."""
    from clv_pipeline.orchestration import commands

    cutoffs = daily_cutoffs(first, last)
    with open_runner(settings) as runner:
        commands.backfill(runner, cutoffs)


@cli.command(epilog=example("clv demo\nclv demo --dataset shop --customers 5000"))
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
        commands.show_answer(runner, folder)


@cli.command(epilog=example("clv status"))
@with_project
def status(settings: Settings) -> None:
    """Say how fresh the tables are, how the last runs ended and which checks failed."""
    from clv_pipeline.orchestration.status import describe_status

    for line in describe_status(settings):
        click.echo(line)


@cli.command(
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


@cli.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
    epilog=example("clv dbt -- ls --resource-type model\nclv dbt -- docs generate"),
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True)
@with_project
def dbt(settings: Settings, arguments: tuple[str, ...]) -> None:
    """Run dbt in the project as installed for this folder, with its settings."""
    from clv_pipeline.orchestration.commands import run_dbt_command

    sys.exit(run_dbt_command(settings, arguments))


@cli.command(epilog=example("clv dev --port 3001"))
@click.option("--port", type=click.IntRange(1, 65_535), default=3000, show_default=True)
@with_project
def dev(settings: Settings, port: int) -> None:
    """Open the Dagster UI on 127.0.0.1, with the daemon that runs schedules and the sensor."""
    from clv_pipeline.orchestration.commands import prepare_dev

    workspace = str(prepare_dev(settings))
    program = str(Path(sys.executable).parent / "dagster")
    command = [program, "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(port)]
    click.echo(f"The UI opens on http://127.0.0.1:{port} in a moment; Ctrl+C ends it.")
    if os.name == "posix":
        # Signals reach Dagster itself when it takes this process's place; a shell starts what runs
        # in the background deaf to interrupts, and Dagster would then be deaf to all.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.execv(program, command)  # noqa: S606
    sys.exit(subprocess.call(command))  # noqa: S603


@cli.command(epilog=example("clv serve\ncurl http://127.0.0.1:8000/customers/00001"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8000, show_default=True)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes."
)
@with_project
def serve(settings: Settings, host: str, port: int, workers: int) -> None:
    """Answer over HTTP: features and values by id, and predictions for new orders.

    What is published while it runs is served from then on. /docs describes the requests.
    """
    from clv_pipeline.serving.running import run_server

    run_server(settings, host, port, workers)


@cli.group(epilog=example("clv models list\nclv models rollback"))
def models() -> None:
    """List the trained models, choose the one that serves."""


@models.command("list", epilog=example("clv models list"))
@with_project
def list_models(settings: Settings) -> None:
    """List every version with its figures; the champion is marked."""
    from clv_pipeline.orchestration.tables_view import print_frame
    from clv_pipeline.orchestration.versions import list_versions

    versions = list_versions(settings)
    if versions.empty:
        click.echo("No model has been trained yet: `clv train` trains one.")
        return
    print_frame(versions)


@models.command(epilog=example("clv models promote 19980630-1a2b3c4d"))
@click.argument("version")
@with_project
def promote(settings: Settings, version: str) -> None:
    """Let VERSION serve from the next run on."""
    from clv_pipeline.orchestration.versions import promote_version

    promote_version(settings, version)
    click.echo(f"{version} serves from the next run on.")


@models.command(epilog=example("clv models rollback"))
@with_project
def rollback(settings: Settings) -> None:
    """Let the champion before the present one serve again."""
    from clv_pipeline.orchestration.versions import roll_back

    click.echo(f"{roll_back(settings)} serves from the next run on.")


@cli.group(epilog=example("clv features list\nclv features useless"))
def features() -> None:
    """List the features, say what each brings, find those that cost time for nothing."""


@features.command("list", epilog=example("clv features list"))
@with_project
def list_features(settings: Settings) -> None:
    """List every feature with its owner, version, tags, and how it was in the newest run."""
    from clv_pipeline.orchestration import feature_review
    from clv_pipeline.orchestration.tables_view import print_frame

    print_frame(feature_review.list_features(settings))


HORIZON = click.option(
    "--horizon",
    type=click.IntRange(1, 3650),
    help="Days of the value that is predicted.  [default: the longest that can be tested]",
)


@features.command(epilog=example("clv features importance --horizon 90"))
@HORIZON
@with_project
def importance(settings: Settings, horizon: int | None) -> None:
    """Say how much worse customers are ranked when a view or a feature is shuffled.

    On the newest past cutoff, by a model of the champion's recipe that had not seen it. Builds the
    features of that cutoff once more, to measure what each view costs.
    """
    from clv_pipeline.orchestration.tables_view import print_frame

    review = open_review(settings, horizon)
    shown = ["loss", "spread", "seconds"]
    print_frame(review.views[["name", "features", *shown, "is_useful"]])
    print_frame(review.features[["name", "view", *shown, "is_useful"]])


@features.command(epilog=example("clv features useless"))
@HORIZON
@with_project
def useless(settings: Settings, horizon: int | None) -> None:
    """List the features that cost time and bring nothing, whole views first."""
    from clv_pipeline.orchestration.tables_view import print_frame

    found = open_review(settings, horizon).useless
    if found.empty:
        click.echo("Every feature brings something.")
        return
    print_frame(found[["drop", "name", "view", "seconds", "loss", "spread"]])


@features.command(epilog=example("clv features export --feast feature_repo"))
@click.option(
    "--feast",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the Feast repository to write.",
)
@with_project
def export(settings: Settings, folder: Path) -> None:
    """Write entities, views, services and every snapshot for those who run Feast."""
    from clv_pipeline.serving.feast_repository import export_repository

    done = export_repository(settings, folder)
    click.echo(
        f"Wrote {done.rows:,} rows, {len(done.views)} feature views and {len(done.services)} "
        f"feature services to {folder}. Next: cd {folder} && feast apply"
    )


def open_review(settings: Settings, horizon: int | None) -> Any:
    """Review the features, and say on what."""
    from clv_pipeline.orchestration.environment import prepare_environment
    from clv_pipeline.orchestration.feature_review import review_features

    prepare_environment(settings)
    review = review_features(settings, horizon)
    click.echo(
        f"Loss of normalized Gini over {review.horizon_days} days as of {review.evaluation} when "
        f"features of {review.service} are shuffled; seconds are dbt's for a view and one cutoff."
    )
    return review


def open_runner(settings: Settings) -> Any:
    """Open what runs jobs, and hold the run lock meanwhile."""
    from clv_pipeline.orchestration.environment import prepare_environment

    prepare_environment(settings)
    from clv_pipeline.orchestration.commands import hold_runner

    return hold_runner(settings)


def main() -> None:
    """Run the command; an error is a sentence and exit code 1."""
    from clv_pipeline.orchestration.environment import prepare_process

    prepare_process()
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        _complain("Stopped.")
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _complain(error.format_message())
    except KeyboardInterrupt:
        _complain("Stopped. What was published before stays.")
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _complain(describe_error(error))


def describe_error(error: Exception) -> str:
    """Turn an error into a sentence; those of this project are sentences already."""
    if type(error).__module__.partition(".")[0] in ("clv_pipeline", "data_quality"):
        return str(error)
    return (
        f"Something went wrong that should not: {type(error).__name__}: {error}. "
        "`clv --debug ...` shows where."
    )


def _complain(text: str) -> None:
    click.echo(text, err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
