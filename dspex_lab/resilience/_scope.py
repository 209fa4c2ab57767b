"""Who owns the retries of a path of calls: two loops, one in the other, would multiply."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_retrying: ContextVar[bool] = ContextVar("dspex_retrying", default=False)


def is_retrying() -> bool:
    """Say whether somebody further out does this again where it fails, so that it is tried once only here.

    The answer follows copied contexts: tasks, ``asyncio.to_thread``, threads that run in a copy of their caller's context.
    """
    return _retrying.get()


@contextmanager
def retrying(active: bool = True) -> Iterator[None]:
    """Say that what is called in the block is done again from out here where it fails.

    `retry` and `retry_sync` say so by themselves. ``retrying(False)`` begins a path of its own: for what goes on after the
    block, such as a job that is started in a retried step.
    """
    outer = enter(active)
    try:
        yield
    finally:
        leave(outer)


def enter(active: bool | None) -> bool:
    """Enter the scope and return what `leave` needs; None leaves it as it is further out.

    No ``ContextVar`` token: a coroutine may be driven from another context than the one it began in, where a token cannot
    be given back.
    """
    outer = _retrying.get()
    if active is not None:
        _retrying.set(active)
    return outer


def leave(outer: bool) -> None:
    """Leave the scope."""
    _retrying.set(outer)
