"""One real pool, started once: two workers with DSPy loaded."""

from __future__ import annotations

import os
import time
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
    _shared.append(pool)
    yield pool.warm()
    _shared.remove(pool)
    pool.close()


_shared: list[Pool] = []


@pytest.fixture(autouse=True)
def _settled() -> None:
    """A worker that an earlier test killed is back before the next test looks at ports, processes and the environment."""
    deadline = time.monotonic() + 60
    for pool in _shared:
        while [w["state"] for w in pool.status()] != ["idle", "idle"] or "__DASK_PARENT_PID" in os.environ:
            assert time.monotonic() < deadline, f"the workers did not come back: {pool.status()}"
            time.sleep(0.02)  # the pool has nothing to wait on for this
