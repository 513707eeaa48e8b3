"""What the tests of Spark share."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from clv_pipeline.engines.session import find_java

NEEDS_SPARK = [
    pytest.mark.spark,
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None or find_java() is None,
        reason="Spark needs the extra `spark` and Java",
    ),
]
# A session for tables of some thousand rows: compiling would take longer than computing.
SPARK: dict[str, Any] = {
    "name": "spark",
    "spark_master": "local[2]",
    "spark_memory": "1g",
    "spark_partitions": 2,
    "spark_options": {
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "
        "-XX:ReservedCodeCacheSize=256m",
    },
}
