"""A budget ends a tune job with the best so far, and is shared by trials at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy

from dspex_lab.jobs import Jobs, Models
from dspex_lab.jobs.tune import tune
from dspex_lab.testing import scripted_lm
from dspex_lab.variables import Space


def test_a_budget_ends_it_with_the_best_so_far(jobs: Jobs, tmp_path: Path) -> None:
    space = Space()
    space.float("temperature", 0.0, 1.0, default=0.5)
    predict = dspy.Predict("q -> label")
    lm = scripted_lm(lambda prompt: {"label": "1"})

    def asks(q: str, temperature: float) -> Any:
        return predict(q=q, config={"temperature": temperature})

    def right(example: Any, prediction: Any) -> bool:
        return bool(str(example.label) == prediction.label)

    rows = [{"q": f"q{at}", "label": at % 2} for at in range(4)]
    work = tune(asks, None, right, rows, 10, space=space, inputs=["q"], parallel=1, concurrency=1, folder=tmp_path)
    job = jobs.start(work, surroundings=Models(lm, fresh=True), budget="10 calls", seed=1)
    found = job.result(60)
    assert job.state == "stopped"
    assert job.progress.spent.calls == 10
    assert [t.status for t in found.tried] == ["complete", "complete", "unfinished"]
    assert found.tried[2].note == "Not finished: it ended after 2 of 4 rows."
    assert found.tried[0].calls == 4
    assert found.score == 0.5
    assert job.resume(budget="20 calls").wait(60).state == "stopped"
    more = job.result(60)
    assert next(t.origin for t in more.tried if t.number > 2) == "repeated"
    assert job.progress.spent.calls == 20
    assert job.progress.repeated == 1


def test_a_budget_is_shared_by_trials_at_once_and_what_is_left_goes_to_one_at_a_time(
    place: Any, jobs: Jobs, tmp_path: Path
) -> None:
    space = Space()
    space.float("temperature", 0.0, 1.0, default=0.5)
    rows = [{"q": f"q{at}", "label": "1"} for at in range(4)]
    lm = scripted_lm([{"label": "1"}])
    work = tune(Asks(), None, right_label, rows, 10, space=space, inputs=["q"], concurrency=2, folder=tmp_path)
    job = jobs.start(work, pool="optimizer", surroundings=Models(lm, fresh=True), budget="11 calls", seed=1)
    found = job.result(60)
    assert job.state == "stopped"
    assert job.progress.spent.calls == 11
    complete = [t for t in found.tried if t.status == "complete"]
    assert len(complete) == 2
    assert sum(t.calls for t in found.tried) == 11


class Asks:
    """Asks a model."""

    __name__ = "asks"

    def __call__(self, q: str, temperature: float) -> Any:
        return dspy.Predict("q -> label")(q=q, config={"temperature": temperature})


def right_label(example: Any, prediction: Any) -> bool:
    return bool(str(example.label) == prediction.label)
