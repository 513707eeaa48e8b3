"""Write the asset graph that test_code_location.py holds the code to."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from clv_pipeline.orchestration.code_location import build_definitions
from clv_pipeline.settings import load_settings
from tests.orchestration.conftest import write_project
from tests.orchestration.test_code_location import SNAPSHOT, describe_graph

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(write_project(Path(folder) / "project"))
        graph = describe_graph(build_definitions(settings))
    SNAPSHOT.write_text(json.dumps(graph, indent=1) + "\n", encoding="utf-8")
