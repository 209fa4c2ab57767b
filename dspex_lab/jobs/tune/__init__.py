"""Variables tuned by Optuna, in the background: ask, evaluate in parallel on workers, tell.

The way of a trial:

    Course → Study.ask → Search.suggest (only variables that count) → Space.check (constraints, before anything is spent) →
    Build (a program of its own) → Reporter.submit (rows, on a worker) → Study.complete | prune | fail

The best values are committed under a lease on the variables. :class:`Together` runs an optimizer of instructions and a tune job
over one space at once.
"""

from __future__ import annotations

from dspex_lab.jobs.tune._attribution import Attribution
from dspex_lab.jobs.tune._building import Build, Calls, Knobs, Made, build_of
from dspex_lab.jobs.tune._joint import Joint, Optimizes, Round, Side
from dspex_lab.jobs.tune._objectives import Objective, best_of, front_of, objectives_of
from dspex_lab.jobs.tune._search import Search, search_of
from dspex_lab.jobs.tune._spaces import know_space, known_space
from dspex_lab.jobs.tune._study import read_study
from dspex_lab.jobs.tune._together import Together
from dspex_lab.jobs.tune._tried import Tried
from dspex_lab.jobs.tune._tuned import Tuned
from dspex_lab.jobs.tune._work import Tune, tune

__all__ = [
    "Attribution",
    "Build",
    "Calls",
    "Joint",
    "Knobs",
    "Made",
    "Objective",
    "Optimizes",
    "Round",
    "Search",
    "Side",
    "Together",
    "Tried",
    "Tune",
    "Tuned",
    "best_of",
    "build_of",
    "front_of",
    "know_space",
    "known_space",
    "objectives_of",
    "read_study",
    "search_of",
    "tune",
]
