"""What the features gate shows of each feature in the UI."""

from __future__ import annotations

import dagster as dg

from clv_pipeline.orchestration.environment import prepare_environment
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, read_frame

SHOWN = [
    "feature",
    "null_share",
    "quantile_05",
    "quantile_50",
    "quantile_95",
    "psi_training",
    "psi_last_run",
    "age_days",
]


def test_the_ui_shows_the_health_of_features(trained: Settings) -> None:
    prepare_environment(trained)
    check = dg.AssetCheckKey(dg.AssetKey(["features", "customer_features"]), "features_gate")
    with dg.DagsterInstance.get() as instance:
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    event = records[check].event
    assert event is not None
    evaluation = event.dagster_event.asset_check_evaluation_data  # type: ignore[union-attr]
    table = evaluation.metadata["feature health"].value
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    ]
    assert header == SHOWN
    with open_warehouse(trained, read_only=True) as connection:
        health = read_frame(connection, "SELECT * FROM ops.feature_health")
    newest = health[health["run_id"] == records[check].run_id]
    drift = newest.set_index("feature")["psi_training"]
    # What moved most since the training stands first, with a figure for each column.
    assert [row[0] for row in rows][:1] == [drift.idxmax()]
    assert len(rows) == 30
    assert all(row[1] and row[-1] for row in rows)
    moved = [float(row[SHOWN.index("psi_training")]) for row in rows if row[5]]
    assert moved == sorted(moved, reverse=True)
    assert evaluation.metadata["feature drift"].value.startswith("![")
