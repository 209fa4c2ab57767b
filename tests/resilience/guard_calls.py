"""Ways to call a guard, and work that fails as often as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dspex_lab.errors import LMError
from dspex_lab.resilience import Attempt, Guard, Policy, Retry

AT_ONCE = Retry(attempts=3, wait=0.0, jitter=0.0)
DOWN = LMError("down", status=503)
Call = Callable[..., Any]


def acall(guard: Guard, work: Callable[[Attempt], Any], **options: Any) -> Any:
    async def awaited(attempt: Attempt) -> Any:
        return work(attempt)

    return asyncio.run(guard.acall(awaited, **options))


def call(guard: Guard, work: Callable[[Attempt], Any], **options: Any) -> Any:
    return guard.call(work, **options)


@pytest.fixture(params=[call, acall], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Call:
    """Both twins keep every promise."""
    return request.param


class Flaky:
    """Fails with each of ``errors`` in turn, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.attempts: list[Attempt] = []

    def __call__(self, attempt: Attempt) -> str:
        self.attempts.append(attempt)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def policy(**parts: Any) -> Policy:
    return Policy(**{"retry": AT_ONCE, "breaker": None, "bulkhead": None, **parts})
