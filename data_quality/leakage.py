"""Features that know the answer: none may order customers as their label does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb
import numpy as np
import pandas as pd

from clv_pipeline.features.registry import Feature
from clv_pipeline.warehouse import quote_identifier, read_frame

SAMPLE_SIZE = 20_000
MIN_BUYERS = 30


def correlate_with_label(
    connection: duckdb.DuckDBPyConnection, features: Sequence[Feature], cutoff: date
) -> pd.DataFrame:
    """Rank-correlate features with what was bought next, at the newest cutoff with labels.

    Honest features reach about 0.6 in any shop; a column that was computed from the label window
    stands out near 1. Taken over the shortest horizon that was matured, on the customers with the
    smallest MD5 of their id.

    Returns
    -------
    pandas.DataFrame
        feature, correlation (Spearman's, absolute); empty with fewer than 30 buyers.
    """
    names = [feature.name for feature in features if feature.kind == "numeric"]
    columns = ", ".join(
        f"{quote_identifier(name)}::DOUBLE AS {quote_identifier(name)}" for name in names
    )
    sample = read_frame(
        connection,
        f"""
        WITH newest AS (
            SELECT cutoff_date, horizon_days FROM as_of.customer_labels WHERE cutoff_date < ?
            ORDER BY cutoff_date DESC, horizon_days LIMIT 1
        )
        SELECT label_value AS "the label", {columns}
        FROM features.customer_features
        INNER JOIN as_of.customer_labels USING (customer_id, cutoff_date)
        SEMI JOIN newest USING (cutoff_date, horizon_days)
        ORDER BY md5(customer_id), customer_id LIMIT {SAMPLE_SIZE}
        """,
        [cutoff],
    )
    found: list[tuple[str, float]] = []
    if (sample["the label"] > 0).sum() >= MIN_BUYERS:
        ranks = sample.rank()
        label = ranks.pop("the label")
        for name, rank in ranks.items():
            both = rank.notna()
            if both.sum() >= MIN_BUYERS and rank[both].nunique() > 1 and label[both].nunique() > 1:
                correlation = np.corrcoef(rank[both], label[both])[0, 1]
                found.append((str(name), float(abs(correlation))))
    return pd.DataFrame(found, columns=["feature", "correlation"]).astype(
        {"feature": object, "correlation": float}
    )
