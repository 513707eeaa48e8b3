"""The panel, its encoding and its matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clv_pipeline.models.encoding import Encoder
from clv_pipeline.models.panel import Panel, PanelError
from clv_pipeline.timeline import Cutoff
from tests.models.panels import column

DAY, LATER = pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-29")


def features(**columns):
    rows = {"customer_id": ["b", "a", "a"], "cutoff_date": [DAY, LATER, DAY]}
    return pd.DataFrame(rows | columns)


def labels(**changes):
    rows = {
        "customer_id": ["a", "b", "a"],
        "cutoff_date": [DAY, DAY, DAY],
        "horizon_days": [30, 30, 90],
        "label_value": [1.0, 2.0, 3.0],
        "label_orders": [1, 2, 3],
        "has_purchase": [True, True, True],
    }
    return pd.DataFrame(rows | changes)


def test_matrix_aligns_features_with_labels_of_one_horizon():
    panel = Panel.build(features(spend=[20.0, 11.0, 10.0]), labels(), [column("spend")])
    rows, target = panel.matrix(30)
    assert rows[["customer_id", "spend"]].to_numpy().tolist() == [["a", 10.0], ["b", 20.0]]
    assert target.value.tolist() == [1.0, 2.0]
    # The later cutoff has no label yet, so it is in no matrix.
    assert panel.cutoffs == (Cutoff(DAY.date()), Cutoff(LATER.date()))
    assert len(panel.for_cutoffs([Cutoff(LATER.date())]).matrix(30)[1]) == 0


def test_units_of_time_and_order_of_rows_do_not_matter():
    one = Panel.build(features(spend=[20.0, 11.0, 10.0]), labels(), [column("spend")])
    frame = features(spend=[20.0, 11.0, 10.0]).iloc[::-1]
    frame["cutoff_date"] = frame["cutoff_date"].astype("datetime64[us]")
    other = Panel.build(frame, labels().iloc[::-1], [column("spend")])
    pd.testing.assert_frame_equal(one.features, other.features)
    pd.testing.assert_frame_equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, n: (f.drop(columns="cutoff_date"), n), "lack the columns"),
        (lambda f, n: (pd.concat([f, f]), n), "features hold a key twice"),
        (lambda f, n: (f, pd.concat([n, n])), "labels hold a key twice"),
        (lambda f, n: (f.assign(customer_id=[None, "a", "a"]), n), "without a key"),
        (lambda f, n: (f, n.drop(columns="label_value")), "lack the columns"),
    ],
)
def test_a_panel_that_cannot_be_used_says_why(change, message):
    with pytest.raises(PanelError, match=message):
        Panel.build(*change(features(), labels()), [])


def test_labels_that_are_not_finite_are_refused():
    panel = Panel.build(features(), labels(label_value=[1.0, np.inf, 2.0]), [])
    with pytest.raises(PanelError, match="not finite"):
        panel.matrix(30)


def test_encoding_numbers_flags_and_categories():
    frame = pd.DataFrame(
        {
            "customer_id": list("abcd"),
            "cutoff_date": DAY,
            "spend": [1.5, None, np.inf, -2.0],
            "is_new": pd.array([True, False, None, True], dtype="boolean"),
            "country": ["DE", "FR", "DE", None],
            "gender": ["f", "m", "f", "m"],
            "nothing": [None, None, None, None],
            "constant": 7.0,
        }
    )
    columns = [
        column("spend"),
        column("is_new", "flag"),
        column("country", "categorical"),
        column("gender", "categorical", is_model_input=False),
        column("nothing"),
        column("constant"),
    ]
    encoder = Encoder.fit(frame, columns)
    matrix = encoder.transform(frame)
    assert matrix.names == ("spend", "is_new", "country")
    assert matrix.values.dtype == np.float32
    expected = [[1.5, 1, 0], [np.nan, 0, np.nan], [np.nan, np.nan, 0], [-2, 1, np.nan]]
    np.testing.assert_array_equal(matrix.values, np.array(expected, dtype=np.float32))
    assert matrix.feature_types == ["q", "q", "c"]


def test_categories_are_those_of_the_fit_and_unknown_ones_are_missing():
    names = ["x"] * 30 + ["y"] * 40 + ["rare"]
    frame = pd.DataFrame({"customer_id": names, "cutoff_date": DAY, "source": names})
    encoder = Encoder.fit(frame, [column("source", "categorical")])
    assert encoder.categories == {"source": ("y", "x")}
    unseen = pd.DataFrame({"customer_id": ["1", "2"], "cutoff_date": DAY, "source": ["new", "x"]})
    again = Encoder.from_dict(encoder.to_dict())
    np.testing.assert_array_equal(again.transform(unseen).values, [[np.nan], [1]])


def test_a_missing_column_is_named():
    encoder = Encoder(("spend",), {})
    with pytest.raises(PanelError, match="spend"):
        encoder.transform(features())


def test_added_columns_stand_at_the_end():
    matrix = Encoder(("spend",), {}).transform(features(spend=[1.0, 2.0, 3.0]))
    wider = matrix.with_columns({"more": np.array([4.0, 5.0, 6.0])})
    assert wider.names == ("spend", "more")
    assert wider.column("more").tolist() == [4, 5, 6]
    assert wider.take(np.array([2])).customer_id.tolist() == ["a"]
