"""Real shops land whole, against an independent count of the same files by pandas."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.settings import build_settings
from clv_pipeline.warehouse import open_warehouse, read_frame

CONFIG = Path(__file__).parents[1] / "data" / "online_retail_ii.toml"


@pytest.mark.real_data
def test_online_retail_is_kept_or_quarantined_to_the_penny(
    tmp_path: Path, shared_data: Path
) -> None:
    file = shared_data / "online_retail_ii" / "online_retail_2009-12_2010-12.parquet"
    document = tomllib.loads(CONFIG.read_text())
    document["inputs"]["transactions"]["files"] = [str(file)]
    settings = build_settings(tmp_path, document)
    report = land_inputs(settings, "run-1").inputs["transactions"]

    frame = pd.read_parquet(file)
    # Ten-thousandths of a pound, exactly: some prices have three decimals.
    units = (np.rint(frame["Price"].to_numpy() * 10_000) * frame["Quantity"].to_numpy()).astype(
        np.int64
    )
    code = frame["StockCode"].str.upper()
    services = ["POST", "DOT", "M", "D", "C2", "C3", "S", "B", "CRUK", "AMAZONFEE", "BANK CHARGES"]
    services += ["ADJUST", "ADJUST2", "GIFT", "TEST001", "TEST002"]
    reasons = np.select(
        [
            frame["Invoice"].str.startswith("A"),
            (frame["Quantity"] < 0) & ~frame["Invoice"].str.startswith("C"),
            frame["Price"] <= 0,
            code.isin(services) | frame["StockCode"].str.startswith("gift_"),
        ],
        ["debt", "stock", "price", "service"],
        "",
    )
    is_kept = reasons == ""
    is_guest = is_kept & frame["CustomerID"].isna().to_numpy()

    def pounds(chosen: np.ndarray) -> Decimal:
        return Decimal(int(units[chosen].sum())) / 10_000

    new = report.new
    assert new.count_in == len(frame) == 525_461
    assert new.count_kept == is_kept.sum()
    assert new.count_guest == is_guest.sum()
    assert new.count_quarantined == (~is_kept).sum()
    assert new.sum_in == pounds(np.ones(len(frame), bool)) == Decimal("9539484.634")
    assert new.sum_kept == pounds(is_kept)
    assert new.sum_guest == pounds(is_guest)
    assert new.sum_quarantined == pounds(~is_kept)
    assert sorted(report.reasons.values()) == sorted(
        int((reasons == reason).sum()) for reason in ("debt", "stock", "price", "service")
    )
    with open_warehouse(settings, read_only=True) as connection:
        landed = read_frame(
            connection, "SELECT user_id, is_refund, _row_number FROM raw.transactions ORDER BY 3"
        )
    assert (landed["_row_number"].to_numpy() == np.flatnonzero(is_kept) + 1).all()
    users = frame.loc[is_kept, "CustomerID"].astype("Int64").astype("string")
    assert (landed["user_id"].fillna("") == users.fillna("").to_numpy()).all()
    refunds = frame.loc[is_kept, "Invoice"].str.startswith("C").to_numpy()
    assert (landed["is_refund"].to_numpy() == refunds).all()
