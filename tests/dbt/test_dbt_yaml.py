from __future__ import annotations

import pytest

from clv_pipeline.dbt_yaml import SOURCES, expand_documents, sources_document
from clv_pipeline.ingest import ledger
from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.tables import create_tables
from clv_pipeline.warehouse import open_database


def columns(models: list[dict[str, object]], name: str, horizons: tuple[int, ...] = ()) -> object:
    expanded = expand_documents({"a.yml": {"models": models}}, horizons)["a.yml"]["models"]
    return next(model["columns"] for model in expanded if model["name"] == name)


def test_a_template_becomes_a_column_per_number() -> None:
    template = {
        "name": "clv_{h}d",
        "for_each": "horizons",
        "description": "Over {h} days.",
        "config": {"meta": {"days": "{h}"}},
    }
    assert columns([{"name": "m", "columns": [template]}], "m", (30, 90)) == [
        {"name": "clv_30d", "description": "Over 30 days.", "config": {"meta": {"days": 30}}},
        {"name": "clv_90d", "description": "Over 90 days.", "config": {"meta": {"days": 90}}},
    ]


def test_columns_of_another_model_come_once_and_without_its_tests() -> None:
    base = [{"name": "id"}, {"name": "x", "data_tests": ["unique"]}, {"name": "y"}]
    models = [
        {"name": "base", "columns": base},
        {"name": "m", "columns": [{"name": "id"}, {"columns_of": "base", "except": ["y"]}]},
    ]
    assert columns(models, "m") == [{"name": "id"}, {"name": "x"}]


def test_columns_of_something_unknown_or_of_itself_are_refused() -> None:
    with pytest.raises(ValueError, match="'nothing' is neither a model nor a source table"):
        columns([{"name": "m", "columns": [{"columns_of": "nothing"}]}], "m")
    with pytest.raises(ValueError, match="in a circle: m -> m"):
        columns([{"name": "m", "columns": [{"columns_of": "m"}]}], "m")


def test_sources_are_the_contracts() -> None:
    raw = next(s for s in sources_document()["sources"] if s["name"] == "raw")
    assert [table["name"] for table in raw["tables"]] == list(CONTRACTS)
    transactions = raw["tables"][0]
    assert transactions["config"]["freshness"]["error_after"] == {"count": 7, "period": "day"}
    assert [column["name"] for column in transactions["columns"]][-3:] == [
        "_file_id",
        "_row_number",
        "_order_fingerprint",
    ]


def test_missing_tables_and_columns_are_made_and_rows_left() -> None:
    with open_database() as connection:
        connection.execute("CREATE SCHEMA ops")
        connection.execute("CREATE TABLE ops.pipeline_runs AS SELECT 'old' AS run_id")
        for schema, tables in SOURCES.items():
            create_tables(connection, schema, tables)
        rows = connection.execute("SELECT run_id, status FROM ops.pipeline_runs").fetchall()
        assert rows == [("old", None)]
        described = connection.execute("DESCRIBE scores.customer_predictions").fetchall()
        assert ("clv", "DOUBLE") in [(row[0], row[1]) for row in described]


def test_landing_makes_the_same_tables() -> None:
    """Whoever comes first makes them: dbt's parse of a new home, or the first landing."""
    with open_database() as connection, open_database() as other:
        for schema in ("raw", "ops"):
            other.execute(f"CREATE SCHEMA {schema}")
            create_tables(connection, schema, SOURCES[schema])
        ledger.create_tables(other)
        made = other.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        assert len(made) >= len(CONTRACTS) + 3
        for schema, table in made:
            described = [
                c.execute(f"DESCRIBE {schema}.{table}").fetchall() for c in (connection, other)
            ]
            assert described[0] == described[1], table
