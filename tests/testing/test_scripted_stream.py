"""The scripted engine's streams: piece by piece, held by a gate, broken where a test says so, and counted."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import cloudpickle
import pytest
from dspy.lm15 import Message, Request, TextPart

from dspex_lab.lms import AsyncExemplarEngine, ExemplarEngine
from dspex_lab.testing import AsyncScriptedEngine, Gate, ScriptedEngine, Streams, scripted_lm

ASKED = Request(model="scripted/x", messages=[Message.user([TextPart("say it")])])


def texts(events: list[Any]) -> list[str]:
    return [event.delta.text for event in events if event.type == "delta"]


async def collect(engine: Any) -> list[Any]:
    return [event async for event in engine.stream(ASKED)]


def test_a_stream_comes_word_by_word_and_is_counted() -> None:
    engine = ScriptedEngine("one two  three\n")
    events = list(engine.stream(ASKED))
    assert texts(events) == ["one ", "two  ", "three\n"]
    assert [events[0].type, events[-1].type] == ["start", "end"]
    assert events[-1].usage == engine.complete(ASKED).usage
    assert (engine.streams, engine.calls) == (Streams(1, 1, 1), 2)


def test_a_stream_is_cut_as_asked() -> None:
    engine = ScriptedEngine("abc", split=list)
    assert texts(list(engine.stream(ASKED))) == ["a", "b", "c"]
    assert texts(asyncio.run(collect(AsyncScriptedEngine(engine)))) == ["a", "b", "c"]
    assert engine.streams == Streams(2, 2, 2)
    assert texts(list(ScriptedEngine("  ").stream(ASKED))) == ["  "], "blanks are a piece too"
    assert texts(list(ScriptedEngine([""]).stream(ASKED))) == []


def test_nothing_is_asked_before_the_first_event_is() -> None:
    engine = ScriptedEngine("x")
    stream = engine.stream(ASKED)
    assert (engine.calls, engine.streams) == (0, Streams())
    next(stream)
    stream.close()
    assert (engine.calls, engine.streams) == (1, Streams(opened=1, closed=1))


def test_a_gate_holds_each_piece_in_a_thread() -> None:
    gate = Gate()
    engine = ScriptedEngine("one two three", gate=gate)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.extend(engine.stream(ASKED)))
    thread.start()
    assert gate.reached(1)
    gate.open(2)
    assert gate.reached(3)
    assert engine.streams == Streams(opened=1)
    gate.open()
    assert engine.closed(1)
    thread.join()
    assert texts(got) == ["one ", "two ", "three"]
    assert not gate.reached(99, timeout=0)


def test_a_gate_holds_each_piece_on_a_loop_and_the_wait_can_be_cancelled() -> None:
    async def go() -> None:
        gate = Gate()
        engine = ScriptedEngine("one two three", gate=gate)
        stream = AsyncScriptedEngine(engine).stream(ASKED)
        assert (await anext(stream)).type == "start"
        gate.open(1)
        assert (await anext(stream)).delta.text == "one "
        waiting = asyncio.ensure_future(anext(stream))
        assert await asyncio.to_thread(gate.reached, 2)
        gate.open(1)
        assert (await waiting).delta.text == "two "
        waiting = asyncio.ensure_future(anext(stream))
        assert await asyncio.to_thread(gate.reached, 3)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert engine.streams == Streams(opened=1, closed=1)

    asyncio.run(go())


def test_a_stream_breaks_where_it_is_told() -> None:
    engine = ScriptedEngine("one two", breaks={1: (1, ConnectionError("cut")), 2: (0, TimeoutError), 3: (9, ConnectionError)})
    got: list[Any] = []
    with pytest.raises(ConnectionError, match="cut"):
        got.extend(iter(engine.stream(ASKED).__next__, None))
    with pytest.raises(TimeoutError):
        asyncio.run(collect(AsyncScriptedEngine(engine)))
    with pytest.raises(ValueError, match="has only 2"):
        list(engine.stream(ASKED))
    assert texts(list(engine.stream(ASKED))) == ["one ", "two"]
    assert engine.streams == Streams(opened=4, ended=1, closed=4)


def test_faults_and_delays_hold_for_streams_too() -> None:
    engine = ScriptedEngine("x", delay=0.001, faults={1: ConnectionError, 2: ConnectionError})
    with pytest.raises(ConnectionError):
        list(engine.stream(ASKED))
    with pytest.raises(ConnectionError):
        asyncio.run(collect(AsyncScriptedEngine(engine)))
    assert engine.streams == Streams(opened=2, closed=2)


def test_what_is_no_plain_data_is_not_saved() -> None:
    for lm in (scripted_lm("x", gate=Gate()), scripted_lm("x", breaks={1: (1, OSError)}), scripted_lm("x", split=list)):
        with pytest.raises(TypeError, match="no plain data"):
            lm.engine.dump_state()
    copied = cloudpickle.loads(cloudpickle.dumps(ScriptedEngine("x", split=list)))
    assert texts(list(copied.stream(ASKED))) == ["x"]


@pytest.mark.parametrize("engine", [ExemplarEngine(), AsyncExemplarEngine()])
def test_the_offline_engine_streams_the_words_of_its_answer(engine: Any) -> None:
    if isinstance(engine, AsyncExemplarEngine):
        events, whole = asyncio.run(collect(engine)), asyncio.run(engine.complete(ASKED))
    else:
        events, whole = list(engine.stream(ASKED)), engine.complete(ASKED)
    assert "".join(texts(events)) == whole.text
    assert len(texts(events)) == len(whole.text.split())
    assert events[-1].usage == whole.usage
