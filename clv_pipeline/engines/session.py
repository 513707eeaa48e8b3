"""Spark: the one session of this process. The only module that starts it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clv_pipeline.settings import Settings
from clv_pipeline.warehouse import write_atomically

_MISSING_PACKAGE = (
    "engine.name = 'spark' needs PySpark and dbt-spark: "
    "`pip install 'clv-pipeline[spark]'`, or set engine.name = 'duckdb'."
)
_MISSING_JAVA = (
    "engine.name = 'spark' needs Java 17 or newer: install it and put `java` on the PATH or name "
    "its folder in JAVA_HOME, or set engine.name = 'duckdb'."
)
# Spark tells what it does on the terminal; it belongs into a file.
_LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {path}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss}} %p %c: %m%n
"""
# What must be the same in every session, or tables would differ from DuckDB's.
SESSION_RULES = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # A chain of account merges may be long; cycles are refused by the model itself.
    "spark.sql.cteRecursionLevelLimit": "-1",
    "spark.sql.cteRecursionRowLimit": "-1",
    # A table is a folder: building it again writes into the folder that is there.
    "spark.sql.legacy.allowNonEmptyLocationInCTAS": "true",
}


# The session of this process, once it runs.
_running: list[Any] = []


class EngineError(RuntimeError):
    """The engine can't be used; the message says why and what to do."""


def check_engine(settings: Settings) -> None:
    """Refuse an engine that this machine can't run.

    Raises
    ------
    EngineError
        Naming the package or program that is missing.
    """
    if settings.engine.name != "spark":
        return
    if find_spec("pyspark") is None or find_spec("dbt.adapters.spark") is None:
        raise EngineError(_MISSING_PACKAGE)
    if find_java() is None:
        raise EngineError(_MISSING_JAVA)


def find_java() -> Path | None:
    """Return the `java` that Spark would start; None where there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    return Path(found) if found else None


def open_spark(settings: Settings) -> Any:
    """Return the Spark session of this process; the first call starts it.

    Spark keeps its scratch files and its log below the home of that first call. The catalog lies in
    memory: which tables there are, the folders below ``settings.paths.lake`` say.

    Raises
    ------
    EngineError
        If PySpark, dbt-spark or Java is missing.
    """
    if _running:
        return _running[0]
    check_engine(settings)
    with without_warnings():
        from pyspark.sql import SparkSession

        for name in ("SQLQueryContextLogger", "py4j"):
            # Errors are raised, too, and py4j reports every call.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
        builder = SparkSession.builder.appName(f"clv {settings.project.name}")
        for key, value in spark_config(settings).items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    _running.append(session)
    return session


@contextmanager
def without_warnings() -> Iterator[None]:
    """Do what PySpark warns of with pandas 3; tests hold what is used of it to other engines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def running_spark() -> Any:
    """Return the session that `open_spark` has started in this process.

    Raises
    ------
    EngineError
        If it has not.
    """
    if not _running:
        raise EngineError("No Spark session runs in this process: call open_spark first.")
    return _running[0]


def spark_config(settings: Settings) -> dict[str, str]:
    """Return the configuration of the session that `open_spark` starts."""
    engine, folder = settings.engine, settings.paths.spark
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    log = folder / "log4j2.properties"
    write_atomically(log, _LOGGING.format(path=folder / "spark.log").encode())
    java = [
        f"-Dlog4j2.configurationFile={log.as_uri()}",
        f"-Djava.io.tmpdir={scratch}",
        f"-Dderby.system.home={scratch}",
    ]
    config = {
        **SESSION_RULES,
        "spark.master": engine.spark_master,
        "spark.driver.memory": engine.spark_memory,
        "spark.executor.memory": engine.spark_memory,
        "spark.sql.shuffle.partitions": str(engine.spark_partitions),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": (scratch / "warehouse").as_uri(),
        "spark.local.dir": str(scratch),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        **engine.spark_options,
    }
    if further := config.get("spark.driver.extraJavaOptions"):
        java.append(further)
    config["spark.driver.extraJavaOptions"] = " ".join(java)
    if engine.spark_master.startswith("local"):
        # Nobody else on the network reaches a session that needs none.
        config |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    return config
