"""The gates: ``run_gate`` checks all suites of one in a pass and says whether the run may go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from typing import Literal, get_args

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from clv_pipeline.features.registry import Feature, RegistryError, load_features
from clv_pipeline.serving import parity
from clv_pipeline.serving.fresh import FILE as FRESH_FILE
from clv_pipeline.serving.publishing import open_version
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, quote_literal
from data_quality import drift, health, leakage, recomputing
from data_quality.measuring import Finding, check_suite, explain
from data_quality.pseudonyms import Pseudonymizer, load_pseudonymizer
from data_quality.results import (
    GateReport,
    build_report,
    find_refusal,
    latest_results,
    record_results,
)
from data_quality.rules import Rule, Suite
from data_quality.suites import as_of, features, online, predictions, published, raw, staging
from data_quality.suites import leakage as suspects
from data_quality.suites.run import Run

Gate = Literal["raw", "staging", "as_of", "features", "predictions", "published"]
GATES: tuple[Gate, ...] = get_args(Gate)
_HERE = Path(__file__).parent

__all__ = [
    "GATES",
    "Gate",
    "GateReport",
    "find_refusal",
    "latest_results",
    "record_results",
    "run_gate",
]


def run_gate(
    settings: Settings,
    gate: Gate,
    cutoff: Cutoff,
    run_id: str,
    database: Path | None = None,
) -> GateReport:
    """Check everything that a gate holds.

    The warehouse is only read; ``record_results`` writes what was found.

    Parameters
    ----------
    settings
        Limits, and where the warehouse lies.
    gate
        Which gate.
    cutoff
        The day D that the run is for.
    run_id
        Names the run.
    database
        The candidate publication to audit, a DuckDB file; for 'published' alone, which needs it.

    Returns
    -------
    GateReport
        Also when checks fail or can't be carried out: no check raises.

    Raises
    ------
    ValueError
        If there is no such gate, or ``database`` is missing where it is needed.
    WarehouseError
        If the warehouse can't be opened.
    """
    if gate not in GATES:
        raise ValueError(f"'{gate}' is no gate; there are {', '.join(GATES)}.")
    if (database is None) == (gate == "published"):
        raise ValueError("The gate 'published', and it alone, needs the file to audit.")
    checked_at = datetime.now(UTC).replace(tzinfo=None)
    pseudonymize = load_pseudonymizer(settings)
    with open_warehouse(settings, read_only=True) as connection:
        inspection = _Inspection(
            connection, Run(settings, cutoff, run_id, _tables(connection)), pseudonymize
        )
        if database is None or inspection.attach(database):
            getattr(inspection, f"check_{gate}")()
    report = build_report(gate, cutoff, run_id, checked_at, inspection.findings)
    return replace(
        report,
        reference=inspection.reference,
        training_reference=inspection.training_reference,
        health=inspection.health,
    )


class _Inspection:
    """One gate at work: collects findings."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, run: Run, pseudonymize: Pseudonymizer
    ) -> None:
        self.connection = connection
        self.run = run
        self.pseudonymize = pseudonymize
        self.findings: list[Finding] = []
        self.reference: pa.Table | None = None
        self.database: Path | None = None
        self.training_reference: pa.Table | None = None
        self.health: pa.Table | None = None

    def check_raw(self) -> None:
        self._check(*raw.suites(self.run))

    def check_staging(self) -> None:
        self._check(*staging.suites(self.run))

    def check_as_of(self) -> None:
        self._check(*as_of.suites(self.run))
        self._attempt(as_of.FEATURES, "no_peeking", self._recompute)
        self._attempt(as_of.FEATURES, "no_feature_knows_the_label", self._correlate)

    def check_features(self) -> None:
        self._attempt(features.TABLE, "in_range", self._check_features)

    def check_predictions(self) -> None:
        self._check(*predictions.suites(self.run))

    def check_published(self) -> None:
        self._check(*published.suites(self.run))
        if self.database is not None and (self.database.parent / FRESH_FILE).exists():
            self._attempt(online.TABLE, "online_equals_offline", self._compare_online)

    def attach(self, database: Path) -> bool:
        """Attach the candidate publication; whether it could be opened."""
        self.database = database
        try:
            self.connection.execute(
                f"ATTACH {quote_literal(str(database))} AS {published.PUBLICATION} (READ_ONLY)"
            )
        except duckdb.Error as error:
            self._fail("clv", "opens", f"the file to publish can't be opened: {explain(error)}")
            return False
        return True

    def _check(self, *suites: Suite) -> None:
        for suite in suites:
            found = check_suite(self.connection, suite, self.pseudonymize)
            # A table that several suites miss is missing once.
            self.findings += [finding for finding in found if finding not in self.findings]

    def _check_frame(self, name: str, frame: pd.DataFrame | pa.Table, suite: Suite) -> None:
        self.connection.register(name, frame)
        try:
            self._check(suite)
        finally:
            self.connection.unregister(name)

    def _recompute(self) -> None:
        for cutoff, is_training in self._cutoffs_to_recompute():
            sample = recomputing.compare_sample(self.connection, self.run.settings, cutoff)
            suite = suspects.recomputed(self.run, "recomputed", is_training_cutoff=is_training)
            self._check_frame("recomputed", sample, suite)

    def _compare_online(self) -> None:
        folder = self.database.parent if self.database is not None else Path()
        store = open_version(self.run.settings, folder)
        try:
            frame = parity.compare(self.connection, store, folder, self.run.cutoff)
        finally:
            store.close()
        self._check_frame("compared", frame, online.equality(self.run, "compared"))

    def _cutoffs_to_recompute(self) -> list[tuple[pd.Timestamp, bool]]:
        rows = self.connection.execute(
            "SELECT max(cutoff_date) FROM as_of.customer_labels WHERE cutoff_date < ?",
            [self.run.cutoff.day],
        ).fetchall()
        return [(self.run.cutoff.day, False), *((row[0], True) for row in rows if row[0])]

    def _correlate(self) -> None:
        frame = leakage.correlate_with_label(self.connection, self._features(), self.run.cutoff.day)
        self._check_frame("correlated", frame, suspects.label_correlations(self.run, "correlated"))

    def _check_features(self) -> None:
        found = self._features()
        self._check(features.values(self.run, found))
        self._attempt(features.TABLE, "drift", lambda: self._check_drift(found))

    def _check_drift(self, found: tuple[Feature, ...]) -> None:
        cutoff = self.run.cutoff.day
        inputs = tuple(feature for feature in found if feature.is_model_input)
        sample = drift.read_sample(self.connection, found, cutoff)
        described = drift.describe(sample, inputs, self.pseudonymize)
        self.reference = drift.to_reference(described, cutoff, self.run.run_id)
        before = drift.read_reference(self.connection, cutoff)
        rows: list[tuple[str, float, bool]] = []
        if before is not None and len(sample) >= drift.MIN_SAMPLE:
            judged = tuple(feature for feature in inputs if not feature.is_of_calendar)
            now = drift.describe(sample, judged, self.pseudonymize, before)
            for name, distribution in now.items():
                moved = drift.compare(before.distributions[name], distribution)
                rows.append((name, moved.psi, moved.is_collapsed))
        frame = pd.DataFrame(rows, columns=["feature", "psi", "is_collapsed"]).astype(
            {"feature": object, "psi": np.float64, "is_collapsed": bool}
        )
        gap = None if before is None else (cutoff - before.cutoff).days
        self._check_frame("drifted", frame, features.drift(self.run, inputs, "drifted", gap))
        last = {name: psi for name, psi, _ in rows}
        self._attempt(features.TABLE, "health", lambda: self._check_health(found, sample, last))

    def _check_health(
        self, found: tuple[Feature, ...], sample: pd.DataFrame, psi_last_run: dict[str, float]
    ) -> None:
        cutoff, settings = self.run.cutoff.day, self.run.settings
        # Values of people who are few say nothing of a distribution.
        known = len(sample) >= drift.MIN_SAMPLE
        inputs = tuple(feature for feature in found if feature.is_model_input)
        training = None
        if known:
            training = health.read_training(self.connection, settings, inputs, self.pseudonymize)
        now: dict[str, drift.Distribution] = {}
        if training is not None:
            self.training_reference = training.rows
            now = drift.describe(sample, inputs, self.pseudonymize, training.reference)
        run = drift.Reference(self.run.run_id, cutoff, {})
        ages = health.read_ages(self.connection, cutoff)
        measured = health.measure(sample, found, run, now, training, psi_last_run, ages)
        self.health = health.to_table(measured)
        self._check_frame("health", self.health, features.health(self.run, "health"))

    def _features(self) -> tuple[Feature, ...]:
        installed = self.run.settings.paths.dbt_project
        return load_features(installed if installed.exists() else None)

    def _attempt(self, table: str, check_name: str, check: Callable[[], None]) -> None:
        """Carry out a check that computes in Python; an error in it is a failure of its own."""
        try:
            check()
        except Exception as error:
            # Others than these may repeat values of the data.
            if isinstance(error, RegistryError):
                why = str(error).rstrip(".")
            else:
                why = explain(error) if isinstance(error, duckdb.Error) else _name(error)
            self._fail(table, check_name, f"check '{check_name}' could not be carried out: {why}")

    def _fail(self, table: str, check_name: str, why: str) -> None:
        rule = Rule(check_name, "", why)
        message = f"{table}: {why}"
        self.findings.append(Finding(table, rule, False, None, None, None, (), message))


def _tables(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    rows = connection.execute(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables"
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)


def _name(error: Exception) -> str:
    """Say what kind of error it is and where it arose, and nothing of what it speaks of."""
    frames = reversed(extract_tb(error.__traceback__))
    place = next(frame for frame in frames if Path(frame.filename).parent == _HERE)
    return f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
