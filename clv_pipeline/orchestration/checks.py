"""Gates as blocking asset checks: what depends on a checked asset waits for its gate."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from clv_pipeline.ingest.contract import CONTRACTS
from clv_pipeline.orchestration.common import POOL, RETRY, explained
from clv_pipeline.orchestration.partitions import run_cutoff
from clv_pipeline.orchestration.previews import SUMMARY, plot_bars, preview
from clv_pipeline.orchestration.project import Project
from clv_pipeline.orchestration.resuming import do_once

if TYPE_CHECKING:
    from data_quality.gates import Gate, GateReport

# Gate -> the asset that carries it (what the next step reads), and what else it looks at.
GATES: dict["Gate", tuple[list[str], list[list[str]]]] = {
    "raw": (
        ["raw", "transactions"],
        [["raw", name] for name in CONTRACTS if name != "transactions"],
    ),
    "staging": (["intermediate", "int_customer_days"], [["staging", "stg_transactions"]]),
    # Whether a feature peeks can be seen only once the features are there.
    "as_of": (
        ["features", "customer_features"],
        [["as_of", name] for name in ("customer_spine", "customer_history", "customer_labels")],
    ),
    "features": (["features", "customer_features"], []),
    "predictions": (["scores", "customer_predictions"], []),
}
DESCRIPTIONS: dict["Gate", str] = {
    "raw": "What arrived: schema, volume, freshness, share of quarantined rows, sizes of amounts.",
    "staging": "Keys, ranges, currencies; value is conserved.",
    "as_of": "No leakage: nothing after the cutoff in the past, nothing before it in a label.",
    "features": "Ranges, nulls, and drift against the last good run.",
    "predictions": "Finite, monotone in the horizon, quantiles in order, total within a band.",
}


def build_gates() -> list[dg.AssetChecksDefinition]:
    """Return a blocking check per gate."""
    return [_build_gate(gate) for gate in GATES]


def _build_gate(gate: "Gate") -> dg.AssetChecksDefinition:
    asset, others = GATES[gate]

    @dg.asset_check(
        asset=dg.AssetKey(asset),
        name=f"{gate}_gate",
        additional_deps=[dg.AssetKey(key) for key in others],
        blocking=True,
        retry_policy=RETRY,
        pool=POOL,
        description=DESCRIPTIONS[gate],
    )
    def check(
        context: dg.AssetCheckExecutionContext, project: dg.ResourceParam[Project]
    ) -> dg.AssetCheckResult:
        return run_gate_check(gate, context, project)

    return check


def run_gate_check(gate: "Gate", context: Any, project: Project) -> dg.AssetCheckResult:
    """Run a gate, keep its results in ``ops.data_quality``, and say how it ended."""
    # Great Expectations takes seconds to import.
    from data_quality.gates import record_results, run_gate

    def run() -> "GateReport | None":
        report = run_gate(project.settings, gate, run_cutoff(context), context.run.run_id)
        record_results(project.settings, report)
        if not report.is_passed:
            raise _GateStopped(report)
        return report

    told: list[str] = []
    try:
        with explained(f"The gate '{gate}' could not be run: ", but=_GateStopped):
            # Only a gate that passed is finished.
            report = do_once(project, f"{gate} gate", run, lambda: None, told.append)
    except _GateStopped as stopped:
        report = stopped.report
    if report is None:
        return dg.AssetCheckResult(
            passed=True, description=told[0], metadata={SUMMARY: f"The {gate} gate: {told[0]}"}
        )
    return dg.AssetCheckResult(
        passed=report.is_passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=report.sentence,
        metadata={**describe_gate(report), **_show_health(report)},
    )


class _GateStopped(Exception):  # noqa: N818 - says what happened
    """A gate that did not pass."""

    def __init__(self, report: "GateReport") -> None:
        super().__init__(report.sentence)
        self.report = report


def _show_health(report: "GateReport") -> dict[str, Any]:
    """Return the features that moved most since the champion was trained, as table and plot."""
    if report.health is None:
        return {}
    frame = report.health.to_pandas()
    names = ["feature", "null_share", "quantile_05", "quantile_50", "quantile_95"]
    by = "psi_training" if frame["psi_training"].notna().any() else "psi_last_run"
    ranked = frame.sort_values([by, "null_share"], ascending=False, na_position="last")
    shown: dict[str, Any] = {
        "feature health": preview(ranked[[*names, "psi_training", "psi_last_run", "age_days"]], 30)
    }
    moved = ranked[ranked[by].notna()].head(15)
    if len(moved):
        what = "the training set" if by == "psi_training" else "the last good run"
        shown["feature drift"] = plot_bars(
            list(moved["feature"]),
            list(moved[by]),
            title=f"Population stability index against {what}",
        )
    return shown


def describe_gate(report: "GateReport") -> dict[str, Any]:
    """Return a gate's report as metadata: the checks that failed, or all of them."""
    results = report.results
    failed = results[~results["is_passed"].astype(bool)]
    shown = failed if len(failed) else results
    columns = ["check_name", "column_name", "severity", "observed", "expected", "message"]
    renamed = shown[columns].rename(columns={"check_name": "check", "column_name": "column"})
    return {
        SUMMARY: report.sentence,
        "checks": len(results),
        "failed": len(failed),
        "results": preview(renamed, rows=30),
    }
