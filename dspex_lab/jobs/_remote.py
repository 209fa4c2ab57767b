"""A job's work in a worker process, or a piece of it: module-level, so that only the work itself travels."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from typing import Any

from dspex_lab.errors import BudgetExceeded
from dspex_lab.jobs._reporter import Reporting
from dspex_lab.jobs._told import Batch, Began, Called, Order, Reply
from dspex_lab.jobs._work import Surroundings, Work
from dspex_lab.lms import Ledger
from dspex_lab.pools import Task, current_task


def carry_out(work: Work, order: Order, surroundings: Surroundings) -> Reply:
    """Run a work whole, here; what it tells goes to who called this on the pool."""
    task = current_task()
    asked = _asked(task, order.stop_file)
    ledger = None if order.allowance is None else Ledger.from_allowance(order.allowance)
    reporter = Reporting(order, task.tell, asked, ledger=ledger)
    task.tell(Batch((Began(os.getpid(), task.worker, order.stop_file is not None and _sees(order.stop_file)),)))
    if order.seed is not None:
        seed_all(order.seed)
    return run(work, reporter, surroundings, ledger)


def run(work: Work, reporter: Reporting, surroundings: Surroundings, ledger: Ledger | None) -> Reply:
    """Run a work in its surroundings and return what came of it. What it told is sent, however it ends."""
    value: Any = None
    refused = ""
    try:
        with surroundings.entered(reporter.job_id, reporter.record, ledger):
            value = work.run(reporter)
    except BudgetExceeded as error:
        # What it told until then is the result.
        reporter.cut, refused = True, str(error)
    finally:
        reporter.flush()
    if not refused and reporter.refused:
        refused = reporter.spent_out or f"The budget of {'the job' if ledger is None else ledger.name} is spent."
    return Reply(value, reporter.cut, refused, None if ledger is None else ledger.spent)


class Piece:
    """What the function of a piece is given first. Thread-safe.

    Args:
        tell: brings a value to the work.
        asked: says whether the job was asked to stop.

    Attributes:
        refused: what a budget refused, where the function met that and ended by it.
    """

    def __init__(self, tell: Callable[[Any], None], asked: Callable[[], bool]) -> None:
        self.tell = tell
        self.refused = ""
        self._asked = asked

    @property
    def stopping(self) -> bool:
        """Whether it should end soon."""
        return self._asked()


def carry_out_piece(function: Callable[..., Any], args: tuple[Any, ...], order: Order, surroundings: Surroundings) -> Reply:
    """Do one piece of a work, here; values that it tells go as they are, records of calls as :class:`Called`."""
    task = current_task()
    ledger = None if order.allowance is None else Ledger.from_allowance(order.allowance)
    asked = _asked(task, order.stop_file)
    return do_piece(function, args, Piece(task.tell, asked), order.job_id, task.tell, surroundings, ledger)


def do_piece(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    piece: Piece,
    job_id: str,
    tell: Callable[[Any], None],
    surroundings: Surroundings,
    ledger: Ledger | None,
) -> Reply:
    """Do one piece in its surroundings."""
    with surroundings.entered(job_id, lambda record: tell(Called(record)), ledger):
        value = function(piece, *args)
    return Reply(value, refused=piece.refused, spent=None if ledger is None else ledger.spent)


def seed_all(seed: int) -> None:
    """Seed the random numbers of this process: Python's, and those of numpy and torch where they are loaded."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _asked(task: Task, stop_file: str | None) -> Callable[[], bool]:
    def asked() -> bool:
        return task.cancelled or (stop_file is not None and os.path.exists(stop_file))

    return asked


def _sees(stop_file: str) -> bool:
    """Say whether the folder in which the stop file would be is one of this machine."""
    return os.path.isdir(os.path.dirname(stop_file))
