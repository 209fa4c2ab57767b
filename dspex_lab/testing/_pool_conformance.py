"""What every pool must do, as tests that run over any of them."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from dspex_lab.errors import ConfigurationError, OutOfMemory, PoolError, TaskTimeout, Unserialisable
from dspex_lab.events import Event
from dspex_lab.pools._job import Outcome
from dspex_lab.testing._any_pool import AnyPool, run
from dspex_lab.testing._pool_placement import PoolPlacement
from dspex_lab.testing._pool_streams import PoolStreams


class PoolConformance(PoolStreams, PoolPlacement):
    """Inherit, and give a fixture ``pool`` (a pool with two workers of one thread) and a fixture ``events``: the list that the
    pool's ``emit`` appends to."""

    def test_a_function_is_called_with_its_arguments(self, pool: AnyPool) -> None:
        assert run(pool, divmod, 17, 5) == (3, 2)

    def test_lambdas_and_closures_travel(self, pool: AnyPool) -> None:
        base = 40
        assert run(pool, lambda x: base + x, 2) == 42

    def test_a_closure_that_changed_is_sent_anew(self, pool: AnyPool) -> None:
        seen = [1]

        def total() -> int:
            return sum(seen)

        assert run(pool, total) == 1
        seen.append(2)
        assert run(pool, total) == 3

    def test_classes_defined_on_the_spot_travel_both_ways(self, pool: AnyPool) -> None:
        class Point:
            def __init__(self, x: int) -> None:
                self.x = x

            def moved(self) -> Point:
                return Point(self.x + 1)

        assert isinstance(run(pool, Point.moved, Point(1)), Point)
        assert run(pool, Point(4).moved).x == 5

    def test_a_coroutine_function_is_run_to_its_end(self, pool: AnyPool) -> None:
        async def later(x: int) -> int:
            await asyncio.sleep(0)
            return x * 2

        assert run(pool, later, 21) == 42

    def test_the_callers_values_are_not_touched(self, pool: AnyPool) -> None:
        mine = [1]
        assert run(pool, lambda values: values.append(2) or values, mine) == [1, 2]
        assert mine == [1]

    def test_an_exception_is_raised_as_itself_with_the_workers_traceback(self, pool: AnyPool) -> None:
        class Mine(ValueError):
            pass

        def guilty_function() -> None:
            raise Mine("no such order")

        with pytest.raises(Mine, match="no such order") as caught:
            run(pool, guilty_function)
        note = "\n".join(caught.value.__notes__)
        assert "guilty_function" in note
        assert pool.name in note

    def test_an_exception_that_cannot_be_rebuilt_is_a_pool_error_with_its_text(self, pool: AnyPool) -> None:
        class Awkward(Exception):
            def __init__(self, code: int, text: str) -> None:
                super().__init__(text)

        def fail() -> None:
            raise Awkward(4, "out of stock")

        with pytest.raises(PoolError, match=r"raised Awkward in worker .*out of stock") as caught:
            run(pool, fail)
        assert "Awkward" in str(caught.value.traceback)

    def test_leaving_the_interpreter_is_a_pool_error(self, pool: AnyPool) -> None:
        with pytest.raises(PoolError, match="raised SystemExit"):
            run(pool, sys.exit, 3)

    def test_too_much_memory_has_a_name_and_the_pool_goes_on(self, pool: AnyPool) -> None:
        with pytest.raises(OutOfMemory) as caught:
            run(pool, bytearray, 1 << 50)
        assert caught.value.pool == pool.name
        assert caught.value.worker
        assert "MemoryError" in str(caught.value.traceback)
        assert run(pool, abs, -1) == 1

    def test_time_that_is_up_has_a_name_and_the_pool_goes_on(self, pool: AnyPool) -> None:
        def forever() -> None:
            threading.Event().wait()

        with pytest.raises(TaskTimeout, match=r"forever did not finish within 0\.2 s") as caught:
            run(pool, forever, timeout=0.2)
        assert caught.value.hint
        assert run(pool, abs, -1) == 1

    def test_a_timeout_that_is_no_time_is_refused(self, pool: AnyPool) -> None:
        with pytest.raises(ConfigurationError, match="timeout"):
            run(pool, abs, -1, timeout=0)

    def test_what_cannot_be_sent_is_named_by_its_path(self, pool: AnyPool) -> None:
        class Client:
            def __init__(self) -> None:
                self._lock = threading.Lock()

        client = Client()

        def find_orders() -> object:
            return client

        with pytest.raises(Unserialisable) as caught:
            run(pool, find_orders)
        assert caught.value.path == "find_orders.<closure client>._lock"
        with pytest.raises(Unserialisable) as caught:
            run(pool, len, {"clients": [client]})
        assert caught.value.path == "obj['clients'][0]._lock"

    def test_what_cannot_come_back_is_named_by_its_path(self, pool: AnyPool) -> None:
        with pytest.raises(Unserialisable) as caught:
            run(pool, lambda: {"lock": threading.Lock()})
        assert caught.value.path == "result['lock']"

    def test_calls_beyond_the_workers_wait_and_all_are_answered(self, pool: AnyPool) -> None:
        async def many() -> list[int]:
            return await asyncio.gather(*(pool.call(abs, -i) for i in range(20)))

        assert asyncio.run(many()) == list(range(20))

    def test_a_cancelled_call_stops_waiting_and_the_pool_goes_on(self, pool: AnyPool) -> None:
        async def cancelled() -> int:
            going = asyncio.ensure_future(pool.call(lambda: threading.Event().wait()))
            await asyncio.wait({going}, timeout=0.1)
            going.cancel()
            with pytest.raises(asyncio.CancelledError):
                await going
            return await pool.call(abs, -3)

        assert asyncio.run(cancelled()) == 3

    def test_each_call_is_told_of_when_it_takes_a_worker_and_when_it_leaves(self, pool: AnyPool, events: list[Event]) -> None:
        events.clear()
        run(pool, abs, -1, label="orders", tags={"run_id": "r1", "span_id": "s1", "step": "find", "row": 7})
        out, back = [e for e in events if e.run_id == "r1"]
        assert (out.name, back.name) == ("pool.checkout", "pool.checkin")
        assert (back.run_id, back.span_id, back.step) == ("r1", "s1", "find")
        assert back.data is not None
        assert back.data["pool"] == pool.name
        assert back.data["label"] == "orders"
        assert back.data["row"] == 7
        assert back.data["status"] == "complete"
        assert back.data["seconds"] >= 0
        assert back.data["worker"] == out.data["worker"]  # type: ignore[index]

    def test_the_status_has_its_columns(self, pool: AnyPool) -> None:
        pool.warm()
        rows = pool.status()
        assert rows
        for row in rows:
            assert set(row) == COLUMNS
            assert row["state"] in {"idle", "busy", "starting", "dead", "reserved", "leaving"}
            assert row["age"] >= row["seen"] >= 0

    # ---- options of a call -----------------------------------------------------------------------------------------

    def test_an_option_that_there_is_not_is_refused(self, pool: AnyPool) -> None:
        with pytest.raises(TypeError, match=r"no option 'timeuot'.*timeout"):
            run(pool, abs, -1, timeuot=3)

    @pytest.mark.parametrize("option", ["timeout", "patience", "cpu"])
    @pytest.mark.parametrize("value", [0, -1, float("nan"), "3", True])
    def test_a_time_that_is_none_is_refused(self, pool: AnyPool, option: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=f"The {option} of a call is"):
            run(pool, abs, -1, **{option: value})

    def test_long_work_gives_the_same_as_a_short_call(self, pool: AnyPool, events: list[Event]) -> None:
        events.clear()
        assert run(pool, divmod, 17, 5, long=True) == (3, 2)
        with pytest.raises(ZeroDivisionError):
            run(pool, divmod, 1, 0, long=True)
        assert [e.data["kind"] for e in events if e.name == "pool.checkin" and e.data] == ["task", "task"]

    def test_who_asks_is_told_once_what_a_call_cost(self, pool: AnyPool) -> None:
        told: list[Outcome] = []
        assert run(pool, len, b"x" * 1000, told=told.append) == 1000
        [outcome] = told
        assert outcome.worker in {row["name"] for row in pool.status()}
        assert outcome.sent.protocol == "inline"
        assert outcome.sent.size > 1000
        assert outcome.received is not None
        assert outcome.received.size > 0
        assert outcome.usage.cpu_seconds >= 0
        assert outcome.waited >= 0
        assert outcome.seconds > 0
        assert outcome.status == "complete"

    def test_who_asks_is_told_of_a_call_that_is_out_of_time(self, pool: AnyPool) -> None:
        async def late() -> Outcome:
            told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            deliver = asyncio.get_running_loop().call_soon_threadsafe
            with pytest.raises(TaskTimeout):
                await pool.call(_spin, timeout=0.05, told=lambda outcome: deliver(told.set_result, outcome))
            return await told

        outcome = asyncio.run(late())
        assert (outcome.status, outcome.usage.peak_memory is None or outcome.usage.peak_memory > 0) == ("timeout", True)


COLUMNS = {
    "name",
    "pid",
    "state",
    "calls",
    "rss",
    "pss",
    "age",
    "device",
    "host",
    "protection",
    "busy",
    "seen",
}


def _spin() -> None:
    from dspex_lab.pools import current_task

    while not current_task().cancelled:
        pass
