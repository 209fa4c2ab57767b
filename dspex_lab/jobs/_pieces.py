"""Some rows of an evaluation, on a worker or in a thread of the kernel: several at once, each told as it is done."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dspex_lab.errors import BudgetExceeded, Unserialisable
from dspex_lab.jobs._remote import Piece
from dspex_lab.jobs._scoring import ScoredRow, Scorer


class Item(NamedTuple):
    """One row to be evaluated; ``at`` counts from 0."""

    at: int
    example: Any
    inputs: Mapping[str, Any]


class Begun(NamedTuple):
    """The row ``at`` was begun."""

    at: int


def evaluate_rows(piece: Piece, program: Any, metric: Callable[..., Any], items: Sequence[Item], at_once: int) -> str | None:
    """Evaluate rows, ``at_once`` in threads, and tell of each (:class:`Begun`, then its :class:`ScoredRow`).

    Returns:
        what a budget said that refused a call, after which no more rows were begun; None where none did.
    """
    scorer, todo = Scorer(program, metric), deque(items)
    refused: list[BudgetExceeded] = []
    broken: list[BaseException] = []
    context = contextvars.copy_context()

    def some() -> None:
        try:
            while todo and not refused and not broken and not piece.stopping:
                try:
                    item = todo.popleft()
                except IndexError:
                    return
                piece.tell(Begun(item.at))
                _tell(piece, scorer.row(*item))
        except BudgetExceeded as error:
            refused.append(error)
        except BaseException as error:
            broken.append(error)
        finally:
            scorer.close()

    threads = [
        threading.Thread(target=context.copy().run, args=(some,), daemon=True) for _ in range(min(at_once, len(items)) - 1)
    ]
    for thread in threads:
        thread.start()
    context.copy().run(some)
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]
    if not refused:
        return None
    piece.refused = str(refused[0])
    return piece.refused


def _tell(piece: Piece, row: ScoredRow) -> None:
    try:
        piece.tell(row)
    except Unserialisable:
        # The score is what counts: of an answer that cannot come home, what it looks like does.
        piece.tell(replace(row, prediction=repr(row.prediction)))
