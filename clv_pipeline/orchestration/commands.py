"""What the verbs of the command line do, beyond a single call."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from clv_pipeline import dbt_project
from clv_pipeline.ingest.landing import land_inputs
from clv_pipeline.orchestration.automation import SCORING_JOB, TRAINING_JOB
from clv_pipeline.orchestration.code_location import build_definitions
from clv_pipeline.orchestration.environment import prepare_environment
from clv_pipeline.orchestration.partitions import data_days
from clv_pipeline.orchestration.project import tidy_killed_runs
from clv_pipeline.orchestration.resuming import is_trained
from clv_pipeline.orchestration.running import RunFailedError, Runner, RunOutcome
from clv_pipeline.orchestration.tables_view import print_frame, read_published
from clv_pipeline.progress import Progress
from clv_pipeline.reuse import STEPS, forget_steps
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import write_atomically

WORKSPACE = """\
load_from:
  - python_module:
      module_name: clv_pipeline.definitions
      location_name: clv_pipeline
"""


@contextmanager
def hold_runner(settings: Settings, progress: Progress | None = None) -> Iterator[Runner]:
    """Open what runs jobs, holding the run lock meanwhile."""
    with progress or Progress() as progress:
        runner = Runner(settings, build_definitions, progress)
        with runner.hold():
            yield runner


def run(runner: Runner, cutoff: Cutoff | None, train: bool | None) -> None:
    """Score and publish one cutoff; train first when asked to, or when no model can be read.

    Raises
    ------
    RunFailedError
        If a job failed. When only training did, the champion has scored and was published before.
    """
    can_score = find_obstacle(runner.settings) is None
    jobs = [SCORING_JOB]
    if train or (train is None and not can_score):
        jobs.insert(0, TRAINING_JOB)
    cutoff, run_id = choose_cutoff(runner, cutoff)
    trained = is_trained(runner.settings, cutoff, TRAINING_JOB, SCORING_JOB)
    if TRAINING_JOB in jobs and trained is not None and can_score:
        jobs.remove(TRAINING_JOB)
        runner.progress.say(f"training as of {cutoff} was finished by run {trained}")
    failure: RunFailedError | None = None
    for job in jobs:
        try:
            run_job(runner, job, cutoff, run_id)
        except RunFailedError as error:
            if job != TRAINING_JOB or not can_score:
                raise
            failure = error
            runner.progress.say(f"{error} Scoring goes on with the champion.")
        run_id = None
    say_where(runner)
    if failure is not None:
        raise RunFailedError(
            f"The champion has scored and the tables are published, but training failed: {failure}"
        )


def find_obstacle(settings: Settings) -> str | None:
    """Say why nothing could score now; None where the champion, or one in its place, can."""
    # Models bring XGBoost and scikit-learn with them, which takes seconds.
    from clv_pipeline.models import store
    from clv_pipeline.models.manifest import describe_question, find_other_question

    try:
        _, manifest, _ = store.load_serving(settings.paths.models)
    except store.ModelStoreError as error:
        return str(error)
    other = find_other_question(manifest, describe_question(settings))
    return f"The champion {other}." if other else None


def train(runner: Runner, cutoff: Cutoff | None) -> None:
    """Train a challenger."""
    cutoff, run_id = choose_cutoff(runner, cutoff)
    run_job(runner, TRAINING_JOB, cutoff, run_id)


def backfill(runner: Runner, cutoffs: Sequence[Cutoff]) -> None:
    """Score and publish several cutoffs, oldest first."""
    for number, cutoff in enumerate(cutoffs, 1):
        runner.progress.say(f"Day {number} of {len(cutoffs)}")
        run_job(runner, SCORING_JOB, cutoff)
    say_where(runner)


def choose_cutoff(runner: Runner, cutoff: Cutoff | None) -> tuple[Cutoff, str | None]:
    """Land what is new, and take the last day with data when no cutoff was named.

    Returns
    -------
    tuple
        The cutoff, and the id of the run for which files have landed, if any.
    """
    if cutoff is not None:
        return cutoff, None
    run_id = str(uuid.uuid4())
    runner.progress.begin("landing")
    report = land_inputs(
        runner.settings,
        run_id,
        progress=lambda text: runner.progress.update("landing", text),
        received_at=datetime.now(UTC),
    )
    runner.progress.end("landing", report.inputs["transactions"].sentence)
    chosen = runner.default_cutoff()
    runner.progress.say(f"As of {chosen}, the last day with data that is over.")
    return chosen, run_id


def run_job(runner: Runner, job: str, cutoff: Cutoff, run_id: str | None = None) -> RunOutcome:
    """Run one job and say how long it took."""
    runner.progress.say(f"{job.replace('_', ' ')} as of {cutoff}")
    outcome = runner.run(job, cutoff, run_id)
    runner.progress.say(f"   done in {outcome.seconds:.0f} s, run {outcome.run_id}")
    return outcome


def say_where(runner: Runner) -> None:
    """Say where the published tables are."""
    runner.progress.say(f"published  {runner.settings.paths.published_database}, Parquet beside it")


def show_answer(runner: Runner, folder: Path, clv: str) -> None:
    """Print five rows of the answer, the model beside the baselines, and what to do next.

    Parameters
    ----------
    runner
        Has run.
    folder
        Of the project.
    clv
        How this command is called from there.
    """
    settings = runner.settings
    horizon = settings.value.churn_days
    print_frame(
        read_published(
            settings,
            f"SELECT customer_id, clv_{horizon}d, clv_{horizon}d_p10, clv_{horizon}d_p90, "
            f"probability_purchase_{horizon}d, historic_value, segment, value_tier, confidence "
            "FROM clv.customer_clv ORDER BY clv_rank LIMIT 5",
        ),
        title="The five most valuable customers (clv.customer_clv)",
    )
    board = read_published(settings, _LEADERBOARD)
    print_frame(board, title="How good is it? (clv.model_leaderboard, * serves)")
    commands = {
        'sql "SELECT * FROM segment_profile"': "ask the published tables",
        "status": "how fresh they are",
        "dev": "the same runs in Dagster's UI",
        "init YOUR_FILES...": "the same on your own data, in a folder of your own",
    }
    width = max(map(len, commands)) + 4
    lines = [f"  {clv} {command:{width}}{meaning}" for command, meaning in commands.items()]
    runner.progress.say("\n".join(("What to do next", f"  cd {folder}", *lines)))


_LEADERBOARD = """
SELECT
    if(is_champion, '* ', '  ') || model AS model,
    horizon_days,
    evaluation_date,
    normalized_gini,
    spearman,
    rmse,
    total_bias,
    top_10_capture
