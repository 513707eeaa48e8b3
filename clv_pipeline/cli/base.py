"""What the verbs of `clv` share: the project's settings, a day, examples, what runs jobs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from clv_pipeline.settings import CONFIG_NAME, Settings, load_settings
from clv_pipeline.timeline import Cutoff

CONFIG_VARIABLE = "CLV_CONFIG"
Command = Callable[..., Any]


def read_cutoff(ctx: click.Context, param: click.Parameter, value: str | None) -> Cutoff | None:
    """Read a day as YYYY-MM-DD."""
    try:
        return None if value is None else Cutoff.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def cutoff_option(description: str) -> Callable[[Command], Command]:
    """Return the option --cutoff, said in a verb's own words."""
    return click.option("--cutoff", metavar="DATE", callback=read_cutoff, help=description)


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


def open_runner(settings: Settings) -> Any:
    """Open what runs jobs, and hold the run lock meanwhile."""
    from clv_pipeline.orchestration.environment import prepare_environment

    prepare_environment(settings)
    from clv_pipeline.orchestration.commands import hold_runner

    return hold_runner(settings)
