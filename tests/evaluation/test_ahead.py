"""When several processes share the fits of a training, and what happens when they end."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

import pytest

from clv_pipeline.evaluation import ahead
from clv_pipeline.models.histories import Histories
from clv_pipeline.models.room import limit_matrices
from clv_pipeline.models.scratch import Scratch
from clv_pipeline.planning import plan_horizon
from clv_pipeline.progress import FitCounter
from tests.models.panels import small_cdnow
from tests.training_panels import AS_OF, FIRST_DAY, make, panel_for


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    settings = make(tmp_path_factory.mktemp("shop"))
    return settings, panel_for(settings, small_cdnow(100))


def test_a_process_that_is_ended_from_outside_leaves_the_work_to_this_one(
    shop, tmp_path, monkeypatch
):
    settings, panel = shop

    def end(*arguments):
        raise BrokenProcessPool("killed")

    monkeypatch.setattr(ahead, "answer_all", end)
    plans = {90: plan_horizon(settings, AS_OF, 90, FIRST_DAY)}
    scratch, histories = Scratch(tmp_path / "scratch"), Histories(panel, 0)
    count = FitCounter(20, lambda text, share: None)
    tried = ahead.fit_ahead(settings, panel, AS_OF, histories, scratch, plans, count)
    assert not tried.settled
    assert tried.folds == set(ahead.list_folds(settings, plans[90]))
    assert all(scratch.find(fold.name) is None for fold in tried.folds)


def test_what_does_not_fit_into_memory_twice_is_learned_from_once(shop, tmp_path, monkeypatch):
    settings, panel = shop
    monkeypatch.setattr(ahead, "LEAST_ROWS", 0)
    scratch = Scratch(tmp_path / "scratch")

    def count(memory, folder=scratch, threads=2):
        engine = settings.engine.model_copy(update={"threads": threads, "memory_limit": memory})
        changed = settings.model_copy(update={"engine": engine})
        with limit_matrices(changed):
            return ahead.count_processes(changed, panel, folder)

    encoded = 4 * panel.features.size
    assert count(f"{8 * encoded / 1e6 + 0.01:.4f}MB") == 2
    assert count(f"{8 * encoded / 1e6 - 0.01:.4f}MB") == 1
    assert count(f"{8 * encoded / 1e6 + 0.01:.4f}MB", threads=16) == 2
    assert count("4GB", threads=16) == 16
    assert count("4GB", Scratch(None)) == 1
