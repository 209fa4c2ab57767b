"""Whoever stops watching ends the run: no task, no thread, no stream of an engine is left, however it was left."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest
from dspy.clients.cache import Cache

import dspex_lab as dx
from dspex_lab.pipelines import Hub, RunStream, StreamEvent, _run_stream
from dspex_lab.testing import Gate, Streams, scripted_lm


@pytest.fixture(autouse=True)
def _cache_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache on the disk has a connection for each thread, which Python 3.13 misses when the thread ends."""
    monkeypatch.setattr(dspy, "cache", Cache(False, True, disk_cache_dir=""))


class Held:
    """A pipeline whose model stands still after its first word; then a step that must not begin."""

    def __init__(self, lab: dx.Lab, on_loop: bool) -> None:
        self.lab = lab
        self.gate = Gate()
        self.on_loop = on_loop
        self.lm = lab.use(scripted_lm({"answer": "one two three"}, gate=self.gate, split=lambda t: [*t.partition("one ")]))
        if on_loop:
            self.lm.engine.simulated = self.lm._async_engine_spec.simulated = False
        self.began: list[str] = []
        self.recorded = threading.Event()
        lab.bus.subscribe(lambda record: self.recorded.set() if type(record).__name__ == "RunRecord" else None)
        self.gate.open(2)

    def pipeline(self) -> dx.Pipeline:
        def after(answer: str) -> str:
            self.began.append(answer)
            return answer

        return dx.pipeline("p", a=dspy.Predict("question -> answer"), b=after)

    def check(self) -> None:
        """Look whether all has ended: on the loop by itself, in a thread with the engine's next word."""
        assert self.recorded.wait(30)
        if not self.on_loop:
            self.gate.open()
        assert self.lm.engine.closed(1)
        assert self.lm.engine.streams == Streams(opened=1, closed=1)
        for thread in threading.enumerate():
            if thread.name == "dspex-stream":
                thread.join(30)
                assert not thread.is_alive()
        assert self.began == []
        self.lab.store.flush()
        runs = self.lab.sql("SELECT status FROM runs")
        assert list(runs["status"]) == ["cancelled"]
        assert list(self.lab.sql("SELECT name, status FROM spans WHERE kind = 'step'").iloc[0]) == ["a", "cancelled"]
        assert self.lab.run(lambda x: x, x=1).status == "complete", "the Lab lives on"


@pytest.fixture(params=[False, True], ids=["thread", "loop"])
def held(lab: dx.Lab, request: pytest.FixtureRequest) -> Held:
    return Held(lab, request.param)


def until_token(events: Iterator[Any]) -> None:
    for event in events:
        if event.kind == "token":
            return


def leave_by_break(held: Held) -> None:
    for event in held.lab.stream(held.pipeline(), question="x"):
        if event.kind == "token":
            break


def leave_by_close(held: Held) -> None:
    events = held.lab.stream(held.pipeline(), question="x")
    until_token(events)
    events.close()
    assert list(events) == []
    events.close()


def leave_by_with(held: Held) -> None:
    with held.lab.stream(held.pipeline(), question="x") as events:
        until_token(events)


def leave_by_an_exception(held: Held) -> None:
    def watch() -> None:
        for event in held.lab.stream(held.pipeline(), question="x"):
            if event.kind == "token":
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watch()


def leave_by_a_closed_generator(held: Held) -> None:
    def words() -> Iterator[str]:
        for event in held.lab.stream(held.pipeline(), question="x"):
            if event.kind == "token":
                yield event.value

    made = words()
    next(made)
    made.close()


def leave_by_collection(held: Held) -> None:
    events = held.lab.stream(held.pipeline(), question="x")
    until_token(events)
    around: list[Any] = [events]
    around.append(around)
    del events, around
    gc.collect()


def leave_by_an_interrupt(held: Held) -> None:
    main = threading.get_ident()

    def press() -> None:
        assert held.gate.reached(3)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in held.lab.stream(held.pipeline(), question="x"):
            pass


WAYS = [
    leave_by_break,
    leave_by_close,
    leave_by_with,
    leave_by_an_exception,
    leave_by_a_closed_generator,
    leave_by_collection,
    leave_by_an_interrupt,
]


