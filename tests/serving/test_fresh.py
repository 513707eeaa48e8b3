"""A shop with every signal: what is computed when a request comes equals what was stored."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fakeredis
import pandas as pd
import pytest
from starlette.testclient import TestClient

from clv_pipeline.serving import fresh, parity, redis_store
from clv_pipeline.serving.app import create_app
from clv_pipeline.serving.online import FILE, SqliteStore
from clv_pipeline.serving.publishing import add_online_store, finish_publication, open_version
from clv_pipeline.settings import ServingSettings, Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_database, open_warehouse
from data_quality.gates import run_gate
from tests.features.building import build_features
from tests.serving.conftest import CUTOFF, HORIZONS, Shop

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def queries(shop: Shop) -> Iterator[fresh.FreshFeatures]:
    opened = fresh.FreshFeatures(shop.settings.paths.published / fresh.FILE)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(shop: Shop) -> TestClient:
    return TestClient(create_app(shop.settings))


def test_every_customer_is_online_as_offline(shop: Shop) -> None:
    online = SqliteStore((shop.settings.paths.published / FILE).resolve())
    customers = shop.features["customer_id"].tolist()
    assert len(customers) > 40
    found = online.read(customers)
    for row in shop.features.to_dict("records"):
        held = {str(name): parity.plain_value(value) for name, value in row.items()}
        assert found[held["customer_id"]].features == held
    online.close()


def test_redis_holds_what_the_file_holds(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fakeredis.FakeRedis()
    monkeypatch.setattr(redis_store, "connect", lambda _: client)
    chosen = ServingSettings(online_store="redis", redis_url="redis://localhost:1/0")
    settings = shop.settings.model_copy(update={"serving": chosen})
    assert add_online_store(settings, tmp_path) == len(shop.features)
    # Written, but not what serves before the publication is finished.
    assert redis_store.current_name(client, "clv") is None
    finish_publication(settings, tmp_path)
    assert redis_store.current_name(client, "clv") == tmp_path.name
    customers = shop.features["customer_id"].tolist()
    file = SqliteStore((shop.settings.paths.published / FILE).resolve())
    assert open_version(settings, tmp_path).read([*customers, "nobody"]) == file.read(customers)
    file.close()


def test_fresh_features_of_every_customer_equal_the_warehouse_row_for_row(
    shop: Shop, queries: fresh.FreshFeatures
) -> None:
    customers = shop.features["customer_id"].tolist()
    with open_warehouse(shop.settings, read_only=True) as connection:
        together = parity.recompute(connection, queries, customers, CUTOFF)
        # One at a time, as requests come: nothing of other customers may be needed.
        alone = [
            parity.recompute(connection, queries, [customer], CUTOFF)[customer]
            for customer in customers[::5]
        ]
    assert_same_features(pd.DataFrame(list(together.values())), shop.features)
    assert_same_features(pd.DataFrame(alone), shop.features.iloc[::5])


def test_fresh_features_of_an_earlier_day_see_nothing_of_later_ones(
    shop: Shop, queries: fresh.FreshFeatures
) -> None:
    earlier = Cutoff(CUTOFF.day - timedelta(days=120))
    build_features(shop.settings, [earlier], CUTOFF)
    with open_warehouse(shop.settings, read_only=True) as connection:
        held = connection.execute(
            "SELECT * FROM features.customer_features WHERE cutoff_date = ? ORDER BY customer_id",
            [earlier.day],
        ).df()
        customers = held["customer_id"].tolist()[:15]
        found = parity.recompute(connection, queries, customers, earlier)
    frame = pd.DataFrame(list(found.values()))
    # Prices of the shop are those of the publication.
    kept = [name for name in held if not name.startswith("price_level")]
    assert_same_features(frame[kept], held.iloc[: len(customers)][kept])


def assert_same_features(found: pd.DataFrame, held: pd.DataFrame) -> None:
    assert set(found.columns) == set(held.columns)
    for column in held:
        for one, other in zip(found[column], held[column], strict=True):
            left, right = parity.plain_value(one), parity.plain_value(other)
            if isinstance(left, float) and isinstance(right, float):
                assert left == pytest.approx(right, rel=1e-9, abs=1e-12), column
            else:
                assert left == right, column


def test_predict_answers_for_a_customer_never_seen_before(client: TestClient) -> None:
    asked = {
        "as_of": "2024-02-29",
        "orders": [
            {"ts": "2024-01-10T12:00:00Z", "amount": "20.00", "transaction_id": "1"},
            {"ts": "2024-02-10T12:00:00+01:00", "amount": 30, "transaction_id": "2"},
            {"ts": "2024-03-10T12:00:00Z", "amount": 1000, "transaction_id": "3"},
        ],
        "profile": {"country": "DE", "signup_ts": "2024-01-01T00:00:00Z"},
        "events": [{"ts": "2024-02-28T09:00:00Z", "event_name": "page_view"}],
        "campaign_exposures": [{"ts": "2024-02-20T09:00:00Z", "campaign_id": "spring"}],
    }
    answer = client.post("/predict", json=asked)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["run_id"] == "run1"
    assert found["customer_id"] is None
    features = found["features"]
    # What happens after the day that was asked for does not count.
    assert (features["count_orders"], features["sum_value"]) == (2.0, 50.0)
    assert (features["recency"], features["T"], features["days_since_last_order"]) == (31, 50, 19)
    assert (features["country"], features["count_page_views_7d"]) == ("DE", 1.0)
    assert features["count_exposures_30d"] == 1.0
    assert [row["horizon_days"] for row in found["values"]] == list(HORIZONS)
    for row in found["values"]:
        assert 0 < row["value"] < 1000
        assert row["p10"] <= row["p50"] <= row["p90"]
        assert 0 < row["probability"] <= 1
    assert 1 <= len(found["reasons"]) <= 3
    assert all(row["reason"] and row["effect"] for row in found["reasons"])
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("page", ["README.md", "docs/serving.md"])
def test_the_request_in_the_documentation_has_an_answer(client: TestClient, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (body,) = re.findall(r"/predict -H '[^']+' -d '([^']+)'", text)
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    shown = re.findall(r"^(\{\"frequency\".*\})$", text, re.MULTILINE)
    assert len(shown) == (page == "README.md")
    for written in map(json.loads, shown):
        assert {name: answer.json()["features"][name] for name in written} == written


def test_predict_of_a_stored_customer_gives_the_stored_value(
    shop: Shop, client: TestClient
) -> None:
    lines = shop.raw["transactions"]
    merged = set(shop.raw["account_merges"][["old_user_id", "new_user_id"]].to_numpy().ravel())
    restated = set(lines.loc[lines.duplicated("transaction_id", keep=False), "transaction_id"])
    plain = lines[~lines["user_id"].isin(merged) & (lines["currency"] != "USD")]
    customer = plain.loc[~plain["transaction_id"].isin(restated), "user_id"].dropna().iloc[0]
    own = lines[lines["user_id"] == customer].drop(columns=["user_id", "_file_id", "_row_number"])
    orders = [clean(row) for row in own.to_dict("records")]
    asked = {"customer_id": customer, "as_of": str(CUTOFF), "orders": orders}
    predicted = client.post("/predict", json=asked).json()
    held = client.get(f"/customers/{customer}").json()
    for now, before in zip(predicted["values"], held["values"], strict=True):
        assert now["value"] == pytest.approx(before["value"], rel=1e-9)
        assert now["p90"] == pytest.approx(before["p90"], rel=1e-9)


def clean(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is missing; instants as texts."""
    return {
        str(name): value.isoformat() if isinstance(value, pd.Timestamp) else value
        for name, value in row.items()
        if value is not None and not pd.isna(value)
    }


