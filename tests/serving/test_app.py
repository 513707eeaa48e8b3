"""The service over publications that are made directly: looking up, errors, swaps under load."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fakeredis
import pytest
import redis
from fastapi import FastAPI
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from starlette.testclient import TestClient

from clv_pipeline.serving import redis_store
from clv_pipeline.serving.app import create_app
from clv_pipeline.serving.current import CurrentVersion
from clv_pipeline.serving.online import FILE
from clv_pipeline.settings import Settings, SettingsError
from tests.serving.versions import CUTOFF, point_to, write_version

CUSTOMERS = ("a", "b ü'\"; drop", "c")


def order(**columns: Any) -> dict[str, Any]:
    """Ask about one order."""
    return {"as_of": CUTOFF, "orders": [{"ts": CUTOFF, "amount": 10} | columns]}


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Redis server of our own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--dir", str(folder)], stdout=log, stderr=log)
    try:
        client = redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 200))
        client.ping()
        client.close()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(params=["sqlite", "fake redis", "redis"])
def shop(
    request: pytest.FixtureRequest,
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Settings of each kind of online store; a stand-in where no Redis is installed."""
    if request.param == "sqlite":
        return make_settings(publish={"keep_versions": 1})
    if request.param == "fake redis":
        url, server = "redis://localhost:1/0", fakeredis.FakeServer()
        monkeypatch.setattr(redis_store, "connect", lambda _: fakeredis.FakeRedis(server=server))
    else:
        url = request.getfixturevalue("redis_url")
        redis.Redis.from_url(url).flushall()
    return make_settings(serving={"online_store": "redis", "redis_url": url})


@pytest.fixture
def client(shop: Settings) -> TestClient:
    point_to(shop, write_version(shop, 1, CUSTOMERS))
    return TestClient(create_app(shop))


def test_the_latest_value_of_a_customer(client: TestClient) -> None:
    answer = client.get("/customers/a")
    assert answer.status_code == 200
    assert answer.headers["x-run-id"] == "run-1"
    assert answer.json() == {
        "run_id": "run-1",
        "cutoff_date": CUTOFF,
        "model_version": "model-1",
        "published_at": "2024-03-01T00:30:00+00:00",
        "customer_id": "a",
        "segment": "segment 1",
        "values": [
            {"horizon_days": 30, "value": 1.25, "p10": 0.0, "probability": 0.5, "orders": 1.5},
            {"horizon_days": 365, "value": 1.5, "p10": 0.0},
        ],
        "reasons": [{"reason": "ordered once", "effect": -1.5}],
    }


def test_the_features_of_a_customer_keep_their_types(client: TestClient) -> None:
    found = client.get("/customers/a/features").json()
    assert found["run_id"] == "run-1"
    assert found["features"] == {
        "cutoff_date": CUTOFF,
        "frequency": 1.1,
        "country": None,
        "has_email_consent": True,
    }


def test_a_batch_answers_for_those_it_knows_and_names_the_others(client: TestClient) -> None:
    ids = ["c", "nobody", CUSTOMERS[1], "c"]
    found = client.post("/customers/batch", json={"ids": ids}).json()
    assert [row["customer_id"] for row in found["customers"]] == ["c", CUSTOMERS[1]]
    assert found["customers"][0]["features"]["frequency"] == 1.1
    assert found["customers"][0]["values"][0]["value"] == 1.25
    assert found["unknown"] == ["nobody"]


def test_an_id_with_special_characters_is_data(client: TestClient) -> None:
    assert client.get("/customers/b%20ü'\"%3B%20drop").json()["customer_id"] == CUSTOMERS[1]


@pytest.mark.parametrize("path", ["/customers/nobody", "/customers/nobody/features"])
def test_an_unknown_customer_is_404(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"There is no customer 'nobody' as of {CUTOFF}."


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/customers/batch", {"ids": []}, "ids"),
        ("/customers/batch", {"ids": ["a"] * 1001}, "ids"),
        ("/customers/batch", {"ids": [1]}, "ids.0"),
        ("/customers/batch", {}, "ids"),
        ("/predict", {"orders": []}, "as_of"),
        ("/predict", {"as_of": "yesterday"}, "as_of"),
        ("/predict", order(ts=None), "orders.0.ts"),
        ("/predict", order(amount="x"), "orders.0.amount"),
        ("/predict", order(amount="NaN"), "orders.0.amount"),
        ("/predict", order(amount=1e99), "orders.0.amount"),
        ("/predict", order(sum=2), "orders.0.sum"),
        ("/predict", {"as_of": CUTOFF, "profile": {"birth_year": "old"}}, "profile.birth_year"),
    ],
)
def test_a_bad_body_is_422_with_the_field(
    client: TestClient, path: str, body: dict[str, Any], field: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["detail"]] == [field]


