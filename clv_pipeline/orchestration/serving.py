"""What the scoring job does after the features, step by step, as plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from clv_pipeline.orchestration import ledger
from clv_pipeline.publication import PublicationRefusedError, publish
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse, read_frame, replace_rows

if TYPE_CHECKING:
    from clv_pipeline.models.clv import CLVModel
    from data_quality.gates import GateReport

# The gates that must have passed for a cutoff before it may be published.
GATES_BEFORE_PUBLICATION = ("raw", "staging", "as_of", "features", "predictions")


class ServingError(RuntimeError):
    """A step of scoring lacks what an earlier step makes; the message says which."""


@dataclass(frozen=True)
class PublicationOutcome:
    """What became of a publication.

    Attributes
    ----------
    rows
        Rows per published table; empty when it was refused.
    gate
        The audit of the new version; None when it was refused before.
    refusal
        Why nothing was published, in a sentence; None when it was.
    """

    rows: dict[str, int] = field(default_factory=dict)
    gate: GateReport | None = None
    refusal: str | None = None


def score(
    settings: Settings,
    cutoff: Cutoff,
    run_id: str,
    warn: Callable[[str], object] | None = None,
) -> pd.DataFrame:
    """Let the champion answer for every customer of a cutoff, and keep it in ``scores``.

    Where it can't be read, an earlier version answers; where none can, or none was ever promoted,
    a model of that day's purchase histories does, which is kept and never promoted.

    Parameters
    ----------
    warn
        Told in a sentence when something else stands in for the champion.

    Raises
    ------
    ServingError
        If there are no features as of the cutoff.
    """
    from clv_pipeline.models import store
    from clv_pipeline.scoring import score_customers

    features = _read_cutoff(settings, "features.customer_features", cutoff)
    note: str | None
    try:
        model, manifest, note = store.load_serving(settings.paths.models)
    except store.ModelStoreError as error:
        model, manifest = _stand_in(settings, features, run_id, str(error))
        note = str(manifest["notes"][0])
    if note is not None and warn is not None:
        warn(note)
    predictions = score_customers(model, features, settings, run_id, str(manifest["model_version"]))
    with open_warehouse(settings) as connection:
        replace_rows(
            connection, "scores.customer_predictions", predictions, {"cutoff_date": cutoff.day}
        )
    return predictions


def _stand_in(
    settings: Settings, features: pd.DataFrame, run_id: str, why: str
) -> tuple[CLVModel, dict[str, Any]]:
    """Make what answers where no model can be read, and keep it for what explains its answers."""
    from clv_pipeline.features.registry import load_features
    from clv_pipeline.models import store
    from clv_pipeline.stand_in import make_stand_in

    columns = load_features(settings.paths.dbt_project)
    model, manifest = make_stand_in(settings, features, columns, run_id, why)
    settings.paths.models.mkdir(parents=True, exist_ok=True)
    store.save_model(settings.paths.models, model, manifest)
    return model, manifest


def stand(settings: Settings, cutoff: Cutoff) -> pd.DataFrame:
    """Decide where the customers of a cutoff stand, and keep it in ``scores``."""
    from clv_pipeline.decisions.reasons import give_reasons
    from clv_pipeline.decisions.standing import decide
    from clv_pipeline.features.registry import load_features
    from clv_pipeline.models import store
    from clv_pipeline.models.explaining import explain_values
    from clv_pipeline.scoring import estimate_alive

    predictions = _read_cutoff(settings, "scores.customer_predictions", cutoff)
    features = _read_cutoff(settings, "features.customer_features", cutoff)
    version = str(predictions["model_version"].iloc[0])
    model, manifest = store.load_model(settings.paths.models, version)
    horizons = manifest["horizons"]
    backtested = tuple(int(h) for h, entry in horizons.items() if entry["evaluation_cutoffs"])
    alive = estimate_alive(model, features)
    longest = max(settings.value.horizons)
    values = predictions[predictions["horizon_days"] == longest].set_index("customer_id")["clv"]
    explanation = explain_values(model, features, values, longest, load_features())
    reasons = give_reasons(features, explanation)
    standing = decide(settings, predictions, features, alive, backtested, reasons)
    with open_warehouse(settings) as connection:
        replace_rows(connection, "scores.customer_standing", standing, {"cutoff_date": cutoff.day})
    return standing


def total(settings: Settings, cutoff: Cutoff) -> pd.DataFrame:
    """Add the values of a cutoff up by segment and country, and keep it in ``scores``."""
    from clv_pipeline.models import store
    from clv_pipeline.scoring import total_values

    predictions = _read_cutoff(settings, "scores.customer_predictions", cutoff)
    standing = _read_cutoff(settings, "scores.customer_standing", cutoff)
    features = _read_cutoff(settings, "features.customer_features", cutoff)
    version, run_id = (str(predictions[name].iloc[0]) for name in ("model_version", "run_id"))
    model, _ = store.load_model(settings.paths.models, version)
    groups = standing[["customer_id", "segment"]].merge(
        features[["customer_id", "country"]], on="customer_id", how="left"
    )
    totals = total_values(model, predictions, groups, run_id, version)
    with open_warehouse(settings) as connection:
        replace_rows(connection, "scores.clv_totals", totals, {"cutoff_date": cutoff.day})
    return totals


def explain_drivers(settings: Settings, cutoff: Cutoff) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say what drives the values of a cutoff, and keep it in ``scores``.

    Returns
    -------
    tuple of DataFrame
        Rows of ``scores.feature_effects`` and of ``scores.partial_dependence``.
    """
    from clv_pipeline.decisions.drivers import describe_drivers
    from clv_pipeline.features.registry import load_features
    from clv_pipeline.models import store

    predictions = _read_cutoff(settings, "scores.customer_predictions", cutoff)
    standing = _read_cutoff(settings, "scores.customer_standing", cutoff)
    features = _read_cutoff(settings, "features.customer_features", cutoff)
    version, run_id = (str(predictions[name].iloc[0]) for name in ("model_version", "run_id"))
    model, _ = store.load_model(settings.paths.models, version)
    values = predictions.pivot(index="customer_id", columns="horizon_days", values="clv")
    segments = standing.set_index("customer_id")["segment"]
    found = describe_drivers(
        model, features, values, segments, load_features(), settings.model.seed
    )
    tables = [
        frame.assign(cutoff_date=cutoff.day, model_version=version, run_id=run_id)
        for frame in found
    ]
    with open_warehouse(settings) as connection:
        for name, frame in zip(("feature_effects", "partial_dependence"), tables, strict=True):
            replace_rows(connection, f"scores.{name}", frame, {"cutoff_date": cutoff.day})
    return tables[0], tables[1]


