"""One real pool, started once: two workers with DSPy loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec


@pytest.fixture(scope="session")
def told() -> list[Event]:
    return []


@pytest.fixture(scope="session")
def general(told: list[Event]) -> Iterator[Pool]:
    pool = Pool(PoolSpec("general", 2, MINIMUM_MEMORY), emit=told.append)
    yield pool.warm()
    pool.close()