@pytest.mark.parametrize("leave", WAYS, ids=lambda f: f.__name__.removeprefix("leave_by_"))
def test_a_stream_that_is_left_ends_its_run(held: Held, leave: Callable[[Held], None]) -> None:
    leave(held)
    held.check()


async def until_atoken(events: Any) -> None:
    async for event in events:
        if event.kind == "token":
            return


async def aleave_by_break(held: Held) -> None:
    await until_atoken(held.lab.astream(held.pipeline(), question="x"))


async def aleave_by_aclose(held: Held) -> None:
    events = held.lab.astream(held.pipeline(), question="x")
    await until_atoken(events)
    await events.aclose()
    assert len(asyncio.all_tasks()) == 1
    assert [e async for e in events] == []


async def aleave_by_with(held: Held) -> None:
    async with held.lab.astream(held.pipeline(), question="x") as events:
        await until_atoken(events)
    assert len(asyncio.all_tasks()) == 1


async def aleave_by_an_exception(held: Held) -> None:
    async def watch() -> None:
        async for event in held.lab.astream(held.pipeline(), question="x"):
            if event.kind == "token":
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await watch()


async def aleave_by_a_closed_generator(held: Held) -> None:
    async def words() -> Any:
        async for event in held.lab.astream(held.pipeline(), question="x"):
            if event.kind == "token":
                yield event.value

    made = words()
    await anext(made)
    await made.aclose()


async def aleave_by_collection(held: Held) -> None:
    events = held.lab.astream(held.pipeline(), question="x")
    await until_atoken(events)
    around: list[Any] = [events]
    around.append(around)
    del events, around
    gc.collect()


async def aleave_by_a_cancelled_task(held: Held) -> None:
    async def watch() -> None:
        async for _ in held.lab.astream(held.pipeline(), question="x"):
            pass

    task = asyncio.ensure_future(watch())
    assert await asyncio.to_thread(held.gate.reached, 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1, "the run has ended when its watcher has"


async def aleave_by_a_timeout(held: Held) -> None:
    events = held.lab.astream(held.pipeline(), question="x")
    await until_atoken(events)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await until_atoken(events)


AWAYS = [
    aleave_by_break,
    aleave_by_aclose,
    aleave_by_with,
    aleave_by_an_exception,
    aleave_by_a_closed_generator,
    aleave_by_collection,
    aleave_by_a_cancelled_task,
    aleave_by_a_timeout,
]


@pytest.mark.parametrize("leave", AWAYS, ids=lambda f: f.__name__.removeprefix("aleave_by_"))
def test_an_async_stream_that_is_left_ends_its_run(held: Held, leave: Callable[[Held], Any]) -> None:
    async def go() -> None:
        await leave(held)
        assert await asyncio.to_thread(held.recorded.wait, 30)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=30)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())
    held.check()


def test_a_loop_that_ends_under_a_stream_ends_the_run(held: Held) -> None:
    kept: list[Any] = []

    async def go() -> None:
        kept.append(held.lab.astream(held.pipeline(), question="x"))
        await until_atoken(kept[0])

    asyncio.run(go())
    held.check()
    kept.clear()


def test_a_program_that_goes_on_in_a_thread_asks_no_more(lab: dx.Lab) -> None:
    """A sync program cannot be stopped, but its next question to a model is refused."""
    lm = lab.use(scripted_lm("one two", gate=(gate := Gate())))
    left, met = threading.Event(), []

    def stubborn(x: int) -> int:
        try:
            dspy.settings.lm("first")
        except Exception as error:
            met.append(error)
        assert left.wait(30)
        dspy.settings.lm("second")
        return x

    gate.open()
    over = threading.Event()
    lab.bus.subscribe(lambda r: over.set() if type(r).__name__ == "RunRecord" else None)
    for event in lab.stream(dx.pipeline("p", y=stubborn), x=1):
        if event.kind == "token":
            break
    assert over.wait(30)
    left.set()
    lab._executor.shutdown(wait=True)
    assert (met, lm.engine.calls) == ([], 1)


