"""Who watches a run: slow, on a loop of their own, in a step, gone, or not there at all."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy
import pytest
from stream_helpers import asked, gather, text

import dspex_lab as dx
from dspex_lab.testing import scripted_lm

pytestmark = pytest.mark.usefixtures("cache_in_memory")


def test_a_slow_watcher_loses_nothing_and_what_waits_for_it_is_bounded(lab: dx.Lab) -> None:
    words = " ".join(str(i) for i in range(5000))
    lab.use(scripted_lm({"answer": words, "note": words}))
    over = threading.Event()
    lab.bus.subscribe(lambda record: over.set() if getattr(record, "name", "") == "run.stop" else None)
    events = lab.stream(dx.pipeline("p", a=dspy.Predict("question -> answer, note")), question="x")
    first = next(events)
    assert over.wait(60)
    rest = [first, *events]
    assert len(rest) < 300
    assert text(rest, "a", "answer") == text(rest, "a", "note") == words
    assert sum(e.data.get("pieces", 1) for e in rest if e.kind == "token") == 10_000
    assert [e.kind for e in rest if e.kind != "token"] == ["step.start", "field", "field", "step.stop", "partial", "result"]
    assert [e.field for e in rest if e.kind == "token"] == sorted(e.field for e in rest if e.kind == "token")


def test_the_run_is_on_the_watchers_own_loop(lab: dx.Lab) -> None:
    async def loop_of(x: int) -> int:
        return id(asyncio.get_running_loop())

    async def go() -> None:
        found = (await gather(lab.astream(dx.pipeline("p", y=loop_of, z=lambda x: x), x=1)))[-1].result
        assert found["y"] == id(asyncio.get_running_loop())

    asyncio.run(go())
    assert list(lab.stream(dx.pipeline("p", y=loop_of), x=1))[-1].result["y"] == id(lab._loop.loop)


def test_a_step_may_stream_a_run_itself(lab: dx.Lab) -> None:
    async def inner(x: int) -> int:
        return (await gather(lab.astream(dx.pipeline("q", y=lambda x: x + 1), x=x)))[-1].value["y"]

    def outer(x: int) -> int:
        return list(lab.stream(dx.pipeline("q", y=lambda x: x + 2), x=x))[-1].value["y"]

    async def wrong(x: int) -> int:
        return next(lab.stream(dx.pipeline("q", y=lambda x: x), x=x)).value

    result = lab.run(dx.pipeline("p", one=inner, two=outer, three=wrong), x=1)
    assert (result["one"], result["two"]) == (2, 3)
    assert "lab.astream" in str(result.steps["three"].error)


def test_bad_input_is_refused_before_anything_runs(lab: dx.Lab) -> None:
    for start in (lab.stream, lab.astream):
        with pytest.raises(dx.PipelineError, match="question"):
            start(asked(), questoin="x")
        with pytest.raises(dx.ConfigurationError, match="no pipeline"):
            start("nothing", x=1)
    assert len(lab.sql("SELECT * FROM runs")) == 0


def test_a_stream_that_nobody_begins_runs_nothing(lab: dx.Lab) -> None:
    lab.stream(asked(), question="x").close()
    lab.astream(asked(), question="x")
    with lab.stream(asked(), question="x") as unused:
        pass
    assert list(unused) == []
    assert unused.result is None
    asyncio.run(lab.astream(asked(), question="x").aclose())
    assert len(lab.sql("SELECT * FROM runs")) == 0


def test_a_stream_that_has_ended_stays_so(lab: dx.Lab) -> None:
    events = lab.stream(dx.pipeline("p", y=lambda x: x), x=1)
    assert list(events)[-1].result is events.result
    assert list(events) == []

    async def go() -> None:
        stream = lab.astream(dx.pipeline("p", y=lambda x: x), x=1)
        assert (await gather(stream))[-1].result is stream.result
        assert await gather(stream) == []

    asyncio.run(go())


def test_what_ends_a_run_itself_reaches_the_watcher(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise OSError("the disk is full")

    monkeypatch.setattr(lab._runner, "_close_run", broken)
    with pytest.raises(OSError, match="disk is full"):
        list(lab.stream(dx.pipeline("p", y=lambda x: x), x=1))

    async def go() -> None:
        with pytest.raises(OSError, match="disk is full"):
            await gather(lab.astream(dx.pipeline("p", y=lambda x: x), x=1))

    asyncio.run(go())


def _counting(text: str) -> int:
    for i in range(3):
        dx.progress(i + 1, 3, "words")
        dx.tell({"word": i})
    return len(text)


def test_a_step_on_a_pool_is_streamed_as_one_in_the_kernel_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(events: list[Any]) -> list[tuple[Any, ...]]:
        return [(e.kind, e.step, e.field, e.value) for e in events if e.kind not in ("partial", "result")]

    def made(pool: str | None) -> dx.Pipeline:
        label = dx.step(dspy.Predict("text -> label: Literal['u', 'v']"), pool=pool)
        return dx.pipeline("p", label=label, count=dx.step(_counting, pool=pool))

    monkeypatch.setenv("DSPEX_POOL_GENERAL_WORKERS", "1")
    with dx.Lab(":memory:") as lab:
        here, there = (list(lab.stream(made(pool), text="x")) for pool in (None, "general"))
        for step in ("label", "count"):
            told = [e for e in of(there) if e[1] == step and e[0] != "step.stop"]
            assert told == [e for e in of(here) if e[1] == step and e[0] != "step.stop"]
        assert "token" in [e.kind for e in there]
        assert [e.value for e in there if e.kind == "chunk"] == [{"word": 0}, {"word": 1}, {"word": 2}]
        assert [(e.value, e.data) for e in there if e.kind == "progress"][-1] == (3, {"total": 3, "note": "words"})
        assert there[-1].result["label"] in ("u", "v")

        async def go() -> None:
            assert sorted(e.kind for e in await gather(lab.astream(made("general"), text="x"))) == sorted(e.kind for e in there)

        asyncio.run(go())


def test_outside_a_step_nobody_is_told() -> None:
    dx.progress(1, 2)
    dx.tell("nobody")


def test_a_stream_says_how_far_it_is(lab: dx.Lab) -> None:
    p = dx.pipeline("p", y=lambda x: x + 1)
    stream = lab.stream(p, x=1)
    assert repr(stream) == "<RunStream of p: not begun>"
    next(stream)
    for _ in stream:
        pass
    assert repr(stream) == "<RunStream of p: complete>"
    assert repr(lab.astream(p, x=1)) == "<AsyncRunStream of p: not begun>"
    left = lab.stream(p, x=1)
    left.close()
    assert repr(left) == "<RunStream of p: left>"
    gate = threading.Event()
    waiting = lab.stream(dx.pipeline("q", y=lambda x: gate.wait(30)), x=1)
    try:
        next(waiting)
        assert repr(waiting) == "<RunStream of q: under way>"
    finally:
        gate.set()
        waiting.close()
