"""What the training job does, step by step, as plain functions over the warehouse and the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd

from clv_pipeline.drawing import IS_DRAWN, ceiling_of, panel_halvings, share_of
from clv_pipeline.orchestration.partitions import data_days
from clv_pipeline.settings import ModelSettings, Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import (
    has_table,
    open_warehouse,
    quote_identifier,
    read_frame,
    read_row,
    write_atomically,
)

if TYPE_CHECKING:
    from clv_pipeline.features.registry import Feature

CHALLENGER = "challenger.json"
Tell = Callable[[str, float], None]


class LearningError(RuntimeError):
    """A step of training lacks what an earlier step makes; the message says which."""


@dataclass(frozen=True)
class Verdict:
    """What became of a challenger.

    Attributes
    ----------
    version
        The challenger.
    champion
        The version that serves from now on.
    is_promoted
        Whether the challenger took over.
    reason
        The gate's reason in words.
    figures
        What serves each horizon, and how good it was on the newest cutoff that it had not seen.
    """

    version: str
    champion: str
    is_promoted: bool
    reason: str
    figures: pd.DataFrame


def matured_cutoffs(settings: Settings, cutoff: Cutoff) -> tuple[Cutoff, ...]:
    """Return the cutoffs that training for a day needs, given the data that have landed.

    Raises
    ------
    LearningError
        If no transaction has landed.
    """
    from clv_pipeline.planning import required_cutoffs

    days = data_days(settings)
    if days is None:
        raise LearningError("No transaction has landed, so there is nothing to learn from.")
    return required_cutoffs(settings, cutoff, days[0])


def train(
    settings: Settings,
    cutoff: Cutoff,
    run_id: str,
    tell: Tell | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Fit a challenger, ask the gate about it, and save it with its figures.

    Parameters
    ----------
    overrides
        Settings of [model] that differ from clv.toml in this run.

    Returns
    -------
    tuple
        The challenger's manifest and its leaderboard.
    """
    from clv_pipeline.engines.counting import count_histories
    from clv_pipeline.evaluation.backtest import dump_forecasts
    from clv_pipeline.features.services import find_service
    from clv_pipeline.models import store
    from clv_pipeline.models.panel import Panel, leave_out
    from clv_pipeline.models.room import limit_matrices
    from clv_pipeline.orchestration.figures import collect_figures
    from clv_pipeline.training import decide_challenger, train_challenger

    if overrides:
        model = ModelSettings.model_validate({**settings.model.model_dump(), **overrides})
        settings = settings.model_copy(update={"model": model})
    columns = leave_out(find_service(settings).inputs, settings.model.left_out_features)
    with limit_matrices(settings):
        features, labels = read_panel(settings, matured_cutoffs(settings, cutoff), columns)
        panel = Panel.build(features, labels, columns)
        del features, labels
        if settings.model.neural:
            panel = replace(panel, days=read_order_days(settings, panel.cutoffs))
        counts = None
        if settings.engine.name == "spark":
            counts = count_histories(settings, panel.cutoffs)
        scratch = settings.paths.scratch
        result = train_challenger(settings, columns, panel, cutoff, run_id, tell, scratch, counts)
    decision = decide_challenger(result)
    manifest = {
        **result.manifest,
        "notes": [*result.manifest["notes"], *_describe_sample(settings, panel.cutoffs)],
        "decision": {"promote": decision.promote, "reason": decision.reason},
    }
    figures = collect_figures(settings, result)
    folder = settings.paths.models
    folder.mkdir(parents=True, exist_ok=True)
    store.save_model(folder, result.model, manifest, dump_forecasts(result.backtest) | figures)
    # A version that was there keeps its manifest; today's decision may be another one.
    pointer = {"model_version": manifest["model_version"], **manifest["decision"]}
    write_atomically(folder / CHALLENGER, json.dumps(pointer, indent=1).encode())
    return manifest, result.leaderboard


def promote_if_better(settings: Settings, run_id: str) -> Verdict:
    """Carry out what the gate decided about the newest challenger.

    Raises
    ------
    LearningError
        If there is no challenger.
    """
    from clv_pipeline.models import store

    folder = settings.paths.models
    path = folder / CHALLENGER
    if not path.exists():
        raise LearningError("There is no challenger: run the job 'training'.")
    pointer = json.loads(path.read_text(encoding="utf-8"))
    version, reason = str(pointer["model_version"]), str(pointer["reason"])
    if pointer["promote"]:
        store.promote(folder, version, reason, run_id)
    champion = store.champion_version(folder)
    if champion is None:
        raise LearningError(f"{version} was not promoted and there is no champion: {reason}")
    return Verdict(version, champion, champion == version, reason, _figures_of(folder, champion))


def _figures_of(folder: Path, version: str) -> pd.DataFrame:
    from clv_pipeline.models import store

    manifest = store.read_manifest(folder, version)
    figures = manifest["figures"]
    return pd.DataFrame(
        {"horizon": f"{days} days", "served_by": entry["served_by"], **figures.get(days, {})}
        for days, entry in manifest["horizons"].items()
    )


