"""The verbs that start jobs: run, train, backfill."""

from __future__ import annotations

import click

from clv_pipeline.cli.base import cutoff_option, example, open_runner, read_cutoff, with_project
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff, daily_cutoffs


@click.command(epilog=example("clv run\nclv run --cutoff 1998-06-30 --no-train"))
@cutoff_option("Day up to which the past is known.  [default: the last day with data]")
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


@click.command(epilog=example("clv train --cutoff 1998-06-30"))
@cutoff_option("Day to train for.  [default: last day with data]")
@with_project
def train(settings: Settings, cutoff: Cutoff | None) -> None:
    """Train a challenger; the gate decides whether it becomes the champion."""
    from clv_pipeline.orchestration import commands

    with open_runner(settings) as runner:
        commands.train(runner, cutoff)


@click.command(epilog=example("clv backfill 1998-06-01 1998-06-30"))
@click.argument("first", metavar="FROM", callback=read_cutoff)
@click.argument("last", metavar="TO", callback=read_cutoff)
@with_project
def backfill(settings: Settings, first: Cutoff, last: Cutoff) -> None:
    """Score and publish every day FROM .. TO, both included."""
    from clv_pipeline.orchestration import commands

    cutoffs = daily_cutoffs(first, last)
    with open_runner(settings) as runner:
        commands.backfill(runner, cutoffs)
