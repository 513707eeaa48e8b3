"""What one daily scoring run costs, stage by stage, and how much of it is orchestration.

The run is the job daily_scoring in this process, as `clv run --no-train` runs it, on the bundled
CDNOW data (23,570 customers, 69,659 orders): everything has landed before, a champion is there,
every customer is scored anew and published.

- seconds: wall time of a step, as Dagster reports it.
- work: the part of it inside the pipeline's own functions: landing, dbt, gates, scoring, standing,
  publication. Nothing in them knows Dagster. What they import at their first call (dbt, Great
  Expectations, XGBoost) is counted with them.
- orchestration: all the rest of the wall time. It is split into imports (Dagster, dagster-dbt;
  paid once per process), loading the definitions, what steps spend around the work (events,
  metadata, plots and previews for the UI), and what passes between steps.

Memory is the peak of the process (resident set) over its whole life.
"""

from __future__ import annotations

import time

# The clock starts before the imports, whose time is part of what is measured.
STARTED = time.monotonic()

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clv_pipeline.orchestration.environment import prepare_environment, prepare_process
from clv_pipeline.progress import Progress
from clv_pipeline.settings import Settings, load_settings
from clv_pipeline.timeline import Cutoff

EXAMPLE = """\
example:
  python benchmarks/daily_run.py
  python benchmarks/daily_run.py --folder clv_demo --cutoff 1998-06-30"""


@dataclass
class Stage:
    """One step of the run.

    Attributes
    ----------
    title
        As the command line names it.
    work
        Seconds inside the pipeline's own functions.
    """

    title: str
    work: float = 0.0


class Recorder(Progress):
    """Hears which step is under way, prints nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[Stage] = []
        self._depth = 0

    def begin(self, stage: str) -> None:
        """Note that a step has begun."""
        self.stages.append(Stage(stage))

    def update(self, stage: str, text: str) -> None:
        """Say nothing."""

    def end(self, stage: str, note: str = "", *, is_good: bool = True) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def watch(self, module: Any, name: str) -> None:
        """Count the time inside a module's function as work of the step under way."""
        function: Callable[..., Any] = getattr(module, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.monotonic()
            self._depth += 1
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= 1
                # A gate within the publication is counted with it, once.
                if not self._depth and self.stages:
                    self.stages[-1].work += time.monotonic() - started

        setattr(module, name, timed)


def make_project(folder: Path) -> Settings:
    """Return a project with a champion; the demo makes one where there is none."""
    if not list(folder.glob(".clv/models/champion.json")):
        print(f"Training a champion in {folder} first; that takes minutes and is not measured.")
        program = str(Path(sys.executable).parent / "clv")
        subprocess.run([program, "demo", "--folder", str(folder)], check=True)
    return load_settings(folder)


def measure(settings: Settings, cutoff: Cutoff, not_measured: float) -> None:
    """Run the job once and print what it took.

    Parameters
    ----------
    not_measured
        Seconds since the start of the process that went into making the project.
    """
    prepare_environment(settings)
    import data_quality.gates as gates
    from clv_pipeline.orchestration import dbt, ingest_assets, serving
    from clv_pipeline.orchestration.automation import SCORING_JOB
    from clv_pipeline.orchestration.code_location import build_definitions
    from clv_pipeline.orchestration.running import Runner

    recorder = Recorder()
    recorder.watch(ingest_assets, "land_input")
    recorder.watch(dbt, "build_models")
    recorder.watch(gates, "run_gate")
    recorder.watch(gates, "record_results")
    for name in ("score", "stand", "total", "explain_drivers", "write_actions", "publish_cutoff"):
        recorder.watch(serving, name)
    imported = time.monotonic()
    loading = 0.0

    def build(settings: Settings) -> Any:
        nonlocal loading
        begun = time.monotonic()
        definitions = build_definitions(settings)
        loading = time.monotonic() - begun
        return definitions

    runner = Runner(settings, build, recorder)
    with runner.hold():
        outcome = runner.run(SCORING_JOB, cutoff)
    total = time.monotonic() - STARTED - not_measured
    steps = list(outcome.step_seconds.values())
    work = sum(stage.work for stage in recorder.stages)
    imports = imported - STARTED - not_measured
    print(f"Daily scoring as of {cutoff}, {len(steps)} steps\n")
    print(f"{'stage':<28}{'seconds':>10}{'work':>10}")
    for stage, seconds in zip(recorder.stages, steps, strict=True):
        print(f"{stage.title:<28}{seconds:>10.2f}{stage.work:>10.2f}")
    print(f"{'all steps':<28}{sum(steps):>10.2f}{work:>10.2f}\n")
    rows = {
        "imports": imports,
        "loading the definitions": loading,
        "around the work, in steps": sum(steps) - work,
        "between steps": total - imports - loading - sum(steps),
    }
    for label, seconds in rows.items():
        print(f"{label:<28}{seconds:>10.2f}{seconds / total:>10.0%}")
    print(f"{'orchestration':<28}{total - work:>10.2f}{(total - work) / total:>10.0%}")
    print(f"{'work':<28}{work:>10.2f}{work / total:>10.0%}")
    print(f"{'total wall time':<28}{total:>10.2f}")
    print(f"{'peak memory':<28}{peak_megabytes():>10,.0f} MB")


def peak_megabytes() -> float:
    """Return the most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def main() -> None:
    """Read the arguments, make what is missing, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("clv_demo"),
        help="project of `clv demo`, made where it is missing  [default: clv_demo]",
    )
    parser.add_argument(
        "--cutoff",
        type=Cutoff.parse,
        default=Cutoff.parse("1998-06-30"),
        help="day to score  [default: 1998-06-30, the last day of the data]",
    )
    arguments = parser.parse_args()
    prepare_process()
    begun = time.monotonic()
    settings = make_project(arguments.folder)
    measure(settings, arguments.cutoff, time.monotonic() - begun)


if __name__ == "__main__":
    main()
