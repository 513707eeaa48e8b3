"""What a suite may depend on besides the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff


@dataclass(frozen=True)
class Run:
    """The run that is checked.

    Attributes
    ----------
    settings
        Limits, horizons, time zone.
    cutoff
        The day D that the run is for; data are complete through it.
    run_id
        Names the run.
    tables
        Names of the tables that exist, ``schema.name`` each.
    """

    settings: Settings
    cutoff: Cutoff
    run_id: str
    tables: frozenset[str]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Values of the parameters that suites name in SQL."""
        return {
            "cutoff": self.cutoff.day,
            "run_id": self.run_id,
            "time_zone": self.settings.project.time_zone,
            "reporting_currency": self.settings.project.reporting_currency,
        }


def business_day(instant: str) -> str:
    """Write the SQL of the business day of an instant stored in UTC without an offset."""
    return f"({instant} AT TIME ZONE 'UTC' AT TIME ZONE $time_zone)::DATE"
