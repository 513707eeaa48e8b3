"""Where a run's events go besides Dagster's storage: the console, or a file and a progress line."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import dagster as dg

LOG_BYTES = 5_000_000
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
Listener = Callable[[dg.DagsterEvent], None]
TextListener = Callable[[str, str], None]

# Set while this process runs a job for the command line; a launched run writes to its console.
_handlers: list[logging.Handler] = []


class _ListenerHandler(logging.Handler):
    """Hands Dagster's events to one function, and what steps say to another."""

    def __init__(self, listen: Listener, listen_text: TextListener) -> None:
        super().__init__(logging.DEBUG)
        self._listen = listen
        self._listen_text = listen_text

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "dagster_event", None)
        if event is not None:
            self._listen(event)
            return
        known = getattr(record, "dagster_meta", None) or {}
        if known.get("step_key") and record.levelno >= logging.INFO:
            self._listen_text(known["step_key"], known["orig_message"])


@contextmanager
def listen_to_runs(file: Path, listen: Listener, listen_text: TextListener) -> Iterator[None]:
    """Send what Dagster says of runs in this process to a file and a listener, not the console."""
    file.parent.mkdir(parents=True, exist_ok=True)
    to_file = RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=3, encoding="utf-8")
    to_file.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    # Libraries that warn (Great Expectations, dbt) go to the same file.
    root.addHandler(to_file)
    logging.captureWarnings(True)
    _handlers[:] = [to_file, _ListenerHandler(listen, listen_text)]
    try:
        yield
    finally:
        _handlers.clear()
        logging.captureWarnings(False)
        root.removeHandler(to_file)
        to_file.close()


@dg.logger(
    config_schema={"log_level": dg.Field(dg.StringSource, default_value="INFO")},
    description="The console of a launched run; a file when the command line runs the job.",
)
def run_log(context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger for one run."""
    level = logging.DEBUG if _handlers else _level(context.logger_config["log_level"])
    logger = logging.Logger("clv.run", level)
    if _handlers:
        for handler in _handlers:
            logger.addHandler(handler)
    else:
        console = logging.StreamHandler()
        console.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(console)
    return logger


def _level(name: Any) -> int:
    return logging.getLevelNamesMapping().get(str(name).upper(), logging.INFO)
