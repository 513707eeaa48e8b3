"""One home that the tests of this folder build anew: dbt reads the project once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pandas as pd

from clv_pipeline.dbt_project import dbt_variables
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import run_dbt
from clv_pipeline.warehouse import open_warehouse
from tests.support import fill_raw

ZONE = "America/New_York"
MAX_AGE = 30


def build_features(
    settings: Settings, cutoffs: Sequence[Cutoff], data_through: Cutoff, *further: str
) -> None:
    """Build the features, with all that they are made from, and further models; run no test."""
    selected = [part for name in ("+customer_features", *further) for part in ("--select", name)]
    command = ["build", *selected, "--exclude-resource-type", "test"]
    run_dbt(settings, command, dbt_variables(settings, cutoffs, data_through, "run"))


def rebuild(
    settings: Settings, tables: Mapping[str, pd.DataFrame], days: Sequence[date], last: date
) -> None:
    """Put other rows into the warehouse and build their snapshots from nothing."""
    with open_warehouse(settings) as connection:
        for schema in ("features", "as_of", "intermediate", "staging"):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    fill_raw(settings, tables)
    build_features(settings, [Cutoff(day) for day in days], Cutoff(last))
