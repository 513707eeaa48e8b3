"""Historical retrieval: features of customers as they were known at any moment of the past.

A snapshot of day D holds what happened on days <= D and was known by the end of D, in the business
time zone. What may be used of the snapshots follows:

- asked *at an instant*, the snapshot of the last day that was over by then. At 10 o'clock of day D
  that is D - 1; at midnight, with which D ends, it is D.
- asked *as of a date* D (a DATE, without a time), that of D itself: the end of the day is meant.

The newest snapshot that may be used answers, unless it is older than ``max_age``. It answers for
all customers alike: one whom it does not hold (not known yet, or merged into another account) has
nulls, even where an older snapshot held that id. Cutoffs that hold a drawn share of the customers
(`clv_pipeline.drawing`) are no snapshots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TypeAlias

import duckdb
import pandas as pd
import pyarrow as pa

from clv_pipeline.drawing import whole_days
from clv_pipeline.features.registry import Feature
from clv_pipeline.features.services import FeatureService, find_service, load_services
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages, prepare_sources
from clv_pipeline.warehouse import (
    has_table,
    hold_run_lock,
    open_warehouse,
    quote_identifier,
)

SNAPSHOTS = "features.customer_features"
CUSTOMER, TIMESTAMP, SNAPSHOT_DATE = "customer_id", "timestamp", "snapshot_date"
Spine: TypeAlias = "pd.DataFrame | pa.Table | duckdb.DuckDBPyRelation | str"


class RetrievalError(ValueError):
    """A request that can't be answered; the message says why and what to do."""