def write_actions(settings: Settings) -> pd.DataFrame:
    """Write what to do about each segment where the marts find it."""
    from clv_pipeline.segments import SEGMENT_ACTIONS

    actions = pd.DataFrame(SEGMENT_ACTIONS.items(), columns=["segment", "what_to_do"])
    with open_warehouse(settings) as connection:
        replace_rows(connection, "scores.segment_actions", actions)
    return actions


def publish_cutoff(settings: Settings, cutoff: Cutoff, run_id: str) -> PublicationOutcome:
    """Publish, unless a gate's newest results or the audit of the new version speak against it."""
    from clv_pipeline.serving.publishing import add_online_store, finish_publication
    from data_quality.gates import record_results, run_gate

    refusal = find_refusal(settings, cutoff)
    if refusal is not None:
        return PublicationOutcome(refusal=f"{refusal} The last good publication stays.")
    found: list[GateReport] = []

    def audit(database: Path) -> str | None:
        report = run_gate(settings, "published", cutoff, run_id, database)
        found.append(report)
        return None if report.is_passed else report.sentence

    try:
        published = publish(
            settings, run_id, cutoff, audit, lambda folder: add_online_store(settings, folder)
        )
        finish_publication(settings, published.version)
    except PublicationRefusedError as error:
        return PublicationOutcome(gate=found[0] if found else None, refusal=str(error))
    finally:
        for report in found:
            record_results(settings, report)
    return PublicationOutcome(published.rows, found[0])


def find_refusal(settings: Settings, cutoff: Cutoff) -> str | None:
    """Say why a cutoff must not be published, by the newest results of each gate.

    Blocking checks hold back only what runs with them; this holds back any run.
    """
    from data_quality.gates import find_refusal as find_failed_gate
    from data_quality.gates import latest_results

    scored_at = ledger.last_scored_at(settings, cutoff)
    if scored_at is None:
        return f"There are no predictions as of {cutoff}."
    refusal = find_failed_gate(settings, cutoff, GATES_BEFORE_PUBLICATION)
    if refusal is not None:
        return refusal
    results = latest_results(settings, cutoff)
    checked_at = results.loc[results["gate"] == "predictions", "checked_at"].max()
    if checked_at < scored_at:
        return f"The predictions as of {cutoff} were written after their gate last ran."
    return None


def _read_cutoff(settings: Settings, table: str, cutoff: Cutoff) -> pd.DataFrame:
    with open_warehouse(settings, read_only=True) as connection:
        frame = read_frame(connection, f"SELECT * FROM {table} WHERE cutoff_date = ?", [cutoff.day])
    if frame.empty:
        raise ServingError(f"{table} holds no customer as of {cutoff}: run the job daily_scoring.")
    return frame
