"""The Dagster code location: composition, nothing else."""

import warnings

from clv_pipeline.orchestration.environment import prepare_process

prepare_process()

import dagster as dg  # noqa: E402  (the environment must be set before)

from clv_pipeline.orchestration.code_location import (  # noqa: E402
    build_definitions,
    build_placeholder,
)
from clv_pipeline.settings import MissingConfigError, load_settings  # noqa: E402


def _load() -> dg.Definitions:
    try:
        settings = load_settings()
    except MissingConfigError as error:
        warnings.warn(str(error), stacklevel=1)
        return build_placeholder(str(error))
    return build_definitions(settings)


defs = _load()
