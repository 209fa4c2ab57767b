"""What a work tells on its way, as it crosses from a worker to the kernel: plain picklable records, a few at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from dspex_lab.events import Record, TrialRecord
from dspex_lab.lms import Spent


class Abandoned(BaseException):
    """Raised in the thread of a work that was given up, where it tells something or asks for a piece."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a work is sent with.

    Args:
        job_id: the job's.
        attempt: counts from 1.
        seed: for random choices.
        state: what it goes on from.
        trials: the number of its next trial.
        stop_file: asks it to stop where it exists; None where it is asked otherwise.
        allowance: what it may spend (``Loan.data``); None for no limit.
        known: the numbers of the trials that are in the job's book.
        number: by which people know the job.
    """

    job_id: str
    attempt: int = 1
    seed: int | None = None
    state: Any = None
    trials: int = 0
    stop_file: str | None = None
    allowance: dict[str, Any] | None = None
    known: frozenset[int] = frozenset()
    number: int | None = None


class Began(NamedTuple):
    """It runs. ``sees``: it can see whether its stop file exists."""

    pid: int
    worker: str
    sees: bool


class Went(NamedTuple):
    """How far it is."""

    done: float
    total: float | None
    note: str
    score: float | None = None


class Tried(NamedTuple):
    """A candidate was tried."""

    trial: TrialRecord


class Best(NamedTuple):
    """The best candidate so far."""

    candidate: Any
    score: float | None


class Kept(NamedTuple):
    """What it goes on from; in the kernel it may be a function that gives it."""

    state: Any


class Again(NamedTuple):
    """So much is done a second time."""

    much: int


class Called(NamedTuple):
    """A record of a model's call, or of what happened around one."""

    record: Record


Message = Began | Went | Tried | Best | Kept | Again | Called


class Batch(NamedTuple):
    """Messages in their order."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a work, or of a piece of one.

    Args:
        value: what it returned.
        cut: it looked whether it should stop, was told so, and ended.
        refused: what a budget said that refused a call; empty where none did.
        spent: what its ledger says was spent; None where it had none.
    """

    value: Any = None
    cut: bool = False
    refused: str = ""
    spent: Spent | None = None
