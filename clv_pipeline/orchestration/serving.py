"""What the scoring job does after the features, step by step, as plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from clv_pipeline.drawing import held_share
from clv_pipeline.orchestration import ledger
from clv_pipeline.parallel import count_workers
from clv_pipeline.progress import Counter
from clv_pipeline.publication import PublicationRefusedError, publish
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import (
    open_warehouse,
    read_frame,
    read_row,
    replace_in_batches,
    replace_rows,
)

if TYPE_CHECKING:
    from clv_pipeline.models.clv import CLVModel
    from data_quality.gates import GateReport

# Customers whose values are taken apart feature by feature, where there are more.
DRIVER_CUSTOMERS = 50_000
# What DuckDB needs to hand out millions of customers and to take their answers, while Python works
# on them beside it. Given more, it would fill it with what is only written once.
STREAMING_BYTES = 700e6
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


@dataclass(frozen=True)
class Scored:
    """What a scoring wrote.

    Attributes
    ----------
    rows
        Of ``scores.customer_predictions``.
    customers
        Who were answered for.
    model_version
        What answered.
    """

    rows: int
    customers: int
    model_version: str


def score(
    settings: Settings,
    cutoff: Cutoff,
    run_id: str,
    warn: Callable[[str], object] | None = None,
    tell: Callable[[str], object] | None = None,
) -> Scored:
    """Let the champion answer for every customer of a cutoff, and keep it in ``scores``.

    Customers go through in batches, so that memory does not grow with the shop.

    Where it can't be read, an earlier version answers; where none can, or none was ever promoted,
    a model of that day's purchase histories does, which is kept and never promoted.

    Parameters
    ----------
    warn
        Told in a sentence when something else stands in for the champion.
    tell
        Told now and then how far it has come.

    Raises
    ------
    ServingError
        If there are no features as of the cutoff, or not of every customer, or the champion was
        trained for other values, or a later cutoff was scored for other horizons.
    """
    from clv_pipeline.models import store
    from clv_pipeline.models.manifest import describe_question, find_other_question
    from clv_pipeline.scoring import (
        FEATURES,
        PREDICTIONS,
        refuse_other_horizons,
        score_in_batches,
        score_on_spark,
    )

    count = _count_rows(settings, FEATURES, cutoff)
    with open_warehouse(settings, read_only=True) as connection:
        if (share := held_share(connection, [cutoff.day])) < 1:
            raise ServingError(
                f"As of {cutoff} there are features of {share:.3%} of the customers alone, to "
                "learn from: run the job daily_scoring, which builds them for everybody."
            )
        refuse_other_horizons(connection, settings, cutoff)
    note: str | None
    try:
        model, manifest, note = store.load_serving(settings.paths.models)
        if other := find_other_question(manifest, describe_question(settings)):
            raise ServingError(f"The champion {other}: run `clv train` first.")
    except store.ModelStoreError as error:
        model, manifest = _stand_in(settings, cutoff, run_id, str(error))
        note = str(manifest["notes"][0])
    if note is not None and warn is not None:
        warn(note)
    version = str(manifest["model_version"])
    progress = Counter(count, "customers", tell or (lambda text: None))
    with open_warehouse(settings, most_bytes=STREAMING_BYTES) as connection:
        if settings.engine.distributes(count):
            batches: Any = score_on_spark(settings, model.columns, cutoff, run_id, version)
        else:
            batches = score_in_batches(
                connection,
                model,
                settings,
                cutoff,
                run_id,
                version,
                progress,
                count_workers(settings, count),
            )
        rows = replace_in_batches(connection, PREDICTIONS, batches, {"cutoff_date": cutoff.day})
    return Scored(rows, count, version)


def recall_scores(settings: Settings, cutoff: Cutoff) -> Scored:
    """Say what the scoring of a cutoff has written."""
    from clv_pipeline.scoring import PREDICTIONS

    rows = _count_rows(settings, PREDICTIONS, cutoff)
    with open_warehouse(settings, read_only=True) as connection:
        query = f"SELECT any_value(model_version) FROM {PREDICTIONS} WHERE cutoff_date = ?"
        (version,) = read_row(connection, query, [cutoff.day])
    return Scored(rows, rows // len(settings.value.horizons), str(version))


def _stand_in(
    settings: Settings, cutoff: Cutoff, run_id: str, why: str
) -> tuple[CLVModel, dict[str, Any]]:
    """Make what answers where no model can be read, and keep it for what explains its answers."""
    from clv_pipeline.features.registry import load_features
    from clv_pipeline.models import store
    from clv_pipeline.models.panel import ALWAYS_KEPT
    from clv_pipeline.scoring import select_features
    from clv_pipeline.stand_in import make_stand_in

    columns = load_features(settings.paths.dbt_project)
    with open_warehouse(settings, read_only=True) as connection:
        query = select_features(connection, ALWAYS_KEPT)
        features = read_frame(connection, query, [cutoff.day])
    model, manifest = make_stand_in(settings, features, columns, run_id, why)
    settings.paths.models.mkdir(parents=True, exist_ok=True)
    store.save_model(settings.paths.models, model, manifest)
    return model, manifest


def stand(settings: Settings, cutoff: Cutoff, tell: Callable[[str], object] | None = None) -> int:
    """Decide where the customers of a cutoff stand, and keep it in ``scores``; return how many.

    Parameters
    ----------
    tell
        Told now and then how far it has come.
    """
    from clv_pipeline.decisions.shop import read_shop, stand_in_batches
    from clv_pipeline.features.registry import load_features
    from clv_pipeline.models import store
    from clv_pipeline.scoring import FEATURES, PREDICTIONS

    _count_rows(settings, FEATURES, cutoff)
    count = _count_rows(settings, PREDICTIONS, cutoff) // len(settings.value.horizons)
    with open_warehouse(settings, read_only=True) as connection:
        shop = read_shop(connection, settings, cutoff)
    with open_warehouse(settings, most_bytes=STREAMING_BYTES) as connection:
        model, manifest = store.load_model(settings.paths.models, shop.model_version)
        horizons = manifest["horizons"]
        backtested = tuple(int(h) for h, entry in horizons.items() if entry["evaluation_cutoffs"])
        progress = Counter(2 * count, "looks at customers", tell or (lambda text: None))
        batches = stand_in_batches(
            connection,
            settings,
            cutoff,
            model,
            shop,
            load_features(),
            backtested,
            progress,
            count_workers(settings, count),
        )
        return replace_in_batches(
            connection, "scores.customer_standing", batches, {"cutoff_date": cutoff.day}
        )


def total(settings: Settings, cutoff: Cutoff) -> pd.DataFrame:
    """Add the values of a cutoff up by segment and country, and keep it in ``scores``."""
    from clv_pipeline.evaluation.groups import GROUP_KINDS, PRIOR_SPREAD
    from clv_pipeline.models import store
    from clv_pipeline.scoring import FEATURES, PREDICTIONS, sum_groups

    # Without features, which fall behind before predictions do, nobody would have a country.
    _count_rows(settings, FEATURES, cutoff)
    _count_rows(settings, PREDICTIONS, cutoff)
    parts: list[pd.DataFrame] = []
    with open_warehouse(settings) as connection:
        # One horizon at a time: there are several rows per customer.
        for horizon in settings.value.horizons:
            rows = read_frame(connection, _GROUPED, [cutoff.day, horizon])
            version, run_id = (str(rows[name].iloc[0]) for name in ("model_version", "run_id"))
            if not parts:
                model, manifest = store.load_model(settings.paths.models, version)
            learned = manifest["horizons"].get(str(model.bridged_.get(horizon, horizon)), {})
            spread = float(learned.get("group_spread", PRIOR_SPREAD))
            parts.append(sum_groups(model, rows, GROUP_KINDS, run_id, version, spread))
        totals = pd.concat(parts, ignore_index=True)
        replace_rows(connection, "scores.clv_totals", totals, {"cutoff_date": cutoff.day})
    return totals


_GROUPED = """
SELECT
    cutoff_date,
    horizon_days,
    clv,
    probability_purchase,
    standing.segment,
    features.country,
    scores.model_version,
    scores.run_id
