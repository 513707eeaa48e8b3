"""Score the texts that have landed: each once, and again when the text or the scorer changes."""

from __future__ import annotations

from datetime import date

import duckdb
import numpy as np
import pandas as pd

from clv_pipeline.settings import Settings
from clv_pipeline.signals.components import COUNT, MIN_TEXTS, Basis, Components, load_components
from clv_pipeline.signals.scorers import check_scores, load_scorer
from clv_pipeline.warehouse import read_frame, read_row

TABLE = "ops.text_scores"
BASIS = "ops.text_basis"
BATCH_ROWS = 20_000
# When a text was known, as dbt's macro known_date has it.
_KNOWN = """
SELECT text, greatest(
    (ts AT TIME ZONE 'UTC' AT TIME ZONE $zone)::DATE,
    (coalesce(ingested_at, ts) AT TIME ZONE 'UTC' AT TIME ZONE $zone)::DATE
) AS known_date, _file_id, _row_number
FROM raw.texts
"""


def prepare_texts(connection: duckdb.DuckDBPyConnection, settings: Settings) -> int:
    """Score the texts that have no score of the configured scorer yet.

    Parameters
    ----------
    connection
        The warehouse, with raw.texts, ops.text_scores and ops.text_basis.
    settings
        Name the scorer and the time zone.

    Returns
    -------
    int
        Texts scored.

    Raises
    ------
    TextScoringError
        If the scorer can't be loaded or does not answer.
    """
    (held,) = read_row(
        connection,
        f"SELECT (SELECT count(*) FROM raw.texts) + (SELECT count(*) FROM {TABLE})",
    )
    if not held:
        return 0
    scorer, components = load_scorer(settings.texts), load_components(settings.texts.components)
    version = "; ".join(filter(None, (scorer.version, components.version)))
    connection.execute(
        f"DELETE FROM {TABLE} WHERE scorer <> ? OR NOT EXISTS (SELECT 1 FROM raw.texts AS t "
        f"WHERE t._file_id = text_scores._file_id AND t._row_number = text_scores._row_number "
        "AND md5(t.text) = text_scores.text_hash)",
        [version],
    )
    connection.execute(f"DELETE FROM {BASIS} WHERE scorer <> ?", [version])
    basis = _read_basis(connection, components)
    if basis is None:
        basis = _fit_basis(connection, settings, components, version)
        if basis is not None:
            # Those that were scored before there was a basis get their components now.
            connection.execute(f"DELETE FROM {TABLE}")
    count = 0
    while True:
        rows = read_frame(
            connection,
            "SELECT t._file_id, t._row_number, t.text, md5(t.text) AS text_hash "
            f"FROM raw.texts AS t ANTI JOIN {TABLE} USING (_file_id, _row_number) "
            f"ORDER BY 1, 2 LIMIT {BATCH_ROWS}",
        )
        if rows.empty:
            return count
        texts = [str(text) for text in rows.pop("text")]
        scored = rows.join(check_scores(scorer, texts)).assign(scorer=version)
        parts = np.full((len(texts), COUNT), np.nan) if basis is None else basis.transform(texts)
        for k in range(COUNT):
            scored[f"component_{k + 1}"] = parts[:, k]
        # A number that is none is nothing in SQL.
        scored = scored.astype(object).where(scored.notna(), None)
        _insert(connection, scored)
        count += len(scored)


def _insert(connection: duckdb.DuckDBPyConnection, scored: pd.DataFrame) -> None:
    connection.register("_scored", scored)
    connection.execute(f"INSERT INTO {TABLE} BY NAME SELECT * FROM _scored")
    connection.unregister("_scored")


def _read_basis(connection: duckdb.DuckDBPyConnection, components: Components) -> Basis | None:
    rows = connection.execute(f"SELECT basis_json FROM {BASIS}").fetchall()
    return components.read(str(rows[0][0])) if rows else None


def _fit_basis(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    components: Components,
    version: str,
) -> Basis | None:
    zone = settings.project.time_zone
    days = connection.execute(
        f"SELECT known_date, count(*) FROM ({_KNOWN}) GROUP BY 1 ORDER BY 1", {"zone": zone}
    ).fetchall()
    total, fitted_on = 0, None
    for day, count in days:
        total += int(count)
        if total >= MIN_TEXTS:
            fitted_on = day
            break
    if not isinstance(fitted_on, date):
        return None
    texts = connection.execute(
        f"SELECT text FROM ({_KNOWN}) WHERE known_date <= $day ORDER BY _file_id, _row_number",
        {"zone": zone, "day": fitted_on},
    ).fetchall()
    basis = components.fit([str(text) for (text,) in texts])
    if basis is not None:
        connection.execute(
            f"INSERT INTO {BASIS} VALUES (?, ?, ?, ?)",
            [version, fitted_on, len(texts), basis.to_json()],
        )
    return basis
