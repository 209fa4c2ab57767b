"""Labs, loops and processes that end under a stream."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest
from held_streams import Held, held, until_token

import dspex_lab as dx
from dspex_lab.pipelines import Hub, RunStream, StreamEvent, _run_stream
from dspex_lab.testing import Streams

__all__ = ["held"]

pytestmark = pytest.mark.usefixtures("cache_in_memory")


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
    before = set(_run_stream._under_way)  # what another test left
    with held.lab.stream(held.pipeline(), question="x") as events:
        until_token(events)
        [course] = set(_run_stream._under_way) - before
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
            child = os.fork()
        if child == 0:
            os._exit(len(_run_stream._under_way))
        assert os.waitpid(child, 0)[1] == 0
        assert course in _run_stream._under_way
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
