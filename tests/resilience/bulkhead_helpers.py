"""What the tests of bulkheads share: settings, failures and threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dspex_lab.errors import LMError
from dspex_lab.resilience import BulkheadSettings


def places(count: int = 1, **changed: Any) -> BulkheadSettings:
    return BulkheadSettings(**{"limit": count, "adaptive": False, **changed})


def busy(seconds: float | None = None) -> LMError:
    error = LMError("slow down", status=429)
    error.retry_after = seconds  # type: ignore[attr-defined]
    return error


def until(what: Callable[[], bool]) -> None:
    """Wait for what another thread does; it comes or the test's own time limit ends this."""
    while not what():
        time.sleep(0.0005)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool
