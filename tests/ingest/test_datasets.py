"""The bundled data land whole, against an independent reading of the same file."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pandas as pd

from clv_pipeline.datasets import write_cdnow
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.settings import load_settings
from clv_pipeline.warehouse import open_warehouse


def test_cdnow_lands_to_the_penny(tmp_path: Path) -> None:
    config = write_cdnow(tmp_path / "cdnow")
    settings = load_settings(config, environ={})
    assert settings.value.horizons == (30, 90, 180, 365)
    report = land_inputs(settings, "run-1").inputs["transactions"]
    with files("clv_pipeline.datasets").joinpath("cdnow.csv.gz").open("rb") as stream:
        frame = pd.read_csv(stream, compression="gzip", dtype=str)
    cents = frame["amount"].str.replace(".", "", regex=False).astype(int)
    assert frame["amount"].str.fullmatch(r"\d+\.\d\d").all()
    assert report.new.count_in == report.new.count_kept == len(frame) == 69_659
    assert report.new.sum_kept == Decimal(int(cents.sum())) / 100
    with open_warehouse(settings, read_only=True) as connection:
        (found,) = connection.execute(
            "SELECT count(DISTINCT user_id), min(ts), max(ts), sum(quantity)::BIGINT, "
            "count(*) FILTER (amount = 0) FROM raw.transactions"
        ).fetchall()
    # New York is five hours behind UTC in winter and four in summer.
    first, last = datetime(1997, 1, 1, 5), datetime(1998, 6, 30, 4)
    assert found == (23_570, first, last, frame["quantity"].astype(int).sum(), 80)
