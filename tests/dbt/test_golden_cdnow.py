"""CDNOW, calibration to 1997-09-30: the figures of the literature, counted independently."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from clv_pipeline.settings import build_settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.transform import build_stages
from clv_pipeline.warehouse import open_warehouse, read_frame
from tests.support import cdnow_transactions, fill_raw

CUTOFF = date(1997, 9, 30)
END = date(1998, 6, 30)
HORIZON = 273  # 39 weeks, to the end of the data


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    root: Path = tmp_path_factory.mktemp("cdnow")
    settings = build_settings(
        root,
        {"project": {"reporting_currency": "USD"}, "value": {"horizons": [HORIZON]}},
    )
    fill_raw(settings, {"transactions": cdnow_transactions()})
    build_stages(settings, [Cutoff(CUTOFF), Cutoff(END)], Cutoff(END), "golden")
    with open_warehouse(settings, read_only=True) as connection:
        return {
            name: read_frame(
                connection, f"SELECT * FROM as_of.{name} ORDER BY cutoff_date, customer_id"
            )
            for name in ("customer_history", "customer_labels")
        }


def counted(cutoff: date) -> pd.DataFrame:
    rows = cdnow_transactions()
    rows = rows[rows["ts"] <= pd.Timestamp(cutoff)]
    days = rows.groupby(["user_id", "ts"], as_index=False)["amount"].sum()
    days["is_repeat"] = days["ts"] > days.groupby("user_id")["ts"].transform("min")
    ages = days.groupby("user_id")["ts"].agg(["min", "max"])
    return pd.DataFrame(
        {
            "frequency": days.groupby("user_id")["is_repeat"].sum().astype(float),
            "recency": (ages["max"] - ages["min"]).dt.days.astype(float),
            "T": (pd.Timestamp(cutoff) - ages["min"]).dt.days.astype(float),
            "monetary_value": days[days["is_repeat"]].groupby("user_id")["amount"].mean(),
        }
    ).rename_axis("customer_id")


@pytest.mark.parametrize("cutoff", [CUTOFF, END], ids=str)
def test_frequency_recency_age_and_money_are_those_of_the_file(
    tables: dict[str, pd.DataFrame], cutoff: date
) -> None:
    history = tables["customer_history"]
    rows = history[history["cutoff_date"] == pd.Timestamp(cutoff)].set_index("customer_id")
    expected = counted(cutoff).sort_index()
    assert len(rows) == 23_570
    pd.testing.assert_frame_equal(
        rows[list(expected.columns)], expected, check_dtype=False, check_index_type=False
    )


def test_totals_tie_to_the_file(tables: dict[str, pd.DataFrame]) -> None:
    file = cdnow_transactions()
    at_end = tables["customer_history"].query("cutoff_date == @pd.Timestamp(@END)")
    assert at_end["sum_value"].sum() == pytest.approx(file["amount"].sum(), abs=1e-6)
    assert at_end["count_orders"].sum() == len(file)
    labels = tables["customer_labels"].query("horizon_days == @HORIZON")
    after = file[file["ts"] > pd.Timestamp(CUTOFF)]
    assert len(labels) == 23_570
    assert labels["label_value"].sum() == pytest.approx(after["amount"].sum(), abs=1e-6)
    assert labels["has_purchase"].sum() == after["user_id"].nunique()
