"""Background work: evaluate, optimize, tune, train. It outlives the cell, tells how it goes, and can be stopped and resumed.

``lab.jobs`` is a :class:`Jobs`. The way of a job:

    Jobs.start → _running.Running (a thread) → _in_worker.InWorker → Pool.call → (worker) _remote.carry_out → Work.run
                                               _in_kernel.InKernel → Work.run → Reporter.submit → Pool.call → (worker) a piece

What a work tells (:class:`Reporter`) comes home in batches to the job's ``_account.Account``, which keeps it, tells the bus
and wakes who follows. A new kind of job is one class: :class:`Work`.
"""

from __future__ import annotations

from dspex_lab.jobs._around import Pool
from dspex_lab.jobs._book import JobBook, MemoryBook, State
from dspex_lab.jobs._card import Sheet
from dspex_lab.jobs._compare import Comparison, Interval, compare_scores, interval_of, wilson
from dspex_lab.jobs._datasets import Dataset, DatasetBook
from dspex_lab.jobs._evaluate import Evaluate, evaluate
from dspex_lab.jobs._evaluation import Evaluation
from dspex_lab.jobs._fields import check_rows
from dspex_lab.jobs._job import Job
from dspex_lab.jobs._jobs import Jobs
from dspex_lab.jobs._programs import (
    Lineage,
    PartDiff,
    diff_candidates,
    diff_programs,
    fingerprint_program,
    lineage,
)
from dspex_lab.jobs._progress import Left, Progress, Spent
from dspex_lab.jobs._reading import rows_of
from dspex_lab.jobs._remote import Piece
from dspex_lab.jobs._running import Rules
from dspex_lab.jobs._scoring import ScoredRow, score_of
from dspex_lab.jobs._shelf import Shelf, user_key
from dspex_lab.jobs._state import ENDED
from dspex_lab.jobs._surroundings import Bare, Models
from dspex_lab.jobs._work import Adopter, Found, Plan, Reporter, Surroundings, Work

__all__ = [
    "ENDED",
    "Adopter",
    "Bare",
    "Comparison",
    "Dataset",
    "DatasetBook",
    "Evaluate",
    "Evaluation",
    "Found",
    "Interval",
    "Job",
    "JobBook",
    "Jobs",
    "Left",
    "Lineage",
    "MemoryBook",
    "Models",
    "PartDiff",
    "Piece",
    "Plan",
    "Pool",
    "Progress",
    "Reporter",
    "Rules",
    "ScoredRow",
    "Sheet",
    "Shelf",
    "Spent",
    "State",
    "Surroundings",
    "Work",
    "check_rows",
    "compare_scores",
    "diff_candidates",
    "diff_programs",
    "evaluate",
    "fingerprint_program",
    "interval_of",
    "lineage",
    "rows_of",
    "score_of",
    "user_key",
    "wilson",
]
