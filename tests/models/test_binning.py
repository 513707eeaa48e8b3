"""Batches into bins: the same model from memory, from DuckDB's batches and from disk."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import xgboost as xgb

from clv_pipeline.models.base import FitOptions
from clv_pipeline.models.binning import Batch, bin_batches, cut
from clv_pipeline.models.boosters import boost, dump_booster, predict_booster
from clv_pipeline.models.panel import Matrix
from clv_pipeline.models.room import limit_matrices
from clv_pipeline.settings import Settings
from clv_pipeline.spilling import spill_folder

N, P = 6_000, 5
PARAMETERS: dict[str, Any] = {"tree_method": "hist", "max_bin": 16, "nthread": 1, "seed": 0}


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(N, P)).astype(np.float32)
    values[rng.random((N, P)) < 0.1] = np.nan
    label = np.nan_to_num(values[:, 0] - values[:, 1] ** 2) + rng.normal(size=N) / 5
    return values, label.astype(np.float32)


def train(bins: xgb.DMatrix) -> bytes:
    return dump_booster(xgb.train(PARAMETERS, bins, 8))


def test_one_batch_is_the_matrix_itself(rows: tuple[Any, Any]) -> None:
    values, label = rows
    plain = xgb.QuantileDMatrix(values, label=label, max_bin=16)
    bins = bin_batches(cut(values), 16)
    bins.set_label(label)
    assert train(bins) == train(plain)


def test_batches_of_a_query_train_the_same_model_twice(rows: tuple[Any, Any]) -> None:
    values, label = rows
    with duckdb.connect() as connection:
        connection.register("held", {f"c{k}": values[:, k] for k in range(P)} | {"y": label})
        connection.execute("CREATE TABLE held_rows AS SELECT * FROM held")

        def batches() -> Iterator[Batch]:
            cursor = connection.cursor()
            reader = cursor.sql("FROM held_rows").to_arrow_reader(2_048)
            for part in reader:
                columns = [part.column(k).to_numpy(zero_copy_only=False) for k in range(P + 1)]
                yield Batch(np.column_stack(columns[:P]).astype(np.float32), columns[P])

        first, second = (train(bin_batches(batches, 16)) for _ in range(2))
        assert len(list(batches())) == 3
    assert first == second
    found = xgb.Booster()
    found.load_model(bytearray(first))
    in_memory = bin_batches(cut(values, 2_048), 16)
    in_memory.set_label(label)
    assert train(in_memory) == first
    assert np.corrcoef(found.inplace_predict(values), label)[0, 1] > 0.85


def test_bins_on_disk_train_as_those_in_memory(rows: tuple[Any, Any], tmp_path: Path) -> None:
    values, label = rows

    def batches() -> Iterator[Batch]:
        for k in range(0, N, 2_000):
            yield Batch(values[k : k + 2_000], label[k : k + 2_000])

    outside = bin_batches(batches, 16, cache=tmp_path)
    assert isinstance(outside, xgb.ExtMemQuantileDMatrix)
    assert any(tmp_path.iterdir())
    found, held = (xgb.train(PARAMETERS, b, 8) for b in (outside, bin_batches(batches, 16)))
    np.testing.assert_allclose(
        found.inplace_predict(values), held.inplace_predict(values), rtol=1e-4, atol=1e-4
    )


def matrix_of(values: Any) -> Matrix:
    """Make a matrix of one cutoff."""
    day = np.full(N, np.datetime64("2024-01-31"))
    return Matrix(np.arange(N).astype(object), day, tuple("abcde"), values)


def test_a_matrix_is_binned_once(rows: tuple[Any, Any]) -> None:
    values, label = rows
    X = matrix_of(values)
    bins = X.binned(64)
    options = FitOptions(30, trees=3)
    first = boost(X, label.astype(float), options, {"objective": "reg:squarederror"})
    assert X.binned(64) is bins
    again = boost(X, label.astype(float), options, {"objective": "reg:squarederror"})
    assert dump_booster(first) == dump_booster(again)


def test_matrices_and_bins_beyond_the_limit_lie_on_disk(
    rows: tuple[Any, Any], settings: Settings
) -> None:
    values, label = rows
    X = matrix_of(values)
    options, objective = FitOptions(30, trees=8), {"objective": "reg:squarederror"}
    expected = predict_booster(boost(X, label.astype(float), options, objective), X)
    engine = settings.engine.model_copy(update={"memory_limit": "0.04MB"})
    with limit_matrices(settings.model_copy(update={"engine": engine})):
        wide = X.with_columns({"f": values[:, 0].astype(float)})
        assert isinstance(wide.values, np.memmap)
        np.testing.assert_array_equal(wide.values[:, :P], values)
        taken = wide.take(np.arange(N) % 2 == 0)
        assert isinstance(taken.values, np.memmap)
        np.testing.assert_array_equal(taken.values[:, :P], values[::2])
        folder = spill_folder(settings)
        assert isinstance(X.binned(64), xgb.QuantileDMatrix)  # made before
        again = Matrix(X.customer_id, X.cutoff_date, X.names, X.values)
        assert isinstance(again.binned(64), xgb.ExtMemQuantileDMatrix)
        assert len(list(folder.glob("bins_*"))) == 1
        found = predict_booster(boost(again, label.astype(float), options, objective), X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    del again
    gc.collect()
    assert not list(folder.iterdir())
    assert wide.values[5, 0] == values[5, 0]
