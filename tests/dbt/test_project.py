"""The project as a whole: installing, empty inputs, unit tests, documentation, open handles."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from clv_pipeline.dbt_process import TransformError
from clv_pipeline.dbt_project import dbt_variables, install_dbt_project, parse_variables
from clv_pipeline.settings import Settings, build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages, prepare_sources, run_dbt
from clv_pipeline.warehouse import open_warehouse, read_frame, replace_rows
from tests.support import fill_raw

D = Cutoff.parse("2024-01-31")
ROWS = pd.DataFrame(
    {
        "user_id": ["a", "b", "b"],
        "ts": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-02-10"]),
        "amount": [10.0, 20.0, 40.0],
    }
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home without a single row, fully built, with its unit tests run."""
    settings = build_settings(tmp_path_factory.mktemp("empty"), {})
    run_dbt(
        settings,
        ["build", "--resource-type", "model", "--resource-type", "test"],
        dbt_variables(settings, [D], D, "empty"),
    )
    return settings


def test_every_table_is_built_from_nothing(empty: Settings) -> None:
    with open_warehouse(empty, read_only=True) as connection:
        for table in ("as_of.customer_labels", "features.customer_features", "clv.customer_clv"):
            assert read_frame(connection, f"SELECT * FROM {table}").empty


def test_the_rules_written_beside_the_models_hold(empty: Settings) -> None:
    run_dbt(empty, ["test", "--resource-type", "unit_test"], dbt_variables(empty, [D], D, "unit"))
    results = json.loads((empty.paths.dbt_target / "run_results.json").read_text())["results"]
    assert len(results) >= 21
    assert {result["status"] for result in results} == {"pass"}


def test_documentation_covers_every_column(empty: Settings) -> None:
    run_dbt(empty, ["docs", "generate"], dbt_variables(empty, [D], D, "docs"))
    catalog = json.loads((empty.paths.dbt_target / "catalog.json").read_text())
    manifest = json.loads((empty.paths.dbt_target / "manifest.json").read_text())
    models = {key: node for key, node in manifest["nodes"].items() if key.startswith("model.")}
    assert set(models) <= set(catalog["nodes"])
    for key, node in models.items():
        described = {name for name, column in node["columns"].items() if column["description"]}
        assert node["description"], key
        assert set(catalog["nodes"][key]["columns"]) == described, key
    assert manifest["exposures"]


@pytest.mark.parametrize(
    ("days_ago", "status"), [(1, "pass"), (3, "warn"), (8, "error"), (None, "error")]
)
def test_dbt_says_how_long_ago_orders_were_delivered(
    settings: Settings, days_ago: int | None, status: str
) -> None:
    fill_raw(settings, {"transactions": ROWS})
    variables = dbt_variables(settings, [D], D, "fresh")
    prepare_sources(settings)
    if days_ago is not None:
        # dbt measures against the clock, so the delivery is dated from it too.
        landed_at = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days_ago)
        with open_warehouse(settings) as connection:
            replace_rows(
                connection,
                "ops.landed_files",
                pd.DataFrame({"file_id": [1], "input": ["transactions"], "landed_at": [landed_at]}),
            )
    command = ["source", "freshness", "--select", "source:raw"]
    if status in ("pass", "warn"):
        run_dbt(settings, command, variables)
    else:
        with pytest.raises(TransformError):
            run_dbt(settings, command, variables)
    results = json.loads((settings.paths.dbt_target / "sources.json").read_text())["results"]
    assert {row["unique_id"]: row["status"] for row in results} == {
        "source.clv.raw.transactions": status
    }


def test_no_handle_stays_open(empty: Settings) -> None:
    # Another configuration is refused while any connection of this process is open.
    connection = duckdb.connect(str(empty.paths.warehouse), config={"threads": 1})
    connection.close()
    assert not [name for name in os.environ if name.startswith("CLV_DBT_")]


def test_what_is_written_once_reads_nothing_of_its_own(empty: Settings) -> None:
    run_dbt(empty, ["parse"], parse_variables(empty))
    manifest = json.loads((empty.paths.dbt_target / "manifest.json").read_text())
    once = [n for n in manifest["nodes"].values() if n["config"]["meta"].get("is_written_once")]
    kept = {n["name"] for n in once if n["config"]["materialized"] == "incremental"}
    assert kept >= {"customer_spine", "customer_history", "feat_basket", "customer_features"}
    # Its new rows are read while they are written, so they may not hang on those before them.
    for node in once:
        code = "".join(re.findall(r"{[{%].*?[}%]}", node["raw_code"], flags=re.DOTALL))
        assert not re.search(r"\bthis\b", code), node["name"]
        assert node["unique_id"] not in node["depends_on"]["nodes"]


