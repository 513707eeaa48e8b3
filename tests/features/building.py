"""One home that the tests of this folder build anew: dbt reads the project once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pandas as pd

from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages
from clv_pipeline.warehouse import open_warehouse
from tests.support import fill_raw

ZONE = "America/New_York"
MAX_AGE = 30


def rebuild(
    settings: Settings, tables: Mapping[str, pd.DataFrame], days: Sequence[date], last: date
) -> None:
    """Put other rows into the warehouse and build their snapshots from nothing."""
    with open_warehouse(settings) as connection:
        for schema in ("features", "as_of", "intermediate", "staging"):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    fill_raw(settings, tables)
    build_stages(settings, [Cutoff(day) for day in days], Cutoff(last), "run")