def test_predict_names_the_row_whose_currency_has_no_rate(client: TestClient) -> None:
    asked = {
        "as_of": "2024-02-29",
        "orders": [
            {"ts": "2024-01-10", "amount": 20, "currency": "EUR"},
            {"ts": "2024-01-11", "amount": 20, "currency": "usd"},
            {"ts": "2024-01-12", "amount": 20, "currency": "XXX"},
        ],
    }
    answer = client.post("/predict", json=asked)
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["field"] == "orders.2.currency"
    assert "no exchange rate from 'XXX' to EUR" in problem["message"]


def test_predict_refuses_when_nothing_is_known_by_the_day(client: TestClient) -> None:
    asked = {"as_of": "2024-02-29", "orders": [{"ts": "2024-03-10", "amount": 20}]}
    answer = client.post("/predict", json=asked)
    assert answer.status_code == 422
    assert "by 2024-02-29" in answer.json()["detail"][0]["message"]


def test_a_request_leaves_nothing_behind(client: TestClient) -> None:
    asked = {"as_of": "2024-02-29", "orders": [{"ts": "2024-01-10", "amount": 20, "sku": "kiwi"}]}
    first, second = (client.post("/predict", json=asked).json() for _ in range(2))
    assert first == second


def test_a_damaged_model_is_503_and_looking_up_goes_on(shop: Shop) -> None:
    models = shop.settings.paths.models
    client = TestClient(create_app(shop.settings))
    (file,) = models.rglob("model.json")
    whole = file.read_bytes()
    file.write_bytes(whole + b" ")
    try:
        asked = {"as_of": "2024-02-29", "orders": [{"ts": "2024-01-10", "amount": 20}]}
        answer = client.post("/predict", json=asked)
        assert answer.status_code == 503
        assert "does not match its checksum" in answer.json()["detail"]
        customer = shop.features["customer_id"].iloc[0]
        assert client.get(f"/customers/{customer}").status_code == 200
    finally:
        file.write_bytes(whole)
    assert client.post("/predict", json=asked).status_code == 200


