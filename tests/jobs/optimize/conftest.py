"""The offline model, and jobs that use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optimize_cases import program, right, rows

from dspex_lab.jobs import Jobs, Models
from dspex_lab.jobs.optimize import optimize
from dspex_lab.lms import make_lm


@pytest.fixture
def offline(place: Any) -> Jobs:
    """Jobs whose model is the offline one."""
    made: Jobs = place.jobs(surroundings=lambda: Models(make_lm("offline")))
    return made


@pytest.fixture
def start(offline: Jobs) -> Callable[..., Any]:
    """Start an optimization of the small task and return its job."""

    def begin(optimizer: Any, pool: str | None = None, seed: int | None = 5, jobs: Jobs | None = None, **more: Any) -> Any:
        asked = {"metric": right, "trainset": rows(9), "valset": rows(6, 1), **more}
        work = optimize(asked.pop("program", None) or program(), optimizer, seed=seed, **asked)
        return (offline if jobs is None else jobs).start(work, pool=pool, seed=seed, settings=work.described())

    return begin
