"""How soon does `clv serve` answer? One worker, 200 requests a second, one customer each.

Starts the service on a published project in a process of its own and asks over kept-alive
connections on a fixed schedule: a request's time counts from when it was due, so that a late answer
delays none that follow out of the figures. In the same run the same rows are read the plain way,
opening the published DuckDB file for each request.

    python benchmarks/online.py --project clv_demo
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import duckdb

from clv_pipeline.publication import swap_published
from clv_pipeline.settings import load_settings
from clv_pipeline.warehouse import open_published

RESULTS = Path(__file__).parent / "results" / "online.md"
CONNECTIONS = 32
WARM_UP_SECONDS = 3
PLAIN_REQUESTS = 200
PREDICTIONS = 20


@dataclass
class Measured:
    """What came of some requests.

    Attributes
    ----------
    seconds
        From when a request was due to its last byte.
    errors
        Requests that were not answered by 200.
    runs
        Publications that answered.
    """

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    runs: set[str] = field(default_factory=set)

    def percentile(self, share: float) -> float:
        """Return a percentile in milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def load(port: int, paths: Sequence[str], rate: float, seconds: float) -> Measured:
    """Ask at a fixed rate; every answer is read to its end."""
    found = Measured()
    due: asyncio.Queue[tuple[float, str]] = asyncio.Queue()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                when, path = await due.get()
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                body = await reader.readexactly(length)
                found.seconds.append(time.perf_counter() - when)
                found.errors += not head.startswith("http/1.1 200")
                found.runs.add(json.loads(body).get("published_at", "?"))
                due.task_done()
        finally:
            writer.close()

    workers = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
    start = time.perf_counter()
    for number in range(int(rate * seconds)):
        when = start + number / rate
        await asyncio.sleep(max(0.0, when - time.perf_counter()))
        due.put_nowait((when, paths[number % len(paths)]))
    joined = asyncio.create_task(due.join())
    await asyncio.wait([joined, *workers], return_when=asyncio.FIRST_COMPLETED)
    for worker in workers:
        if worker.done():
            worker.result()  # a connection that broke is an error, not a figure
        worker.cancel()
    return found


def measure(asked: Sequence[str], answer: Callable[[str], object]) -> Measured:
    """Time one request after the other."""
    found = Measured()
    for one in asked:
        began = time.perf_counter()
        answer(one)
        found.seconds.append(time.perf_counter() - began)
    return found


def open_server(project: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the service and wait until it has loaded the model."""
    command = [sys.executable, "-m", "clv_pipeline.cli", "serve", "--config", str(project)]
    server = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
                if json.load(answer)["can_predict"]:
                    return server
        except OSError:
            if server.poll() is not None:
                break
        time.sleep(0.1)
    server.kill()
    raise SystemExit(f"`clv serve` did not become ready on {project}: is something published?")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def publish_again(project: Path) -> Path:
    """Publish a copy of what is published: the same rows under a new version."""
    settings = load_settings(project)
    now = settings.paths.published.resolve()
    copy = now.with_name(f"{now.name}_again")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(now, copy)
    import sqlite3

    connection = sqlite3.connect(copy / "online.sqlite")
    connection.execute(
        "UPDATE meta SET value = json_set(value, '$.published_at', '2100-01-01T00:00:00+00:00') "
        "WHERE key = 'version'"
    )
    connection.commit()
    connection.close()
    return copy


async def load_with_publication(
    project: Path, port: int, paths: Sequence[str], rate: float, seconds: float
) -> Measured:
    """Ask while a new version is published halfway."""
    copy = publish_again(project)
    running = asyncio.create_task(load(port, paths, rate, seconds))
    await asyncio.sleep(seconds / 2)
    swap_published(load_settings(project), copy)
    return await running


def predict(port: int) -> Callable[[str], object]:
    """Return what asks for a prediction as of a day."""

    def ask(day: str) -> object:
        orders = [{"ts": f"1998-0{month}-10", "amount": 20 + month} for month in range(1, 6)]
        body = json.dumps({"as_of": day, "orders": orders}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    return ask


def main() -> None:
    """Measure, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=Path("clv_demo"))
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    settings = load_settings(options.project)
    with open_published(settings) as connection:
        ids = [
            row[0] for row in connection.execute("SELECT customer_id FROM customer_clv").fetchall()
        ]
    database = str(settings.paths.published_database.resolve())
    # Spread over the whole file, and the same at each run.
    asked = [str(ids[(7919 * k) % len(ids)]) for k in range(4000)]
    paths = [
        f"/customers/{quote(name)}" + ("/features" if k % 2 else "") for k, name in enumerate(asked)
    ]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def plainly(name: str) -> object:
        with duckdb.connect(database, read_only=True) as opened:
            query = "SELECT * FROM customer_clv WHERE customer_id = ?"
            return opened.execute(query, [name]).fetchall()

    server = open_server(options.project, port)
    try:
        asyncio.run(load(port, paths, options.rate, WARM_UP_SECONDS))
        busy_before = os.getloadavg()[0]
        used_before = cpu_seconds(server.pid)
        steady = asyncio.run(load(port, paths, options.rate, options.seconds))
        used = cpu_seconds(server.pid) - used_before
        plain = measure(asked[:PLAIN_REQUESTS], plainly)
        predicted = measure(["1998-06-30"] * PREDICTIONS, predict(port))
        swapped = asyncio.run(
            load_with_publication(options.project, port, paths, options.rate, options.seconds)
        )
    finally:
        server.terminate()
        server.wait()
    rows = [
        (f"`clv serve`, {options.rate:.0f} requests/s for {options.seconds:.0f} s", steady),
        ("the same, a publication halfway", swapped),
        ("opening the published DuckDB file for each request, one by one", plain),
        ("`POST /predict`, 5 orders of a new customer, one by one", predicted),
    ]
    lines = [
        "# Looking up one customer",
        "",
        f"{len(ids):,} customers; half of the requests ask for the value, half for the features. "
        f"One worker; server and load generator share {os.cpu_count()} cores "
        f"({platform.machine()}, Python {platform.python_version()}), of which other programs "
        f"wanted {busy_before:.1f} when it began.",
        "",
        "| | requests | errors | p50 ms | p95 ms | p99 ms | most ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in rows:
        figures = [found.percentile(share) for share in (0.5, 0.95, 0.99, 1.0)]
        cells = [name, str(len(found.seconds)), str(found.errors), *(f"{x:.2f}" for x in figures)]
        lines.append("| " + " | ".join(cells) + " |")
    ratio = statistics.median(plain.seconds) / statistics.median(steady.seconds)
    lines += [
        "",
        f"A lookup takes {1000 * used / len(steady.seconds):.2f} ms of a core of the server's. "
        f"Opening DuckDB for each request takes {ratio:.0f} times as long at the median. "
        f"{len(swapped.runs)} publications answered the second row.",
        "",
        f"`python benchmarks/online.py --project {options.project.name}`",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