def test_closing_the_lab_ends_its_streams_and_says_so() -> None:
    lab = dx.Lab(":memory:")
    held = Held(lab, on_loop=True)
    events = lab.stream(held.pipeline(), question="x")
    until_token(events)
    closer = threading.Thread(target=lab.close)
    closer.start()
    with pytest.raises(dx.ConfigurationError, match="closed while this ran"):
        list(events)
    closer.join()
    assert held.lm.engine.streams == Streams(opened=1, closed=1)
    assert list(events) == []


def test_a_lab_closed_before_a_stream_begins_is_told() -> None:
    lab = dx.Lab(":memory:")
    events, late = lab.stream(dx.pipeline("p", y=lambda x: x), x=1), lab.astream(dx.pipeline("p", y=lambda x: x), x=1)
    lab.close()
    with pytest.raises(dx.ConfigurationError, match="closed"):
        next(events)
    assert list(events) == []

    async def go() -> None:
        with pytest.raises(dx.ConfigurationError, match="closed"):
            await anext(late)

    asyncio.run(go())


def test_a_loop_that_is_closed_before_a_run_begins_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run_stream, "_WATCH", 0.01)

    class Gone:
        """A Lab's loop that is closed after it took the run, and before it began it."""

        loop = asyncio.new_event_loop()

        def is_current(self) -> bool:
            return False

        def submit(self, work: Any) -> None:
            work.close()
            self.loop.close()

    async def never(hub: Hub) -> Any:
        raise AssertionError

    events = RunStream(dx.pipeline("p", y=lambda x: x), never, Gone())  # type: ignore[arg-type]
    with pytest.raises(dx.ConfigurationError, match="closed while this ran"):
        next(events)
    assert list(events) == []


def test_the_end_of_the_process_ends_what_is_under_way(held: Held) -> None:
    events = held.lab.stream(held.pipeline(), question="x")
    until_token(events)
    _run_stream._abandon_all()
    assert list(events) == []
    held.check()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_leaves_the_runs_to_its_parent(held: Held) -> None:
    with held.lab.stream(held.pipeline(), question="x") as events:
        until_token(events)
        assert len(_run_stream._under_way) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
            child = os.fork()
        if child == 0:
            os._exit(len(_run_stream._under_way))
        assert os.waitpid(child, 0)[1] == 0
        assert len(_run_stream._under_way) == 1
    held.check()


def test_who_registers_late_with_a_closed_hub_is_called_at_once() -> None:
    hub, called = Hub(dx.pipeline("p", y=lambda x: x)), []
    hub.on_close(lambda: called.append("early"))
    hub.on_close(lambda: called.append("taken back"))()
    hub.close()
    hub.on_close(lambda: called.append("late"))()
    hub(StreamEvent("partial"))
    assert called == ["early", "late"]
    assert hub.take() is None


SILENT = """
import sys, threading, dspy
import dspex_lab as dx
from dspex_lab.testing import Gate, scripted_lm

gate = Gate()
gate.open(2)
lab = dx.Lab(":memory:")
lm = lab.use(scripted_lm({"answer": "one two"}, gate=gate, split=lambda t: [*t.partition("one ")]))
if sys.argv[2] == "loop":
    lm.engine.simulated = lm._async_engine_spec.simulated = False
events = lab.stream(dx.pipeline("p", a=dspy.Predict("question -> answer")), question="x")
while next(events).kind != "token":
    pass
assert gate.reached(3)
if sys.argv[1] == "left":
    del events
if sys.argv[1] == "raised":
    raise SystemExit("and gone")
print("end of the program")
"""


@pytest.mark.parametrize(("how", "where"), [("left", "thread"), ("kept", "thread"), ("kept", "loop"), ("raised", "thread")])
def test_a_process_ends_though_the_model_stays_silent_for_ever(how: str, where: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SILENT, how, where],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (1 if how == "raised" else 0), done.stderr
    # DuckDB's bindings tell of themselves wherever a daemon thread is left; nothing else may be told.
    told = done.stderr.partition("nanobind:")[0]
    assert told.strip() == ("and gone" if how == "raised" else "")