FROM scores.customer_predictions AS scores
LEFT JOIN scores.customer_standing AS standing USING (customer_id, cutoff_date)
LEFT JOIN features.customer_features AS features USING (customer_id, cutoff_date)
WHERE cutoff_date = ? AND horizon_days = ?
ORDER BY customer_id
"""


def explain_drivers(settings: Settings, cutoff: Cutoff) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say what drives the values of a cutoff, and keep it in ``scores``.

    Of many customers, a sample of `DRIVER_CUSTOMERS` is looked at.

    Returns
    -------
    tuple of DataFrame
        Rows of ``scores.feature_effects`` and of ``scores.partial_dependence``.
    """
    from clv_pipeline.decisions.drivers import describe_drivers
    from clv_pipeline.features.registry import load_features
    from clv_pipeline.models import store
    from clv_pipeline.scoring import FEATURES

    _count_rows(settings, FEATURES, cutoff)
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


def _count_rows(settings: Settings, table: str, cutoff: Cutoff) -> int:
    with open_warehouse(settings, read_only=True) as connection:
        query = f"SELECT count(*) FROM {table} WHERE cutoff_date = ?"
        count = int(read_row(connection, query, [cutoff.day])[0])
    if not count:
        raise ServingError(f"{table} holds no customer as of {cutoff}: run the job daily_scoring.")
    return count


def _read_cutoff(settings: Settings, table: str, cutoff: Cutoff) -> pd.DataFrame:
    """Read a cutoff's rows; of many customers, those with the smallest MD5 of their id."""
    with open_warehouse(settings, read_only=True) as connection:
        frame = read_frame(
            connection,
            f"""
            SELECT * FROM {table} WHERE cutoff_date = $day AND customer_id IN (
                SELECT customer_id FROM features.customer_features WHERE cutoff_date = $day
                ORDER BY md5(customer_id), customer_id LIMIT {DRIVER_CUSTOMERS}
            )
            """,
            {"day": cutoff.day},
        )
    if frame.empty:
        raise ServingError(f"{table} holds no customer as of {cutoff}: run the job daily_scoring.")
    return frame
