"""What every pool must do with its workers: place, reserve, resize and restart them."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import threading

import pytest

from dspex_lab.errors import ConfigurationError, PoolBusy, PoolError
from dspex_lab.events import Event
from dspex_lab.pools._placement import Placement
from dspex_lab.testing._any_pool import AnyPool, run


class PoolPlacement:
    """The part of :class:`PoolConformance` about workers."""

    def test_a_call_goes_where_it_is_placed(self, pool: AnyPool, events: list[Event]) -> None:
        names = sorted(row["name"] for row in pool.warm().status())
        for affinity in ("hint", "strict-queue", "strict-fail"):
            for name in names:
                events.clear()
                run(pool, abs, -1, place=Placement(name, affinity))
                assert [e.data["worker"] for e in events if e.name == "pool.checkout" and e.data] == [name]

    def test_a_placement_that_makes_no_sense_is_refused(self, pool: AnyPool) -> None:
        with pytest.raises(ConfigurationError, match="affinity"):
            Placement("w", "maybe")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="names no worker"):
            Placement(affinity="strict-fail")
        with pytest.raises(ConfigurationError, match="The place of a call"):
            run(pool, abs, -1, place="w")
        with pytest.raises(PoolError, match=r"no worker 'nobody'"):
            run(pool, abs, -1, place=Placement("nobody", "strict-queue"))
        assert run(pool, abs, -1, place=Placement("nobody")) == 1
        with pytest.raises(PoolError, match="no reservation 'r1'"):
            run(pool, abs, -1, place=Placement(reservation="r1"))

    def test_a_reserved_worker_runs_nothing_else(self, pool: AnyPool, events: list[Event]) -> None:
        async def reserve() -> str:
            async with pool.reserve() as reservation:
                events.clear()
                await asyncio.gather(*(pool.call(abs, -i) for i in range(6)))
                assert reservation.worker not in {e.data["worker"] for e in events if e.name == "pool.checkout" and e.data}
                assert {row["state"] for row in pool.status() if row["name"] == reservation.worker} == {"reserved"}
                assert next(row["pid"] for row in pool.status() if row["name"] == reservation.worker) == reservation.pid
                events.clear()
                await asyncio.gather(*(pool.call(abs, -i, place=reservation.place) for i in range(3)))
                assert {e.data["worker"] for e in events if e.name == "pool.checkout" and e.data} == {reservation.worker}
                with pytest.raises(PoolBusy, match="is not free"):
                    await pool.call(abs, -1, place=Placement(reservation.worker, "strict-fail"))
                return str(reservation.worker)

        name = asyncio.run(reserve())
        assert run(pool, abs, -1, place=Placement(name, "strict-fail")) == 1

    def test_a_reservation_ends_with_an_error_and_with_a_cancelled_task(self, pool: AnyPool) -> None:
        async def fail() -> None:
            with pytest.raises(LookupError):
                async with pool.reserve():
                    raise LookupError

        async def cancelled() -> None:
            inside = asyncio.Event()

            async def hold() -> None:
                async with pool.reserve(), pool.reserve():
                    inside.set()
                    await asyncio.Event().wait()

            going = asyncio.ensure_future(hold())
            await inside.wait()
            waiting = asyncio.ensure_future(_reserve(pool))
            while not pool.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0)
            waiting.cancel()
            going.cancel()
            await asyncio.gather(going, waiting, return_exceptions=True)

        asyncio.run(fail())
        asyncio.run(cancelled())
        assert asyncio.run(asyncio.wait_for(_both(pool), 60)) is None

    def test_a_reservation_that_gets_no_worker_in_its_time_is_refused(self, pool: AnyPool) -> None:
        async def crowd() -> None:
            async with pool.reserve(), pool.reserve():
                with pytest.raises(PoolBusy, match="reserved"):
                    async with pool.reserve(patience=0.02):
                        raise AssertionError("there are only two workers")

        asyncio.run(crowd())

    def test_a_call_that_gets_no_worker_in_its_time_is_refused_by_name(self, pool: AnyPool) -> None:
        async def crowd() -> None:
            async with pool.reserve(), pool.reserve():
                with pytest.raises(PoolBusy, match=r"orders waited .* for a worker of pool .* and was not begun") as caught:
                    await pool.call(abs, -1, label="orders", patience=0.02)
                assert (caught.value.pool, caught.value.task) == (pool.name, "orders")
                assert caught.value.hint

        asyncio.run(crowd())

    # ---- size ------------------------------------------------------------------------------------------------------

    def test_a_pool_grows_and_shrinks(self, pool: AnyPool, events: list[Event]) -> None:
        events.clear()
        pool.warm()
        pool.resize(1)
        assert len(pool.status()) == 1
        assert run(pool, abs, -1) == 1
        pool.resize(2)
        assert len(pool.status()) == 2
        assert asyncio.run(_both(pool)) is None
        sizes = [(e.data["before"], e.data["workers"]) for e in events if e.name == "pool.resize" and e.data]
        assert sizes == [(2, 1), (1, 2)]
        with pytest.raises(ConfigurationError, match="workers"):
            pool.resize(0)

    def test_a_restarted_worker_is_another_one_of_the_same_name(self, pool: AnyPool, events: list[Event]) -> None:
        events.clear()
        name = pool.warm().status()[0]["name"]
        with pytest.raises(PoolError, match="no worker 'nobody'"):
            pool.restart("nobody")
        pool.restart(name)
        while not any(e.name == "pool.restart" for e in list(events)):
            threading.Event().wait(0.002)
        assert run(pool, abs, -1, place=Placement(name, "strict-queue")) == 1
        assert [e.data["reason"] for e in events if e.name == "pool.restart" and e.data] == ["restart"]


async def _reserve(pool: AnyPool) -> None:
    async with pool.reserve():
        pass


async def _both(pool: AnyPool) -> None:
    async with pool.reserve(), pool.reserve():
        pass
