"""What a dbt run on another engine than DuckDB needs before, after and instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from clv_pipeline import keeping
from clv_pipeline.engines.lake import (
    drop_partitions,
    export_sources,
    link_views,
    mount,
    note_tables,
)
from clv_pipeline.engines.session import open_spark
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff

# dbt's targets, see profiles.yml in the project.
DUCKDB, SPARK = "warehouse", "spark"
# What dbt is asked for that another engine may do.
_BUILDING = ("build", "run", "test")
_MARTS = "marts"


def split_by_engine(
    settings: Settings,
    arguments: Sequence[str],
    stages: Mapping[str, str],
    marts: Collection[str],
) -> list[tuple[str, list[str]]]:
    """Return dbt's target, and what it is asked for there, for each engine that has a part in it.

    Marts are made of what Python keeps in the warehouse, and published from there: DuckDB builds
    them whatever the engine of the stages before.

    Parameters
    ----------
    arguments
        dbt's command and its options.
    stages
        Name of each stage, and its selector.
    marts
        Names of the models that are marts.
    """
    if settings.engine.name == "duckdb" or arguments[0] not in _BUILDING:
        return [(DUCKDB, list(arguments))]
    others: list[str] = []
    chosen: dict[str, list[str]] = {}
    is_selector = False
    for part in arguments[1:]:
        if part.startswith("-"):
            is_selector = part in ("--select", "-s")
        if not is_selector:
            others.append(part)
        elif not part.startswith("-"):
            is_mart = part == stages[_MARTS] or part.strip("+") in marts
            chosen.setdefault(DUCKDB if is_mart else SPARK, []).append(part)
    if not chosen:
        chosen[SPARK] = [selector for name, selector in stages.items() if name != _MARTS]
        chosen[DUCKDB] = [stages[_MARTS]]
    return [
        (target, [arguments[0], "--select", *chosen[target], *others])
        for target in (SPARK, DUCKDB)
        if target in chosen
    ]


def prepare_engine(settings: Settings, target: str) -> Any:
    """Start the engine of a target with what has landed; None where DuckDB needs nothing.

    Raises
    ------
    EngineError
        If what Spark needs is missing.
    """
    if target != SPARK:
        return None
    spark = open_spark(settings)
    mount(spark, settings, export_sources(settings))
    return spark


def finish_engine(engine: Any, settings: Settings, relations: Iterable[str]) -> None:
    """Let DuckDB see what another engine has built.

    Parameters
    ----------
    engine
        From `prepare_engine`.
    relations
        Names of the tables that were built.
    """
    if engine is not None:
        note_tables(engine, settings, relations)
        link_views(settings)


def drop_past_cutoffs(
    settings: Settings, wanted: Collection[Cutoff], *, is_training: bool
) -> list[date]:
    """Drop past cutoffs as `keeping.drop_past_cutoffs` says, whichever engine has built them."""
    dropped = keeping.drop_past_cutoffs(settings, wanted, is_training=is_training)
    if dropped:
        drop_partitions(settings, dropped)
    return dropped
