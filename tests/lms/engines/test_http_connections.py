"""Connections of the HTTP engines: how many, how old, and in which thread, loop and process."""

from __future__ import annotations

import asyncio
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from http_helpers import ask, failure

from dspex_lab.lms.engines import AsyncHttpEngine, HttpEngine
from dspex_lab.testing import Fault, FaultyServer, Gate


def test_no_more_connections_than_allowed_are_opened() -> None:
    with FaultyServer("Yes", hold=(gate := Gate())) as server:
        engine = HttpEngine(server.url, max_connections=2)
        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(engine.complete, ask()) for _ in range(6)]
            assert server.flying(2)
            gate.open()
            assert [each.result().text for each in asked] == ["Yes"] * 6
        assert server.counts.peak == server.counts.connections == 2


@pytest.mark.parametrize("fault", [Fault.bad_sse(), Fault.huge(1 << 20), Fault.redirect("http://127.0.0.1:9/"), Fault.cut(1)])
def test_an_error_that_is_kept_keeps_no_place_in_the_pool(fault: Fault) -> None:
    with FaultyServer("one two", faults={1: fault, 2: fault}) as server:
        engine = HttpEngine(server.url, max_connections=1, max_body=5000, read_timeout=20)
        kept = [failure(lambda: list(engine.stream(ask()))), failure(lambda: engine.complete(ask()))]
        assert engine.complete(ask()).text == "one two"
        assert len(kept) == 2
        assert server.idle()


def test_a_connection_that_was_idle_for_long_is_not_trusted() -> None:
    def age(transport: Any) -> None:
        [[connection]] = transport._pool._idle.values()
        connection.usable_until -= 10

    async def three(engine: AsyncHttpEngine) -> None:
        for _ in range(2):
            await engine.complete(ask())
        age(engine.chat().transport)
        await engine.complete(ask())

    with FaultyServer("Yes") as server:
        engine = HttpEngine(server.url)
        for _ in range(2):
            engine.complete(ask())
        age(engine.chat().transport)
        engine.complete(ask())
        assert server.counts.connections == 2
        asyncio.run(three(engine.asynchronous()))
        assert server.counts.connections == 4


def test_pools_of_closed_loops_are_let_go() -> None:
    with FaultyServer("Yes") as server:
        engine = AsyncHttpEngine(server.url)
        for _ in range(3):
            asyncio.run(engine.complete(ask()))
        assert len(engine._made) == 1
        asyncio.run(engine.aclose())
        assert asyncio.run(engine.complete(ask())).text == "Yes"
        assert server.counts.connections == 4


def test_a_pickle_opens_its_own_pool_and_a_closed_engine_a_new_one() -> None:
    with FaultyServer("Yes") as server:
        engine = HttpEngine(server.url)
        engine.complete(ask())
        again = pickle.loads(pickle.dumps(engine))  # noqa: S301 - our own
        again.complete(ask())
        assert server.counts.connections == 2
        engine.close()
        engine.close()
        assert engine.complete(ask()).text == "Yes"
        assert server.counts.connections == 3


def _in_a_child(work: Any) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads: that is what is tried
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() == "Yes" else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_leaves_its_parents_connections_alone() -> None:
    with FaultyServer("Yes") as server:
        engine = HttpEngine(server.url)
        engine.complete(ask())
        assert _in_a_child(lambda: engine.complete(ask()).text) == 0
        assert engine.complete(ask()).text == "Yes"
        assert server.counts.connections == 2


def test_a_forked_child_leaves_its_parents_loop_alone() -> None:
    with FaultyServer("Yes") as server:
        engine = AsyncHttpEngine(server.url)
        with asyncio.Runner() as runner:
            runner.run(engine.complete(ask()))
            assert _in_a_child(lambda: asyncio.run(engine.complete(ask())).text) == 0
            assert runner.run(engine.complete(ask())).text == "Yes"
            assert server.counts.connections == 2
            runner.run(engine.aclose())
