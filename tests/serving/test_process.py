"""`clv serve` as a user starts and ends it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from clv_pipeline.settings import load_settings
from tests.serving.versions import point_to, write_version


def test_two_workers_answer_count_together_and_end_cleanly(tmp_path: Path) -> None:
    (tmp_path / "clv.toml").write_text("")
    settings = load_settings(tmp_path)
    point_to(settings, write_version(settings, 1, ("a",)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "clv_pipeline.cli", "serve", "--config", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    server = subprocess.Popen(
        [*command, "--port", str(port), "--workers", "2"],
        env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        assert wait_for(f"http://127.0.0.1:{port}/ready", server)["run_id"] == "run-1"
        for _ in range(20):
            assert read(f"http://127.0.0.1:{port}/customers/a")["segment"] == "segment 1"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        # Whichever worker is asked tells what both have answered.
        route = 'method="GET",route="/customers/{customer_id}",status="200"'
        assert f"clv_requests_total{{{route}}} 20.0" in text
    finally:
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=60)
    assert server.returncode in (0, -signal.SIGTERM), log.decode()


def read(address: str) -> dict[str, object]:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return dict(json.load(answer))


def wait_for(address: str, server: subprocess.Popen[bytes]) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return read(address)
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not become ready")
