"""Runs that may hang, in tests."""

from __future__ import annotations

import faulthandler
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds after which something is said to hang.
LONG = 60.0


def in_time(work: Callable[[], T]) -> T:
    """Return what ``work`` gives; a run that hangs is a failure and not the end of the tests."""
    found: list[Any] = []

    def carry_out() -> None:
        try:
            found.append((work(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=carry_out, daemon=True)
    thread.start()
    thread.join(LONG)
    if not found:
        faulthandler.dump_traceback(all_threads=True)
        raise AssertionError("the run hangs")
    value, error = found[0]
    if error is not None:
        raise error
    done: T = value
    return done
