"""A customer's raw rows become value, interval, probability and reasons, now."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from clv_pipeline.decisions.reasons import COUNT_REASONS, give_reasons
from clv_pipeline.features.registry import load_features
from clv_pipeline.models import store
from clv_pipeline.models.explaining import Explanation, explain_values
from clv_pipeline.scoring import COLUMNS, score_customers
from clv_pipeline.serving.fresh import FILE, FreshFeatures, FreshFeaturesError
from clv_pipeline.serving.online import Version
from clv_pipeline.serving.parity import plain_value
from clv_pipeline.settings import Settings


@dataclass(frozen=True)
class Answer:
    """What is predicted of one customer.

    Attributes
    ----------
    values
        A row per horizon: horizon_days, value, p10 and so on, probability, orders.
    reasons
        The largest effects on the value over the longest horizon: words and effect.
    base
        Value of the reference customer, whom the effects start from.
    features
        What the model read, and the other features.
    """

    values: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    base: float
    features: dict[str, Any]


class Predictor:
    """The model and the SQL of one publication.

    Parameters
    ----------
    settings
        Name the models.
    folder
        The version.
    version
        Names the model that made its values, so that looking up and predicting agree.

    Raises
    ------
    ModelStoreError
        If the model can't be read.
    """

    def __init__(self, settings: Settings, folder: Path, version: Version) -> None:
        self._settings = settings
        self._version = version
        self._features = FreshFeatures(folder / FILE)
        self._model, _ = store.load_model(settings.paths.models, version.model_version)
        installed = settings.paths.dbt_project
        self._registry = load_features(installed if installed.exists() else None)
        self._lock = threading.Lock()

    def predict(
        self, customer: str, as_of: date, rows: Mapping[str, pa.Table], *, is_known: bool
    ) -> Answer:
        """Answer for one customer.

        Parameters
        ----------
        customer
            The account that the rows are of.
        as_of
            The day at whose end the answer is given.
        rows
            By table, such as ``raw.transactions``.
        is_known
            Whether the publication counts this customer already.

        Raises
        ------
        FreshFeaturesError
            If nothing is known of the customer by then, or a rate is missing.
        """
        with self._lock:
            found = self._features.compute(as_of, [customer], rows, are_counted=is_known)
            if found.empty:
                raise FreshFeaturesError(
                    f"nothing of this customer happened and was known by {as_of}: give an order on "
                    "or before that day, or a profile",
                    ("orders",),
                )
            others = self._features.reference
            others = others[others["customer_id"] != customer].assign(
                cutoff_date=found["cutoff_date"].iloc[0]
            )
            together = pd.concat([found, others[found.columns]], ignore_index=True)
            scores = score_customers(self._model, together, self._settings, self._version.run_id)
            reasons, base = self._explain(customer, together, scores)
        own = scores[scores["customer_id"] == customer]
        values = own[["horizon_days", *COLUMNS]].rename(columns=COLUMNS).to_dict("records")
        return Answer(
            [{str(k): plain_value(v) for k, v in row.items()} for row in values],
            reasons,
            base,
            {str(k): plain_value(v) for k, v in found.iloc[0].to_dict().items()},
        )

    def _explain(
        self, customer: str, rows: pd.DataFrame, scores: pd.DataFrame
    ) -> tuple[list[dict[str, Any]], float]:
        """Compare with other customers of the shop, as the nightly run does with all of them."""
        longest = max(self._settings.value.horizons)
        published = scores[scores["horizon_days"] == longest].set_index("customer_id")["clv"]
        found = explain_values(self._model, rows, published, longest, self._registry)
        own = Explanation(longest, found.base, found.effects.loc[[customer]])
        words = give_reasons(rows, own).iloc[0]
        pairs = [(words[f"reason_{k}"], words[f"reason_{k}_effect"]) for k in _NUMBERS]
        reasons = [
            {"reason": str(text), "effect": float(effect)}
            for text, effect in pairs
            if pd.notna(text)
        ]
        return reasons, float(found.base)


_NUMBERS = range(1, COUNT_REASONS + 1)