def test_the_gate_passes_what_is_equal(shop: Shop) -> None:
    assert online_results(shop.settings, shop.settings.paths.published.resolve()) == {
        "sampled": True,
        "features": True,
        "values": True,
        "fresh_features": True,
    }


@pytest.mark.parametrize("answer", ["features", "values", "fresh_features"])
def test_the_gate_refuses_one_cell_that_differs(shop: Shop, tmp_path: Path, answer: str) -> None:
    folder = tmp_path / "version"
    shutil.copytree(shop.settings.paths.published.resolve(), folder)
    if answer == "fresh_features":
        with open_database(folder / fresh.FILE) as connection:
            connection.execute(
                "UPDATE queries SET sql = replace(sql, 'max(order_date)', 'min(order_date)') "
                "WHERE model_name = 'customer_history'"
            )
    else:
        connection = sqlite3.connect(folder / FILE)
        (text,) = connection.execute(f'SELECT "{answer}" FROM customers LIMIT 1').fetchone()
        cells = json.loads(text)
        place = next(k for k, cell in enumerate(cells) if isinstance(cell, float) and cell)
        cells[place] *= 1 + 1e-15 * 4
        connection.execute(f'UPDATE customers SET "{answer}" = ?', [json.dumps(cells)])
        connection.commit()
        connection.close()
    found = online_results(shop.settings, folder)
    assert found[answer] is False
    assert sum(found.values()) == 3


def online_results(settings: Settings, folder: Path) -> dict[str, bool]:
    """Run the gate; return what it says of the online store."""
    report = run_gate(settings, "published", CUTOFF, "run1", folder / "clv.duckdb")
    rows = report.results[report.results["table_name"] == "clv.online_store"]
    for row in rows[~rows["is_passed"]].to_dict("records"):
        assert "than the warehouse" in row["message"], row
        assert row["failed_keys"] != "[]"
    names = rows["column_name"].where(rows["column_name"].notna(), rows["check_name"])
    return dict(zip(names, rows["is_passed"], strict=True))
