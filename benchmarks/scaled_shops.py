"""A trained project with as many customers as a benchmark asks for: real ones, repeated with noise.

The customers of a project that has a champion are repeated under other ids. Each copy came so many
days earlier and ordered as long before the cutoff, so that its history stays possible, and spent a
few percent more or less; so hardly two copies are the same to a model.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from clv_pipeline.features.registry import load_features
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import (
    open_database,
    open_warehouse,
    quote_identifier,
    quote_literal,
    read_row,
)

_MONEY = ("sum_value", "value", "amount", "monetary")


def repeat_customers(source: Path, folder: Path, customers: int, memory: str = "2GB") -> Settings:
    """Make a project with the champion of another one and many customers; kept when it is there.

    Parameters
    ----------
    source
        A project with a champion and features of a cutoff, such as that of `clv demo`.
    folder
        Where the new project lies.
    customers
        How many.
    memory
        DuckDB's memory limit in it.
    """
    original = load_settings(source)
    if not (folder / "clv.toml").exists():
        folder.mkdir(parents=True)
        text = (source / "clv.toml").read_text(encoding="utf-8")
        (folder / "clv.toml").write_text(f'{text}\n[engine]\nmemory_limit = "{memory}"\n')
    settings = load_settings(folder)
    if not settings.paths.models.exists():
        shutil.copytree(original.paths.models, settings.paths.models)
        shutil.copytree(original.paths.dbt_project, settings.paths.dbt_project)
    if not settings.paths.warehouse.exists():
        _fill(original, settings, customers)
    return settings


def newest_cutoff(settings: Settings) -> Cutoff:
    """Return the newest cutoff that has features."""
    with open_warehouse(settings, read_only=True) as connection:
        query = "SELECT max(cutoff_date) FROM features.customer_features"
        return Cutoff(read_row(connection, query)[0])


def _fill(original: Settings, settings: Settings, customers: int) -> None:
    money = [f.name for f in load_features() if any(word in f.name for word in _MONEY)]
    with open_database(original.paths.warehouse, read_only=True) as connection:
        kinds = dict(
            row[:2] for row in connection.execute("DESCRIBE features.customer_features").fetchall()
        )
    changed = {
        "customer_id": "customer_id || '-' || copy AS customer_id",
        "T": '"T" + shift AS "T"',
        "days_since_last_order": "days_since_last_order + shift AS days_since_last_order",
    }
    for name in money:
        if kinds.get(name) == "DOUBLE":
            changed[name] = f"{quote_identifier(name)} * factor AS {quote_identifier(name)}"
    columns = ", ".join(changed.get(name, quote_identifier(name)) for name in kinds)
    with open_warehouse(settings) as connection:
        path = quote_literal(str(original.paths.warehouse))
        connection.execute(f"ATTACH {path} AS original (READ_ONLY)")
        connection.execute("CREATE SCHEMA IF NOT EXISTS features")
        connection.execute(
            f"""
            CREATE TABLE features.customer_features AS
            WITH known AS (
                SELECT *, row_number() OVER (ORDER BY customer_id) AS place
                FROM original.features.customer_features
                WHERE cutoff_date = (
                    SELECT max(cutoff_date) FROM original.features.customer_features
                )
            ),
            copies AS (
                SELECT *, range AS copy
                FROM known
                CROSS JOIN range((SELECT ceil($customers / count(*))::BIGINT FROM known))
                WHERE range * (SELECT count(*) FROM known) + place <= $customers
            ),
            noisy AS (
                SELECT
                    *,
                    (hash(customer_id, copy) % 60)::BIGINT AS shift,
                    0.9 + (hash(copy, customer_id) % 2001) / 10000.0 AS factor
                FROM copies
            )
            SELECT {columns} FROM noisy
            """,
            {"customers": customers},
        )
        connection.execute("DETACH original")
