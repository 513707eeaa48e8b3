"""The `clv` command. Each verb calls one function or one Dagster job; errors are sentences."""

from __future__ import annotations

import sys

import click

from clv_pipeline.cli import features, models, projects, runs, services


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="clv-pipeline", prog_name="clv")
@click.option("--debug", is_flag=True, help="Show where in the code an error came from.")
def cli(debug: bool) -> None:
    """Say what each customer is worth from here on, and what to do about it."""


for command in (
    projects.init,
    projects.doctor,
    runs.run,
    runs.train,
    models.tune,
    runs.backfill,
    projects.demo,
    projects.status,
    projects.sql,
    projects.dbt,
    services.dev,
    services.serve,
    models.models,
    features.features,
):
    cli.add_command(command)


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