def mark_champion(settings: Settings) -> None:
    """Set ``is_champion`` of the leaderboard to the models that serve each horizon now."""
    from clv_pipeline.models import store

    folder = settings.paths.models
    champion = store.champion_version(folder)
    if champion is None or not settings.paths.warehouse.exists():
        return
    horizons = store.read_manifest(folder, champion)["horizons"]
    with open_warehouse(settings) as connection:
        if not has_table(connection, "scores", "model_leaderboard"):
            return
        connection.begin()
        connection.execute("UPDATE scores.model_leaderboard SET is_champion = false")
        for horizon, entry in horizons.items():
            connection.execute(
                "UPDATE scores.model_leaderboard SET is_champion = true "
                "WHERE model_version = ? AND horizon_days = ? AND model = ?",
                [champion, int(horizon), entry["served_by"]],
            )
        connection.commit()


def read_panel(
    settings: Settings, cutoffs: tuple[Cutoff, ...], columns: Sequence[Feature]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the features and the matured labels of some cutoffs.

    Parameters
    ----------
    columns
        The features that are wanted; those that the champion reads are read, too.

    Raises
    ------
    LearningError
        If there are no features as of one of the cutoffs.
    """
    days = [cutoff.day for cutoff in cutoffs]
    with open_warehouse(settings, read_only=True) as connection:
        if not has_table(connection, "features", "customer_features"):
            raise LearningError("There are no features yet: run the job 'training'.")
        where = "WHERE list_contains(?, cutoff_date)"
        asked: list[Any] = [days]
        halvings = panel_halvings(connection, settings, days)
        if halvings:
            where = f"{where} AND {IS_DRAWN}"
            asked.append(ceiling_of(halvings))
        features = read_features(connection, where, asked, _read_names(settings, columns))
        labels = read_frame(connection, f"SELECT * FROM as_of.customer_labels {where}", asked)
    missing = set(days) - set(features["cutoff_date"].dt.date)
    if missing:
        raise LearningError(
            f"There are no features as of {min(missing)}, which training needs: run the job "
            "'training', which builds them."
        )
    return features, labels


def _describe_sample(settings: Settings, cutoffs: Sequence[Cutoff]) -> list[str]:
    with open_warehouse(settings, read_only=True) as connection:
        halvings = panel_halvings(connection, settings, [cutoff.day for cutoff in cutoffs])
    if not halvings:
        return []
    return [
        f"Learned from {share_of(halvings):.3%} of the customers, drawn by their ids alike: with "
        f"all of them the cutoffs hold more than {settings.model.max_panel_rows:,} rows."
    ]


def _read_names(settings: Settings, columns: Sequence[Feature]) -> list[str]:
    """Name what the challenger may read, and what the champion does: it is asked the same."""
    from clv_pipeline.features.registry import load_features
    from clv_pipeline.models import store

    try:
        champion = store.champion_version(settings.paths.models)
        manifest = store.read_manifest(settings.paths.models, champion) if champion else {}
    except store.ModelStoreError:
        manifest = {}
    wanted = {feature.name for feature in columns}
    wanted |= set(manifest.get("recipe", {}).get("features", ()))
    return [f.name for f in load_features(settings.paths.dbt_project) if f.name in wanted]


def read_features(
    connection: duckdb.DuckDBPyConnection, where: str, parameters: list[Any], names: list[str]
) -> pd.DataFrame:
    """Read rows of ``features.customer_features`` with some of its features.

    Features without a single value (of inputs that the shop does not have) are left out: no model
    learns from them, and they would take as much memory as the others. Numbers are float32.
    """
    from clv_pipeline.models.blocks import read_block
    from clv_pipeline.models.panel import ALWAYS_KEPT

    counts = ", ".join(f"count({quote_identifier(name)})" for name in names)
    held = read_row(
        connection, f"SELECT {counts} FROM features.customer_features {where}", parameters
    )
    chosen = [name for name, count in zip(names, held, strict=True) if count or name in ALWAYS_KEPT]
    return read_block(connection, "features.customer_features", where, parameters, chosen)


def read_order_days(settings: Settings, cutoffs: tuple[Cutoff, ...]) -> pd.DataFrame:
    """Read each customer's order days as they were known at each cutoff.

    The twin of the macro ``days_at_cutoffs``, for models that read purchases one by one.
    """
    with open_warehouse(settings, read_only=True) as connection:
        return read_frame(connection, _ORDER_DAYS, [[cutoff.day for cutoff in cutoffs]])


_ORDER_DAYS = """
SELECT
    coalesce(owners.customer_id, days.user_id) AS customer_id,
    cutoffs.cutoff_date,
    days.activity_date,
    CAST(sum(days.delta_value) AS DOUBLE) AS value
FROM intermediate.int_customer_days AS days
INNER JOIN (SELECT unnest(?) AS cutoff_date) AS cutoffs
    ON days.activity_date <= cutoffs.cutoff_date AND days.known_date <= cutoffs.cutoff_date
LEFT JOIN intermediate.int_account_owners AS owners
    ON
        days.user_id = owners.user_id
        AND owners.valid_from_date <= cutoffs.cutoff_date
        AND (owners.valid_to_date IS NULL OR cutoffs.cutoff_date < owners.valid_to_date)
GROUP BY 1, 2, 3
HAVING sum(days.delta_count_orders) > 0
"""
