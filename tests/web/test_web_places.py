"""How many requests are answered at once, and how long others wait."""

from __future__ import annotations

import asyncio

import pytest

from dspex_lab.web._errors import Refused
from dspex_lab.web._metrics import Metrics
from dspex_lab.web._places import Places


def test_who_waits_too_long_is_told_to_come_again_and_the_place_stays_whole() -> None:
    async def go() -> None:
        places = Places(Metrics(), most=1, waiting=5, patience=0.01)
        async with places.take():
            with pytest.raises(Refused, match="No place came free in") as caught:
                async with places.take():
                    raise AssertionError("there is no place")
            assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        async with places.take():
            pass

    asyncio.run(go())


def test_who_is_patient_waits_as_long_as_it_takes_and_more_than_may_wait_are_refused_at_once() -> None:
    async def go() -> None:
        metrics = Metrics()
        places = Places(metrics, most=1, waiting=1, patience=30.0)
        begun = asyncio.Event()

        async def patient() -> str:
            async with places.take(patient=True):
                begun.set()
                return "had a place"

        async with places.take():
            task = asyncio.ensure_future(patient())
            await asyncio.sleep(0)  # it begins, and waits
            with pytest.raises(Refused, match="1 requests wait already"):
                places.check()
            assert not begun.is_set()
        assert await task == "had a place"
        assert metrics.registry.get_sample_value("dspex_running") == 0
        assert metrics.registry.get_sample_value("dspex_waiting") == 0

    asyncio.run(go())


def test_who_is_patient_was_let_in_when_he_asked_and_is_not_refused_later() -> None:
    async def go() -> None:
        places = Places(Metrics(), most=1, waiting=1, patience=30.0)

        async def patient() -> str:
            async with places.take(patient=True):
                return "had a place"

        async with places.take():
            tasks = []
            for _ in range(2):  # both are let in before the first of them waits
                places.check()
                tasks.append(asyncio.ensure_future(patient()))
            await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == ["had a place"] * 2

    asyncio.run(go())


def test_one_that_is_cancelled_while_it_waits_gives_its_turn_to_the_next() -> None:
    async def go() -> None:
        places = Places(Metrics(), most=1, waiting=5, patience=30.0)
        order: list[str] = []

        async def one(name: str) -> None:
            async with places.take():
                order.append(name)

        async with places.take():
            tasks = [asyncio.ensure_future(one(name)) for name in "abc"]
            await asyncio.sleep(0)
            tasks[0].cancel()
        tasks[1].cancel()  # at the moment in which the place is handed to it
        await asyncio.wait(tasks)
        assert order == ["c"]
        await one("d")
        assert order == ["c", "d"]

    asyncio.run(go())