def test_what_was_parsed_serves_a_home_that_moved_to_another_machine(tmp_path: Path) -> None:
    here = build_settings(tmp_path / "here", {})
    run_dbt(here, ["parse"], parse_variables(here))
    shutil.copytree(here.paths.home, tmp_path / "there" / here.paths.home.name)
    machine = {"engine": {"memory_limit": "2GB", "threads": 7}}
    there = build_settings(tmp_path / "there", machine)
    log = there.paths.dbt_target / "logs" / "dbt.log"
    log.write_text("")
    parsed = (there.paths.dbt_target / "partial_parse.msgpack").stat().st_mtime_ns
    run_dbt(there, ["parse"], parse_variables(there))
    assert "Unable to do partial parsing" not in log.read_text()
    assert (there.paths.dbt_target / "partial_parse.msgpack").stat().st_mtime_ns == parsed


def test_a_failure_names_the_model_and_why(empty: Settings) -> None:
    variables = dbt_variables(empty, [D], D, "broken") | {"cutoffs": ["no day"]}
    with pytest.raises(TransformError, match=r"dbt run failed. model customer_spine: .*no day"):
        run_dbt(empty, ["run", "--select", "customer_spine"], variables)


def test_cutoffs_after_the_data_are_refused(settings: Settings) -> None:
    with pytest.raises(ValueError, match="2024-02-01 lie after 2024-01-31"):
        dbt_variables(settings, [D.shift(1)], D, "run")


def test_installing_twice_writes_once(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(value={"horizons": [7, 14]})
    project = install_dbt_project(settings)
    before = (project / "dbt_project.yml").stat().st_mtime_ns
    assert install_dbt_project(settings) == project
    assert (project / "dbt_project.yml").stat().st_mtime_ns == before
    marts = (project / "models/marts/marts.yml").read_text()
    assert "clv_14d_p10" in marts
    assert "clv_30d" not in marts
    other = make_settings(value={"horizons": [7]})
    assert "clv_14d" not in (install_dbt_project(other) / "models/marts/marts.yml").read_text()


def test_rows_derived_under_another_definition_are_dropped(
    make_settings: Callable[..., Settings],
) -> None:
    def derived(settings: Settings) -> list[str]:
        prepare_sources(settings)
        with open_warehouse(settings) as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS features")
            tables = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'features'"
            ).fetchall()
            connection.execute("CREATE OR REPLACE TABLE features.kept AS SELECT 1 AS a")
        return [name for (name,) in tables]

    assert derived(make_settings()) == []
    assert derived(make_settings()) == ["kept"]
    assert derived(make_settings(value={"horizons": [30]})) == ["kept"]
    assert derived(make_settings(project={"time_zone": "Europe/Berlin"})) == []
    assert derived(make_settings(value={"definition": "contribution_margin"})) == []


def test_a_circle_of_merges_is_refused_by_name(settings: Settings) -> None:
    merges = pd.DataFrame(
        {
            "old_user_id": ["a", "b", "c"],
            "new_user_id": ["b", "c", "a"],
            "ts": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]),
        }
    )
    fill_raw(settings, {"transactions": ROWS, "account_merges": merges})
    with pytest.raises(
        TransformError, match=r"go round in a circle: \w -> \w -> \w -> \w.*2024-01-03"
    ):
        build_stages(settings, [D], D, "run", ["staging", "intermediate"])


def test_a_day_without_orders_and_ten_thousand_orders(settings: Settings) -> None:
    many = pd.DataFrame(
        {
            "user_id": "busy",
            "ts": pd.Timestamp("2024-01-01") + pd.to_timedelta(range(10_000), unit="min"),
            "amount": 1.0,
        }
    )
    users = pd.DataFrame({"user_id": ["silent"], "signup_ts": pd.to_datetime(["2024-01-05"])})
    fill_raw(settings, {"transactions": pd.concat([ROWS, many]), "users": users})
    build_stages(settings, [D, D.shift(1)], D.shift(1), "run")
    with open_warehouse(settings, read_only=True) as connection:
        rows = read_frame(
            connection,
            "SELECT customer_id, days_since_last_order, count_orders, frequency, tenure_days "
            "FROM features.customer_features ORDER BY customer_id, cutoff_date",
        )
    by_customer = rows.groupby("customer_id")["days_since_last_order"].apply(list)
    assert by_customer["a"] == [30, 31]
    assert rows.query("customer_id == 'busy'")["count_orders"].tolist() == [10_000, 10_000]
    assert rows.query("customer_id == 'busy'")["frequency"].tolist() == [6, 6]
    silent = rows.query("customer_id == 'silent'")
    assert silent["days_since_last_order"].isna().all()
    assert silent["tenure_days"].tolist() == [26, 27]


