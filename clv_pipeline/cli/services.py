"""The verbs that go on until they are stopped: dev and serve."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from clv_pipeline.cli.base import example, with_project
from clv_pipeline.settings import Settings


@click.command(epilog=example("clv dev --port 3001"))
@click.option("--port", type=click.IntRange(1, 65_535), default=3000, show_default=True)
@with_project
def dev(settings: Settings, port: int) -> None:
    """Open the Dagster UI on 127.0.0.1, with the daemon that runs schedules and the sensor."""
    from clv_pipeline.orchestration.commands import prepare_dev

    workspace = str(prepare_dev(settings))
    program = str(Path(sys.executable).parent / "dagster")
    command = [program, "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(port)]
    click.echo(f"The UI opens on http://127.0.0.1:{port} in a moment; Ctrl+C ends it.")
    # The maker's advice to those who write a project, not to those who use one.
    os.environ["PYTHONWARNINGS"] = "ignore:Function `dev_command` is superseded"
    if os.name == "posix":
        # Signals reach Dagster itself when it takes this process's place; a shell starts what runs
        # in the background deaf to interrupts, and Dagster would then be deaf to all.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.execv(program, command)  # noqa: S606
    sys.exit(subprocess.call(command))  # noqa: S603


@click.command(epilog=example("clv serve\ncurl http://127.0.0.1:8000/customers/00001"))
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
