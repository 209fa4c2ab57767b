"""One real pool, started once: two workers with DSPy loaded."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_calls import SHARED

from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec, _running


@pytest.fixture(scope="session")
def told() -> list[Event]:
    return []


@pytest.fixture(scope="session")
def general(told: list[Event], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    writable = (str(tmp_path_factory.getbasetemp()), *_measured())  # where tasks of tests leave marks
    pool = Pool(PoolSpec("general", 2, MINIMUM_MEMORY, writable=writable), emit=told.append)
    _shared.append(pool)
    yield pool.warm()
    _shared.remove(pool)
    pool.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long before a call is stopped, a lost worker ended, or a call sent again."""
    for name in ("GRACE", "LOST", "BACKOFF"):
        monkeypatch.setattr(_running, name, 0.005)


@pytest.fixture(autouse=True)
def nothing_shared() -> Iterator[None]:
    yield
    SHARED.clear()


_shared: list[Pool] = []


def _measured() -> tuple[str, ...]:
    """The folder in which coverage leaves what it measures, in workers too."""
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage is not None else None
    return () if current is None else (str(Path(current.config.data_file).absolute().parent),)


@pytest.fixture(autouse=True)
def _settled() -> None:
    """A worker that an earlier test killed is back before the next test looks at ports, processes and the environment."""
    deadline = time.monotonic() + 60
    for pool in _shared:
        while [w["state"] for w in pool.status()] != ["idle", "idle"] or "__DASK_PARENT_PID" in os.environ:
            assert time.monotonic() < deadline, f"the workers did not come back: {pool.status()}"
            time.sleep(0.02)  # the pool has nothing to wait on for this
        pool.pardon()  # tests kill workers by the same functions
