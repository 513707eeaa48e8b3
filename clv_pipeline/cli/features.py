"""The group of verbs about features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clv_pipeline.cli.base import example, with_project
from clv_pipeline.settings import Settings


@click.group(epilog=example("clv features list\nclv features useless"))
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
