"""A file that is read anew under other settings: what was derived from it is derived again."""

from __future__ import annotations

from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.transform import prepare_sources
from clv_pipeline.warehouse import has_table, open_warehouse


def derive(settings: Settings) -> None:
    prepare_sources(settings)
    with open_warehouse(settings) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS staging")
        connection.execute("CREATE TABLE IF NOT EXISTS staging.derived AS SELECT 1 AS x")


def is_derived(settings: Settings) -> bool:
    prepare_sources(settings)
    with open_warehouse(settings) as connection:
        return has_table(connection, "staging", "derived")


def test_new_files_keep_what_was_derived_and_new_settings_drop_it(project: Settings) -> None:
    land_inputs(project, "one")
    derive(project)
    assert is_derived(project)

    more = "customer_id,date,amount,item\n1,2020-01-01,5,cd\n"
    (project.root / "data" / "orders-2.csv").write_text(more)
    land_inputs(project, "two")
    assert is_derived(project)

    config = project.root / "clv.toml"
    config.write_text(config.read_text().replace("files =", 'zero_amounts = "quarantine"\nfiles ='))
    changed = load_settings(project.root)
    land_inputs(changed, "three")
    assert not is_derived(changed)
    derive(changed)
    assert is_derived(changed)
