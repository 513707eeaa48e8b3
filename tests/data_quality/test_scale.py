"""However large a table is: rules look at every row in SQL, and only samples come into pandas."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import open_warehouse, read_row
from data_quality import drift, expectations, leakage, recomputing
from tests.data_quality.quality_shop import CUTOFF, RunGate, spoil

SAMPLE = 20


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each frame that a gate holds, the samples being small."""
    rows: list[int] = []
    for module in (drift, leakage, recomputing):
        real = module.read_frame
        monkeypatch.setattr(module, "SAMPLE_SIZE", SAMPLE)

        def watched(*arguments: Any, _real: Any = real, **options: Any) -> pd.DataFrame:
            frame: pd.DataFrame = _real(*arguments, **options)
            rows.append(len(frame))
            return frame

        monkeypatch.setattr(module, "read_frame", watched)
    batches = expectations._figures()

    def get_batch(given: dict[str, pd.DataFrame]) -> Any:
        rows.append(len(given["dataframe"]))
        return batches.get_batch(given)

    monkeypatch.setattr(expectations, "_figures", lambda: _Batches(get_batch))
    return rows


class _Batches:
    def __init__(self, get_batch: Any) -> None:
        self.get_batch = get_batch


def test_one_bad_row_outside_every_sample_is_caught(
    shop: Settings, check: RunGate, seen: list[int]
) -> None:
    with open_warehouse(shop, read_only=True) as connection:
        count, customer = read_row(
            connection,
            "SELECT count(*), arg_max(customer_id, md5(customer_id)) "
            "FROM features.customer_features WHERE cutoff_date = ?",
            [CUTOFF.day],
        )
        features = tuple(f for f in features_of(shop) if f.name == "count_orders_30d")
        sample = drift.read_sample(connection, features, CUTOFF.day)
        assert len(sample) == SAMPLE < count / 2
    spoil(
        shop,
        f"UPDATE features.customer_features SET count_orders_30d = -1 "
        f"WHERE customer_id = '{customer}' AND cutoff_date = '{CUTOFF}'",
    )
    seen.clear()
    report = check("features")
    broken = report.results[~report.results["is_passed"] & (report.results["severity"] == "stop")]
    assert broken["column_name"].tolist() == ["count_orders_30d"]
    assert broken["count_failed"].tolist() == [1]
    assert broken["count_checked"].tolist() == [count]
    assert len(seen) > 2
    assert max(seen) <= SAMPLE


def features_of(shop: Settings) -> tuple[Any, ...]:
    from clv_pipeline.features.registry import load_features

    return load_features(shop.paths.dbt_project)


def test_the_gate_before_training_reads_samples_alone(check: RunGate, seen: list[int]) -> None:
    assert check("as_of").is_passed
    # All lines of the sampled customers, who are few.
    assert max(seen) < 60 * SAMPLE