FROM clv.model_leaderboard
QUALIFY evaluation_date = max(evaluation_date) OVER (PARTITION BY horizon_days)
    AND horizon_days = max(horizon_days) OVER ()
ORDER BY normalized_gini DESC
"""


def run_dbt_command(settings: Settings, arguments: Sequence[str]) -> int:
    """Run dbt's own command line in the installed project; return its exit code."""
    prepare_environment(settings)
    project = dbt_project.install_dbt_project(settings)
    days = data_days(settings)
    last = Cutoff(days[1]) if days else Cutoff.parse("2000-01-01")
    environment = os.environ | dbt_project.dbt_environment(settings)
    variables = dbt_project.dbt_variables(settings, (last,), last, "command-line")
    if "--vars" not in arguments:
        arguments = [*arguments, "--vars", json.dumps(variables)]
    # Whatever it is told to write, the next run builds anew.
    forget_steps(settings, list(STEPS))
    program = str(Path(sys.executable).parent / "dbt")
    return subprocess.call([program, *arguments], cwd=project, env=environment)  # noqa: S603


def prepare_dev(settings: Settings) -> Path:
    """Make ready what the UI needs, and tidy up after runs that were killed.

    Returns
    -------
    Path
        The workspace file to start Dagster with.
    """
    prepare_environment(settings)
    with dg.DagsterInstance.get() as instance:
        tidy_killed_runs(settings, instance)
    workspace = settings.paths.dagster_home / "workspace.yaml"
    write_atomically(workspace, WORKSPACE.encode())
    return workspace