def test_a_body_that_is_no_json_is_422(client: TestClient) -> None:
    answer = client.post(
        "/customers/batch", content=b"{", headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422


def test_nothing_published_yet_is_503(shop: Settings) -> None:
    client = TestClient(create_app(shop))
    assert client.get("/health").json() == {"status": "ok"}
    asked = {"as_of": CUTOFF, "orders": []}
    for answer in (
        client.get("/ready"),
        client.get("/customers/a"),
        client.get("/customers/a/features"),
        client.post("/customers/batch", json={"ids": ["a"]}),
        client.post("/predict", json=asked),
    ):
        assert answer.status_code == 503
        assert answer.json()["detail"] == "Nothing is published yet: run `clv run` first."
    point_to(shop, write_version(shop, 1, CUSTOMERS))
    assert client.get("/ready").json()["run_id"] == "run-1"
    assert client.get("/customers/a").status_code == 200


def test_looking_up_goes_on_without_a_model(client: TestClient) -> None:
    asked = order()
    with pytest.raises(Exception, match=r"fresh\.duckdb"):  # the publication has no such file
        client.post("/predict", json=asked)
    assert client.get("/customers/a").status_code == 200


def test_prometheus_reads_requests_by_route_and_never_ids(client: TestClient) -> None:
    client.get("/customers/a")
    client.get("/customers/nobody")
    client.get("/wp-admin/secret")
    text = client.get("/metrics").text
    route = 'method="GET",route="/customers/{customer_id}"'
    assert f'clv_requests_total{{{route},status="200"}} 1.0' in text
    assert f'clv_requests_total{{{route},status="404"}} 1.0' in text
    assert "clv_request_seconds_bucket" in text
    assert "nobody" not in text
    assert "wp-admin" not in text


def test_the_schema_describes_every_request(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/health",
        "/ready",
        "/metrics",
        "/customers/{customer_id}",
        "/customers/{customer_id}/features",
        "/customers/batch",
        "/predict",
    }
    order = schema["components"]["schemas"]["Order"]
    assert order["required"] == ["ts", "amount"]
    assert "user_id" not in order["properties"]


def test_the_next_request_sees_the_next_publication(shop: Settings) -> None:
    point_to(shop, write_version(shop, 1, CUSTOMERS))
    current = CurrentVersion(shop, check_seconds=0.0)
    before = current.get()
    point_to(shop, write_version(shop, 2, ("a",)))
    assert current.get().version.run_id == "run-2"
    # A request that began earlier ends with what it began with.
    assert before.store.read(["c"])["c"].values["run_id"] == "run-1"


def test_a_version_that_cannot_be_read_leaves_the_one_before(settings: Settings) -> None:
    point_to(settings, write_version(settings, 1, CUSTOMERS))
    current = CurrentVersion(settings, check_seconds=0.0)
    current.get()
    damaged = write_version(settings, 2, CUSTOMERS)
    (damaged / FILE).write_bytes(b"no database")
    point_to(settings, damaged)
    assert current.get().version.run_id == "run-1"
    client = TestClient(create_app(settings))
    assert client.get("/customers/a").status_code == 503
    point_to(settings, write_version(settings, 3, CUSTOMERS))
    assert current.get().version.run_id == "run-3"


def test_publications_under_load_drop_no_request_and_never_mix(shop: Settings) -> None:
    point_to(shop, write_version(shop, 0, CUSTOMERS))
    app = create_app(shop)
    done = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(lambda: list(ask_until(app, done))) for _ in range(3)]
        for number in range(1, 10):
            # Of files only the newest is kept: what serves is deleted while it is read.
            point_to(shop, write_version(shop, number, CUSTOMERS))
            done.wait(0.13)
        done.set()
        seen = [number for reader in readers for number in reader.result()]
    assert len(set(seen)) >= 4


def ask_until(app: FastAPI, done: threading.Event) -> Iterator[int]:
    """Ask for values and batches; return the publication that each answer is of."""
    client = TestClient(app)
    while not done.is_set():
        one = client.get("/customers/a")
        many = client.post("/customers/batch", json={"ids": list(CUSTOMERS)})
        assert (one.status_code, many.status_code) == (200, 200)
        for answer, rows in ((one.json(), [one.json()]), (many.json(), many.json()["customers"])):
            number = int(answer["run_id"].removeprefix("run-"))
            assert answer["model_version"] == f"model-{number}"
            assert [row["segment"] for row in rows] == [f"segment {number}"] * len(rows)
            assert [row["values"][0]["value"] for row in rows] == [number + 0.25] * len(rows)
            yield number


def test_redis_needs_an_address(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsError, match="redis_url"):
        make_settings(serving={"online_store": "redis"})


def test_a_redis_that_does_not_answer_is_503(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(
        serving={"online_store": "redis", "redis_url": "redis://127.0.0.1:1/0"}
    )
    answer = TestClient(create_app(settings)).get("/customers/a")
    assert answer.status_code == 503
    assert "check [serving] redis_url" in answer.json()["detail"]
