from __future__ import annotations

import base64
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd

from clv_pipeline.orchestration.previews import plot_bars, plot_histogram, plot_line, preview


def test_a_preview_names_nobody_and_writes_days_as_days() -> None:
    frame = pd.DataFrame(
        {
            "customer_id": ["c-17"],
            "email": ["a@b.example"],
            "first_order_date": [pd.Timestamp("1997-01-01")],
            "checked_at": [pd.Timestamp("1997-01-01 12:30")],
            "clv": [12345.678],
            "note": ["a|b\nc"],
            "empty": [None],
        }
    )
    text = preview(frame).md_str or ""
    assert "c-17" not in text
    assert "a@b.example" not in text
    assert text.splitlines()[2] == "| 1997-01-01 | 1997-01-01 12:30 | 12,346 | a\\|b c |  |"


def test_plots_are_small_images() -> None:
    days = [date(2024, 1, day) for day in range(1, 29)]
    found = [
        plot_line(days, list(range(28)), title="a line"),
        plot_bars(["one", "two"], [1.0, 2.0], title="bars", marked="two"),
        plot_histogram(np.array([0.0, -1.0, 1.0, 1e6, np.nan]), title="values", label="euro"),
        plot_histogram(np.zeros(3), title="nothing", label="euro"),
    ]
    for image in found:
        head, _, body = image.md_str.partition("base64,")
        assert head.startswith("![")
        data = base64.b64decode(body.rstrip(")"))
        assert data.startswith(b"\x89PNG")
        assert len(data) < 60_000


def test_an_instant_with_an_offset_is_shown() -> None:
    frame = pd.DataFrame({"seen_at": [datetime(2024, 1, 1, 5, 6, tzinfo=UTC)]})
    assert "2024-01-01 05:06" in (preview(frame).md_str or "")
