"""The shipped suite, over the real pool and the fake one."""

from __future__ import annotations

import asyncio

import pytest

from dspex_lab.errors import PoolError, WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools import Pool
from dspex_lab.testing._fake_pool import FakePool
from dspex_lab.testing._pool_conformance import PoolConformance


class TestPool(PoolConformance):
    @pytest.fixture
    def pool(self, general: Pool) -> Pool:
        return general

    @pytest.fixture
    def events(self, told: list[Event]) -> list[Event]:
        return told


class TestFakePool(PoolConformance):
    @pytest.fixture
    def events(self) -> list[Event]:
        return []

    @pytest.fixture
    def pool(self, events: list[Event]) -> FakePool:
        return FakePool(emit=events.append)


def test_the_fake_fails_as_it_is_told() -> None:
    pool = FakePool(failures=[WorkerKilled("gone"), WorkerKilled("gone again")])
    with pytest.raises(WorkerKilled, match="gone"):
        asyncio.run(pool.call(abs, -1))
    assert asyncio.run(pool.call(abs, -1, idempotent=True)) == 1
    assert [label for label, _ in pool.calls] == ["abs", "abs"]


def test_a_closed_fake_takes_no_calls() -> None:
    pool = FakePool("general")
    assert not pool.started
    assert pool.warm().started
    pool.close()
    with pytest.raises(PoolError, match="closed"):
        asyncio.run(pool.call(abs, -1))
    assert pool.status() == []
    assert repr(pool) == "<FakePool 'general': 2 threads of this process: a fake pool>"
