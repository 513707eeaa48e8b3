"""The server process of ``clv serve``."""

from __future__ import annotations

import os
import tempfile

import uvicorn

from clv_pipeline.serving.metrics import MULTIPROCESS_VARIABLE
from clv_pipeline.settings import Settings

_FACTORY = "clv_pipeline.serving.app:create_app_of_project"


def run_server(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serve until the process is told to end; requests under way are answered first.

    Parameters
    ----------
    settings
        Of the project that ``CLV_CONFIG`` names, which is what further processes read.
    host, port
        Where to listen.
    workers
        Processes; more than one share the port.
    """
    # A prediction computes with one thread, so that looking up is not held up by it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = {"host": host, "port": port, "access_log": False, "timeout_graceful_shutdown": 30}
    if workers == 1:
        from clv_pipeline.serving.app import create_app

        uvicorn.run(create_app(settings), **options)  # type: ignore[arg-type]
        return
    with tempfile.TemporaryDirectory(prefix="clv-metrics-") as folder:
        os.environ[MULTIPROCESS_VARIABLE] = folder
        uvicorn.run(_FACTORY, factory=True, workers=workers, **options)  # type: ignore[arg-type]