def test_days_on_or_before_the_cutoff_change_no_label(tmp_path: Path) -> None:
    labels = []
    for name, extra in (("without", 0), ("with", 5)):
        settings = build_settings(tmp_path / name, {"value": {"horizons": [10]}})
        earlier = pd.DataFrame(
            {
                "user_id": ["a", "b"] * extra,
                "ts": D.shift(-1).day.isoformat(),
                "amount": 99.0,
            }
        ).assign(ts=lambda frame: pd.to_datetime(frame["ts"]))
        on_the_day = earlier.assign(ts=pd.Timestamp(D.day) + pd.Timedelta(hours=23))
        fill_raw(settings, {"transactions": pd.concat([ROWS, earlier, on_the_day])})
        build_stages(settings, [D], D.shift(20), "run", ["staging", "intermediate", "as_of"])
        with open_warehouse(settings, read_only=True) as connection:
            labels.append(
                read_frame(connection, "SELECT * FROM as_of.customer_labels ORDER BY ALL")
            )
    pd.testing.assert_frame_equal(labels[0], labels[1])
    assert labels[0]["label_value"].tolist() == [0.0, 40.0]


def test_marts_are_the_same_in_whatever_order_cutoffs_are_scored(tmp_path: Path) -> None:
    days = [D.shift(k) for k in range(3)]
    tables = []
    for name, order in (("ordered", [0, 1, 2]), ("shuffled", [2, 0, 1])):
        settings = build_settings(tmp_path / name, {"value": {"horizons": [30]}})
        fill_raw(settings, {"transactions": ROWS})
        build_stages(settings, days, days[-1], "run", ["staging", "intermediate", "as_of"])
        for position in order:
            cutoff = days[position]
            write_scores(settings, cutoff, value=100.0 if position == 0 else 140.0 + position)
            build_stages(settings, [cutoff], days[-1], "run", ["marts"])
        with open_warehouse(settings, read_only=True) as connection:
            tables.append(
                [
                    read_frame(connection, f"SELECT * FROM clv.{table} ORDER BY ALL")
                    for table in ("customer_clv", "customer_clv_history", "segment_profile")
                ]
            )
    for ordered, shuffled in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(ordered, shuffled)
    answer = tables[0][0].set_index("customer_id")
    assert list(answer["updated_at"].dt.date) == [days[1].day] * 2
    assert list(answer["cutoff_date"].dt.date) == [days[2].day] * 2
    assert answer.loc["b", "total_value"] == pytest.approx(20 + 142)
    profile = tables[0][2]
    assert profile["what_to_do"].tolist() == ["help"]
    assert profile["sum_clv_30d"].tolist() == [284.0]


def write_scores(settings: Settings, cutoff: Cutoff, value: float) -> None:
    keys = {"cutoff_date": cutoff.day, "run_id": "run", "model_version": "m"}
    customers = pd.DataFrame({"customer_id": ["a", "b"], **keys})
    with open_warehouse(settings) as connection:
        replace_rows(
            connection,
            "scores.customer_predictions",
            customers.assign(horizon_days=30, clv=value),
            {"cutoff_date": cutoff.day},
        )
        replace_rows(
            connection,
            "scores.customer_standing",
            customers.assign(
                segment="welcome", value_tier="top", confidence="low", churn_probability=0.5
            ),
            {"cutoff_date": cutoff.day},
        )
        replace_rows(
            connection,
            "scores.segment_actions",
            pd.DataFrame({"segment": ["welcome"], "what_to_do": ["help"]}),
        )


def test_other_horizons_leave_no_columns_behind(empty: Settings) -> None:
    asked = build_settings(empty.root, {"value": {"horizons": [30, 60]}})
    command = ["run", "--select", "customer_clv_history", "customer_clv"]
    run_dbt(asked, command, dbt_variables(asked, [D], D, "other horizons"))
    with open_warehouse(asked, read_only=True) as connection:
        for table in ("clv.customer_clv_history", "clv.customer_clv"):
            names = list(read_frame(connection, f"SELECT * FROM {table}"))
            assert {"clv_30d", "clv_60d"} <= {*names}
            assert not [name for name in names if "90d" in name]
