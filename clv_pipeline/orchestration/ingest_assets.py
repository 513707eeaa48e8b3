"""One asset per landed input."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.ingest.landing import LANDING_ORDER, land_input
from clv_pipeline.orchestration.common import explained, stage_asset
from clv_pipeline.orchestration.previews import describe_rows, personal_columns, plot_line, preview
from clv_pipeline.orchestration.project import Project
from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, quote_identifier, read_frame

GROUP = "ingest"
RATES = "exchange_rates"


def build_ingest_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """Return an asset for each input of the contract, in the order of landing."""
    return [_build_input(name, partitions) for name in LANDING_ORDER]


def _build_input(name: str, partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    contract = CONTRACTS[name]
    needed = "Needed." if contract.required else "Optional."

    @stage_asset(
        key=dg.AssetKey(["raw", name]),
        # Whether an amount can be converted is found out as it lands.
        deps=[] if name == RATES else [dg.AssetKey(["raw", RATES])],
        partitions=partitions,
        group=GROUP,
        kinds={"python", "duckdb"},
        description=f"{contract.description} {needed} Each file is landed once; rows that can't be "
        "read are in ops.quarantine with the reason.",
    )
    def land(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            # Rows of days that have not begun yet can't be true.
            report = land_input(
                project.settings,
                name,
                context.run.run_id,
                context.log.info,
                received_at=datetime.now(UTC),
            )
        for warning in report.warnings:
            context.log.warning(warning)
        landed = report.landed
        metadata = {
            **describe_rows(landed.count_kept, report.sentence),
            "files seen": report.files_seen,
            "files new": report.files_new,
            "rows in": landed.count_in,
            "rows quarantined": landed.count_quarantined,
            "rows of guests": landed.count_guest,
            **_show(project.settings, name),
        }
        return dg.MaterializeResult(metadata=metadata)

    return land


def _show(settings: Settings, name: str) -> dict[str, Any]:
    contract = CONTRACTS[name]
    table = f"raw.{quote_identifier(name)}"
    day = quote_identifier(contract.instant)
    with open_warehouse(settings, read_only=True) as connection:
        rows = read_frame(connection, f"SELECT * FROM {table} LIMIT 5")
        months = read_frame(
            connection,
            f"SELECT date_trunc('month', {day}) AS month, count(*) AS rows FROM {table} "
            f"WHERE {day} IS NOT NULL GROUP BY ALL ORDER BY month",
        )
    shown = {"preview": preview(rows.drop(columns=personal_columns(), errors="ignore"))}
    if len(months) > 1:
        shown["rows per month"] = plot_line(
            list(months["month"]), list(months["rows"]), title=f"{name}: rows per month"
        )
    return shown
