"""A job finds the same around it when it goes on in another kernel."""

from __future__ import annotations

from pathlib import Path

from adopting_helpers import opened, own_state
from job_helpers import GATES, ROWS, blocks, exact, taught

from dspex_lab import Lab
from dspex_lab.testing import scripted_lm

__all__ = ["own_state"]


def test_an_evaluation_without_a_cache_goes_on_without_one_after_a_restart(tmp_path: Path) -> None:
    GATES["never"].clear()
    with Lab(tmp_path / "lab.duckdb") as lab:
        opened(lab)
        job = lab.evaluate("support", data=ROWS, metric=blocks, fresh=True, concurrency=1)
        for event in job.events():
            if (event.data or {}).get("done") == 5:
                break
    GATES["never"].set()
    with Lab(tmp_path / "lab.duckdb") as lab:
        opened(lab)
        lab.use(scripted_lm(taught, cache=True))
        for row in ROWS:
            lab.run("support", message=row["message"])  # the cache has all answers
        job = lab.jobs[1].resume().wait(60)
        assert job.state == "complete"
        assert job.progress.spent.cached == 0
        assert lab.evaluate("support", data=ROWS, metric=exact).wait(60).progress.spent.cached == len(ROWS)
