"""The verbs about models: tune, and the group models."""

from __future__ import annotations

import click

from clv_pipeline.cli.base import cutoff_option, example, with_project
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff


@click.command(
    epilog=example(
        "clv tune --budget-seconds 600\n"
        "clv tune --by cohort --search grid\n"
        "clv tune --candidate all --budget-seconds 1800"
    )
)
@cutoff_option("Day whose training cutoffs are searched on.  [default: last day with data]")
@click.option(
    "--candidate",
    default="experts",
    show_default=True,
    help="What to search for: experts (of the ensemble), hurdle, tweedie, poisson, squared, "
    "absolute, ziln, gru; or all, which share the time.",
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
    candidate: str,
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
        candidate=candidate,
        by=by,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        budget_seconds=budget_seconds,
        select_features=select_features,
        horizon_days=horizon,
        tell=lambda line: click.echo(line, err=True),
    )
    print_frame(found.trials.head(10), title=f"The best trials over {found.horizon_days} days")
    click.echo(f"{found.toml}\nWrote {found.file}. Copy what convinces you into clv.toml.")


@click.group(epilog=example("clv models list\nclv models rollback"))
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