class FeatureStore:
    """Features of the warehouse of one project.

    Parameters
    ----------
    settings
        Name the warehouse, the time zone, the default service and the greatest age.

    Examples
    --------
    >>> store = FeatureStore(load_settings())                                    # doctest: +SKIP
    >>> spine = pd.DataFrame({"customer_id": ["a"], "timestamp": [date(2024, 1, 31)]})
    >>> store.get_historical_features(spine, "value_v2")                         # doctest: +SKIP
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def list_services(self) -> dict[str, FeatureService]:
        """Return the feature services by name."""
        installed = self.settings.paths.dbt_project
        return load_services(installed if installed.exists() else None)

    def snapshot_dates(self) -> list[date]:
        """List the days that there are snapshots of, oldest first."""
        with open_warehouse(self.settings, read_only=True) as connection:
            return _snapshot_dates(connection)

    def get_historical_features(
        self,
        spine: Spine,
        service: str | FeatureService | None = None,
        max_age: timedelta | int | None = None,
        *,
        exact: bool = False,
    ) -> pd.DataFrame:
        """Return features as they were known at the moments of a spine.

        Parameters
        ----------
        spine
            Rows with ``customer_id`` and ``timestamp``: a pandas frame, an Arrow table, a DuckDB
            relation, or SQL over the warehouse. ``timestamp`` is a DATE, for the end of that day,
            or an instant: with a time zone, or without one in UTC. In pandas, dates are a column
            of ``datetime.date``; a ``datetime64`` column holds instants. Further columns are kept.
        service
            What to retrieve; by name, or the service that models are trained on when None.
        max_age
            Days (or a timedelta of whole days) that a snapshot may lie before the last day that
            was over; ``[features] max_age_days`` when None. An older one counts as missing.
        exact
            Build the snapshots that are missing first, so that each row between the first and the
            last day with orders is answered as of its own day. Takes the run lock, and a few
            seconds for each batch of days.

        Returns
        -------
        pandas.DataFrame
            The spine's rows, in their order and as often as they are there, with its columns,
            ``snapshot_date`` (null where no snapshot answers), and the features. Features are null
            for an unknown customer, before the first snapshot, and where the newest is too old.

        Raises
        ------
        RetrievalError
            If the spine lacks a column, has one that a feature is called, or is of another type;
            or if there is no snapshot at all.
        RegistryError
            If there is no such service.
        """
        table = self.get_historical_table(spine, service, max_age, exact=exact)
        frame: pd.DataFrame = table.to_pandas(date_as_object=False)
        return frame

    def get_historical_table(
        self,
        spine: Spine,
        service: str | FeatureService | None = None,
        max_age: timedelta | int | None = None,
        *,
        exact: bool = False,
    ) -> pa.Table:
        """Return what `get_historical_features` does, as an Arrow table."""
        chosen = service if isinstance(service, FeatureService) else self._service(service)
        age = _days(self.settings.features.max_age_days if max_age is None else max_age)
        if exact:
            self._build_missing(spine)
        with open_warehouse(self.settings, read_only=True) as connection:
            _check_snapshots(connection)
            columns = _register(connection, spine, self.settings.project.time_zone)
            _check_columns(columns, chosen.features)
            query = _retrieval(columns, chosen.features, age)
            days = _snapshot_dates(connection)
            found: pa.Table = connection.sql(query, params=[days]).to_arrow_table()
        return found

    def build_snapshots(self, days: Iterable[date]) -> list[date]:
        """Build the snapshots of some days that are missing; return those that were built.

        Raises
        ------
        RunUnderWayError
            If a run is writing to the warehouse.
        TransformError
            If dbt can't build them.
        """
        with hold_run_lock(self.settings):
            prepare_sources(self.settings)  # drops snapshots of another definition
            held = set(self.snapshot_dates())
            missing = sorted(set(days) - held)
            if missing:
                # Labels reach no further than what is held; a run that trains writes them anew.
                last = Cutoff(max([*missing, *held]))
                cutoffs = [Cutoff(day) for day in missing]
                build_stages(self.settings, cutoffs, last, "feature_store")
        return missing

    def _service(self, name: str | None) -> FeatureService:
        return find_service(self.settings, name)

    def _build_missing(self, spine: Spine) -> None:
        with open_warehouse(self.settings, read_only=True) as connection:
            _register(connection, spine, self.settings.project.time_zone)
            rows = connection.execute(
                "SELECT DISTINCT _day FROM _asked SEMI JOIN (SELECT min(activity_date) AS first, "
                "max(activity_date) AS last FROM intermediate.int_customer_days) "
                "ON _day BETWEEN first AND last"
            ).fetchall()
        self.build_snapshots(row[0] for row in rows)


def _days(age: timedelta | int) -> int:
    if isinstance(age, timedelta):
        if age % timedelta(days=1):
            raise RetrievalError(f"max_age = {age} is not a whole number of days.")
        age = age.days
    if age < 0:
        raise RetrievalError(f"max_age = {age} days is below 0.")
    return age


def _snapshot_dates(connection: duckdb.DuckDBPyConnection) -> list[date]:
    return whole_days(connection, SNAPSHOTS)


def _check_snapshots(connection: duckdb.DuckDBPyConnection) -> None:
    if not has_table(connection, *SNAPSHOTS.split(".")):
        raise RetrievalError("There are no features yet: run `clv run` first.")


def _register(connection: duckdb.DuckDBPyConnection, spine: Spine, time_zone: str) -> list[str]:
    """Make the view ``_asked``: the spine, its rows numbered, and the last day that was over."""
    with _as_relation(connection, spine) as relation:
        described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        kinds = {str(name): str(kind) for name, kind, *_ in described}
        for column in (CUSTOMER, TIMESTAMP):
            if column not in kinds:
                raise RetrievalError(
                    f"The spine has no column '{column}'; it has {', '.join(kinds) or 'none'}."
                )
        day = _last_day(kinds[TIMESTAMP], time_zone)
        # A table of its own: the order of the rows is that of the spine.
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE _asked AS SELECT *, row_number() OVER () AS _row, "
            f"{day} AS _day FROM {relation}"
        )
    return list(kinds)


@contextmanager
def _as_relation(connection: duckdb.DuckDBPyConnection, spine: Spine) -> Iterator[str]:
    if isinstance(spine, str):
        yield f"({spine.strip().rstrip(';')})"
        return
    if isinstance(spine, duckdb.DuckDBPyRelation):
        spine = spine.to_arrow_table()
    if not isinstance(spine, pd.DataFrame | pa.Table):
        raise RetrievalError(
            f"A spine is a pandas frame, an Arrow table, a DuckDB relation or SQL; this is a "
            f"{type(spine).__name__}."
        )
    connection.register("_spine", spine)
    try:
        yield "_spine"
    finally:
        connection.unregister("_spine")


def _last_day(kind: str, time_zone: str) -> str:
    """Write the SQL of the last business day that was over at a moment."""
    column = quote_identifier(TIMESTAMP)
    if kind == "DATE":
        return column
    zone = "'" + time_zone.replace("'", "''") + "'"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"({column} AT TIME ZONE {zone})::DATE - 1"
    if kind.startswith("TIMESTAMP"):
        return f"({column}::TIMESTAMP AT TIME ZONE 'UTC' AT TIME ZONE {zone})::DATE - 1"
    raise RetrievalError(
        f"The spine's '{TIMESTAMP}' is of type {kind}; a date or a timestamp is needed."
    )


def _check_columns(columns: list[str], features: tuple[Feature, ...]) -> None:
    taken = {SNAPSHOT_DATE, *(feature.name for feature in features)}
    repeated = [name for name in columns if name in taken]
    if repeated:
        raise RetrievalError(
            f"The spine has a column '{repeated[0]}', which is what a feature is called: rename it."
        )


def _retrieval(columns: list[str], features: tuple[Feature, ...], max_age: int) -> str:
    asked = ", ".join(f"asked.{quote_identifier(name)}" for name in columns)
    wanted = ", ".join(f"snapshots.{quote_identifier(f.name)}" for f in features)
    return f"""
    WITH days AS (
        SELECT unnest(?::DATE[]) AS cutoff_date
    ),
    asked AS (
        SELECT _asked.*, CASE WHEN _day - cutoff_date <= {max_age} THEN cutoff_date END AS _snapshot
        FROM _asked ASOF LEFT JOIN days ON _asked._day >= days.cutoff_date
    )
    SELECT {asked}, asked._snapshot AS {SNAPSHOT_DATE}, {wanted}
    FROM asked
    LEFT JOIN {SNAPSHOTS} AS snapshots
        ON snapshots.cutoff_date = asked._snapshot
        AND snapshots.customer_id = asked.{quote_identifier(CUSTOMER)}::VARCHAR
    ORDER BY asked._row
    """
