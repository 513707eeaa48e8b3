"""A language model as a scorer: what leaves, what comes back, and that it is not asked unasked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_tests
from hypothesis import strategies as st

from clv_pipeline.settings import Settings, SettingsError, TextSettings, build_settings
from clv_pipeline.signals.plug_ins import TextScoringError
from clv_pipeline.signals.redaction import redact
from clv_pipeline.signals.scorers import check_scores, load_scorer

PERSONAL = (
    "Hello, my name is john smith and Anna Kowalska waits too. Write to anna.k@example.co.uk or "
    "call +49 (170) 123-45 67. Order 20231-AB, IBAN DE89370400440532013000, see "
    "https://shop.example/u/anna?x=1 or @annak. The delivery was late and terrible.\nThanks, Maria"
)


class Service(HTTPServer):
    asked: list[dict[str, Any]]
    keys: list[str | None]
    answer: Any


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers["Authorization"])
        texts = json.loads(body["messages"][-1]["content"])
        content = self.server.answer(texts)
        reply = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service(("127.0.0.1", 0), Handler)
    server.asked, server.keys = [], []
    server.answer = lambda texts: json.dumps(
        [{"sentiment": -0.5, "is_complaint": True}] * len(texts)
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def settings_for(service: Service, **more: Any) -> TextSettings:
    address = f"http://127.0.0.1:{service.server_port}/v1"
    return TextSettings(scorer="chat", endpoint=address, model="small", **more)


def test_texts_leave_without_mails_numbers_and_names(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_MODEL_KEY", "secret")
    scorer = load_scorer(settings_for(service, key_variable="SHOP_MODEL_KEY", batch_size=1))
    scores = check_scores(scorer, [PERSONAL, "Great."])
    assert scores["sentiment"].tolist() == [-0.5, -0.5]
    assert len(service.asked) == 2  # one text per request
    assert service.keys == ["Bearer secret"] * 2
    sent = json.dumps(service.asked, ensure_ascii=False)
    for personal in ("john", "smith", "Anna", "Kowalska", "Maria", "example", "annak", "secret"):
        assert personal not in sent
    for personal in ("123", "20231", "DE89", "@"):
        assert personal not in sent
    assert "delivery was late and terrible" in sent


def test_nobody_is_asked_unless_configured(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    import urllib.request

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a service was asked")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert len(check_scores(load_scorer(TextSettings()), ["fine", "bad"])) == 2
    assert service.asked == []


@pytest.mark.parametrize(
    ("answer", "why"), [("no list", "answered 0 of 2"), ('[{"sentiment": 1}', "answered 0 of 2"),
                        ("[1, 2]", "answered 2 of 2"), ("[nonsense]", "is no list of scores")]
)  # fmt: skip
def test_a_wrong_answer_is_refused(service: Service, answer: str, why: str) -> None:
    service.answer = lambda texts: answer
    with pytest.raises(TextScoringError, match=why):
        check_scores(load_scorer(settings_for(service)), ["a", "b"])


def test_a_service_that_is_down_is_named() -> None:
    settings = TextSettings(scorer="chat", endpoint="http://127.0.0.1:9/v1", model="small")
    with pytest.raises(TextScoringError, match=r"127.0.0.1:9/v1/chat/completions did not answer"):
        load_scorer(settings).score(["a"])


def test_a_key_that_is_not_set_is_named(service: Service) -> None:
    with pytest.raises(TextScoringError, match=r"NO_SUCH_KEY, which texts\.key_variable names"):
        load_scorer(settings_for(service, key_variable="NO_SUCH_KEY")).score(["a"])


def test_chat_needs_an_address(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="needs endpoint and model"):
        build_settings(settings.root, {"texts": {"scorer": "chat"}})


@settings_of_tests(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["fine", "bad", "late", "the", "box"]), min_size=1, max_size=6),
    st.emails(),
    st.from_regex(r"\+?\d{6,12}", fullmatch=True),
    st.sampled_from(["Ingeborg", "Zbigniew", "João", "O'Hara"]),
)
def test_whatever_stands_around_them_is_kept_and_they_are_not(
    words: list[str], mail: str, number: str, name: str
) -> None:
    text = " ".join([*words, mail, number, name, *words])
    found = redact(text, frozenset({"fine", "bad", "late", "the", "box"}).__contains__)
    assert number not in found
    assert name not in found
    assert "@" not in found
    assert found.split()[: len(words)] == words == found.split()[-len(words) :]


def test_names_on_file_are_cut_however_they_are_written() -> None:
    assert redact("ask ana about it", lambda word: True, ["Ana"]) == "ask [name] about it"
