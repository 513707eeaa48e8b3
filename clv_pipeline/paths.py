"""Where things lie below a project's home."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Files and folders of one project.

    Attributes
    ----------
    home
        The folder below which everything that a run writes lies.
    """

    home: Path

    @property
    def warehouse(self) -> Path:
        """The pipeline's own database; analysts never open it."""
        return self.home / "warehouse.duckdb"

    @property
    def published(self) -> Path:
        """The pointer to the newest publication: a link to one of ``versions``."""
        return self.home / "published"

    @property
    def published_database(self) -> Path:
        """The database that analysts open."""
        return self.published / "clv.duckdb"

    @property
    def versions(self) -> Path:
        """Publications, a folder each."""
        return self.home / "versions"

    @property
    def models(self) -> Path:
        """Artefacts, a folder each, and the champion pointer."""
        return self.home / "models"

    @property
    def dbt_project(self) -> Path:
        """The dbt project as installed for this home."""
        return self.home / "dbt"

    @property
    def dbt_target(self) -> Path:
        """What dbt compiles and logs."""
        return self.home / "dbt_target"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own storage."""
        return self.home / "dagster"

    @property
    def scratch(self) -> Path:
        """What a training under way has fitted, for the next one if it is interrupted."""
        return self.home / "scratch"

    @property
    def spill(self) -> Path:
        """Where DuckDB spills what does not fit into memory."""
        return self.home / "spill"

    @property
    def spark(self) -> Path:
        """What Spark keeps, where it is the engine: tables, scratch files, its log."""
        return self.home / "spark"

    @property
    def spark_sources(self) -> Path:
        """Landed tables as Parquet, for Spark to read."""
        return self.spark / "sources"

    @property
    def lake(self) -> Path:
        """Tables that Spark has built, as Parquet."""
        return self.spark / "lake"

    @property
    def run_lock(self) -> Path:
        """Held by the run that writes."""
        return self.home / "run.lock"
