"""What `clv run` does when training or the champion lets it down. No job runs here."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from clv_pipeline.models import store
from clv_pipeline.models.clv import CLVModel
from clv_pipeline.models.manifest import describe_question
from clv_pipeline.orchestration import commands
from clv_pipeline.orchestration.automation import SCORING_JOB, TRAINING_JOB
from clv_pipeline.orchestration.running import RunFailedError
from clv_pipeline.scoring import ScoringError, refuse_other_horizons
from clv_pipeline.settings import Settings
from clv_pipeline.timeline import Cutoff
from clv_pipeline.warehouse import open_warehouse

CUTOFF = Cutoff.parse("2024-03-31")


class Runs:
    """A runner that only notes what it was asked for."""

    def __init__(self, settings: Settings, fails: tuple[str, ...] = ()) -> None:
        self.settings = settings
        self.fails = fails
        self.jobs: list[str] = []
        self.said: list[str] = []
        self.progress = SimpleNamespace(say=self.said.append)

    def run(self, job: str, cutoff: Cutoff, run_id: str | None = None) -> Any:
        self.jobs.append(job)
        if job in self.fails:
            raise RunFailedError("Training refused: all labels over 30 days are zero.")
        return SimpleNamespace(seconds=1.0, run_id="r")


def promote(settings: Settings, version: str = "2024-01-31-aaaaaaaa", **more: Any) -> None:
    model = CLVModel((30,))
    model.served_by_, model.confidence_ = {30: "rate_times_aov"}, {30: ("low", "why")}
    folder = settings.paths.models
    folder.mkdir(parents=True, exist_ok=True)
    store.save_model(folder, model, {"model_version": version, "as_of": version[:10], **more})
    store.promote(folder, version, "first", "r")


def run(runs: Runs, train: bool | None = None) -> None:
    commands.run(runs, CUTOFF, train)  # type: ignore[arg-type]


def test_the_first_run_trains(settings: Settings) -> None:
    runs = Runs(settings)
    run(runs)
    assert runs.jobs == [TRAINING_JOB, SCORING_JOB]


def test_a_run_with_a_champion_only_scores(settings: Settings) -> None:
    promote(settings)
    runs = Runs(settings)
    run(runs)
    assert runs.jobs == [SCORING_JOB]


def test_a_champion_that_nobody_can_read_is_trained_anew(settings: Settings) -> None:
    promote(settings)
    (settings.paths.models / "2024-01-31-aaaaaaaa" / "model.json").write_bytes(b"{}")
    obstacle = commands.find_obstacle(settings)
    assert obstacle is not None and "run `clv train`" in obstacle
    runs = Runs(settings)
    run(runs)
    assert runs.jobs == [TRAINING_JOB, SCORING_JOB]


@pytest.mark.parametrize(
    ("section", "key", "before", "words"),
    [
        ("value", "horizons", [30], "was not trained for the horizons [90, 180, 365]"),
        ("value", "definition", "contribution_margin", "value.definition = contribution_margin"),
        ("value", "yearly_discount_rate", 0.1, "value.yearly_discount_rate = 0.1, not for 0.0"),
        ("project", "reporting_currency", "NLG", "project.reporting_currency = NLG, not for EUR"),
    ],
)
def test_a_champion_of_other_values_is_trained_anew(
    settings: Settings, section: str, key: str, before: Any, words: str
) -> None:
    asked = describe_question(settings)
    asked[section][key] = before
    promote(settings, recipe={"settings": asked})
    assert words in str(commands.find_obstacle(settings))
    runs = Runs(settings)
    run(runs)
    assert runs.jobs == [TRAINING_JOB, SCORING_JOB]


def test_a_later_cutoff_of_other_horizons_is_scored_first(settings: Settings) -> None:
    held = pd.DataFrame({"cutoff_date": [date(2024, 4, 1)] * 2, "horizon_days": [30, 60]})
    with open_warehouse(settings) as connection:
        connection.execute("CREATE TABLE scores.customer_predictions AS SELECT * FROM held")
        assert len(held) == 2
        refuse_other_horizons(connection, settings, Cutoff.parse("2024-04-01"))
        with pytest.raises(ScoringError, match=r"run `clv run --cutoff 2024-04-01` first"):
            refuse_other_horizons(connection, settings, CUTOFF)


def test_where_a_predecessor_can_be_read_it_scores(settings: Settings) -> None:
    promote(settings)
    promote(settings, "2024-02-29-bbbbbbbb")
    (settings.paths.models / "2024-02-29-bbbbbbbb" / "model.json").write_bytes(b"{}")
    runs = Runs(settings)
    run(runs)
    assert runs.jobs == [SCORING_JOB]


def test_scoring_goes_on_with_the_champion_when_training_fails(settings: Settings) -> None:
    promote(settings)
    runs = Runs(settings, fails=(TRAINING_JOB,))
    with pytest.raises(RunFailedError, match="tables are published, but training failed: Training"):
        run(runs, train=True)
    assert runs.jobs == [TRAINING_JOB, SCORING_JOB]
    assert any("Scoring goes on with the champion" in line for line in runs.said)


def test_without_a_champion_a_failed_training_ends_the_run(settings: Settings) -> None:
    runs = Runs(settings, fails=(TRAINING_JOB,))
    with pytest.raises(RunFailedError, match=r"^Training refused"):
        run(runs)
    assert runs.jobs == [TRAINING_JOB]
