"""A tape plays back streams piece by piece, at the recorded pace where asked, and async calls as sync ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tape_helpers import request

from dspex_lab.lms.tape._engine import taped
from dspex_lab.lms.tape._tape import Tape, TapeMiss
from dspex_lab.testing import AsyncScriptedEngine, ScriptedEngine


def read(engine: Any, kind: type[Exception]) -> tuple[list[Any], Any]:
    """Return the pieces of a stream that breaks off, and its error."""
    seen: list[Any] = []
    with pytest.raises(kind) as caught:
        seen.extend(_each(engine.stream(request()), seen))
    return seen, caught.value


def _each(events: Any, seen: list[Any]) -> Iterator[Any]:
    for event in events:
        seen.append(event)
    yield from ()


# --- streams --------------------------------------------------------------------------------------------------------


def test_a_stream_is_played_back_piece_by_piece(either: Path) -> None:
    with Tape(either, "record") as tape:
        made = list(taped(ScriptedEngine("one two three"), tape).stream(request()))
    assert len(made) == 5
    with Tape(either, "replay") as tape:
        assert list(taped(None, tape).stream(request())) == made


def test_who_asks_for_the_whole_finds_the_stream_and_the_other_way_round(path: Path) -> None:
    engine = ScriptedEngine(["one two", "three four"])
    with Tape(path, "record") as tape:
        list(taped(engine, tape).stream(request("streamed")))
        whole = taped(engine, tape).complete(request("whole"))
    with Tape(path, "replay") as tape:
        found = taped(None, tape).complete(request("streamed"))
        assert (found.text, found.finish_reason) == ("one two", "stop")
        assert found.usage == ScriptedEngine("one two").complete(request("streamed")).usage
        events = list(taped(None, tape).stream(request("whole")))
        assert [event.type for event in events] == ["start", "delta", "end"]
        assert events[1].delta.text == whole.text


def test_a_stream_that_breaks_does_so_again_after_the_same_pieces(path: Path) -> None:
    from dspy.lm15 import ServerError

    fault = ServerError("planned", status=503, retry_after=2.0)
    with Tape(path, "record") as tape:
        seen = read(taped(ScriptedEngine("one two three", breaks={1: (2, fault)}), tape), ServerError)[0]
    with Tape(path, "replay") as tape:
        again, error = read(taped(None, tape), ServerError)
        assert again == seen
        assert len(again) == 3
        assert (error.status, error.retry_after, str(error)) == (503, 2.0, str(fault))
        with pytest.raises(ServerError):  # who asks for the whole gets no half
            taped(None, tape).complete(request())


def test_an_error_told_in_the_stream_is_recorded(path: Path) -> None:
    from dspy.lm15 import ErrorDetail, RateLimitError, StreamErrorEvent, StreamStartEvent

    class Engine:
        def stream(self, request: Any) -> Iterator[Any]:
            yield StreamStartEvent(id=None, model="m")
            yield StreamErrorEvent(error=ErrorDetail(code="rate_limit", message="planned"))

    with Tape(path, "record") as tape:
        for event in taped(Engine(), tape, asynchronous=False).stream(request()):
            if event.type == "error":
                break  # as DSPy's guard of streams does
    with Tape(path, "replay") as tape:
        assert [event.type for event in taped(None, tape).stream(request())] == ["start", "error"]
        with pytest.raises(RateLimitError, match="planned"):
            taped(None, tape).complete(request())


def test_what_was_given_up_is_not_recorded(path: Path) -> None:
    with Tape(path, "record") as tape:
        stream = taped(ScriptedEngine("one two three"), tape).stream(request())
        next(stream)
        stream.close()  # type: ignore[attr-defined]

        async def cancelled() -> None:
            task = asyncio.create_task(taped(AsyncScriptedEngine(ScriptedEngine("x", delay=60)), tape).complete(request()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
        with pytest.raises(KeyboardInterrupt):
            taped(ScriptedEngine("x", faults={1: KeyboardInterrupt()}), tape).complete(request())
    assert tape.recorded == 0


def test_an_engine_that_cannot_stream_leaves_no_trace_of_being_asked_to(path: Path) -> None:
    from dspy.lm15 import UnsupportedFeatureError

    class Engine(ScriptedEngine):
        def stream(self, request: Any) -> Iterator[Any]:
            raise UnsupportedFeatureError("no streams")

    with Tape(path, "record") as tape:
        player = taped(Engine("one"), tape)
        with pytest.raises(UnsupportedFeatureError):
            list(player.stream(request()))
        player.complete(request())
    with Tape(path, "replay", exact=True) as tape:
        assert taped(None, tape).complete(request()).text == "one"


def test_a_stream_without_an_end_is_one_again(path: Path) -> None:
    from dspy.lm15 import StreamAssemblyError, StreamStartEvent

    class Engine:
        def stream(self, request: Any) -> Iterator[Any]:
            yield StreamStartEvent(id=None, model="m")

    with Tape(path, "record") as tape:
        list(taped(Engine(), tape, asynchronous=False).stream(request()))
    with Tape(path, "replay") as tape, pytest.raises(StreamAssemblyError):
        taped(None, tape).complete(request())


# --- pace -----------------------------------------------------------------------------------------------------------


def test_the_recorded_pace_is_kept_where_asked(path: Path) -> None:
    now = iter([0.0, 1.0, 2.0, 2.5, 4.0, 4.0, 10.0, 13.0])
    with Tape(path, "record", clock=lambda: next(now)) as tape:
        list(taped(ScriptedEngine("one two"), tape).stream(request("streamed")))
        taped(ScriptedEngine("one"), tape).complete(request("whole"))
    waits: list[float] = []
    with Tape(path, "replay", speed=2.0, sleep=waits.append) as tape:
        list(taped(None, tape).stream(request("streamed")))
        assert waits == [0.5, 0.5, 0.25, 0.75]
        waits.clear()
        taped(None, tape).complete(request("whole"))
        assert waits == [1.5]
    with Tape(path, "replay", sleep=waits.append) as tape:
        list(taped(None, tape).stream(request("streamed")))
    assert waits == [1.5]

    async def slept(seconds: float) -> None:
        waits.append(seconds)

    async def both() -> None:
        with Tape(path, "replay", speed=1.0, asleep=slept) as tape:
            player: Any = taped(None, tape, asynchronous=True)
            await player.complete(request("whole"))
            async for _ in player.stream(request("streamed")):
                pass

    waits.clear()
    asyncio.run(both())
    assert waits == [3.0, 1.0, 1.0, 0.5, 1.5]


# --- async ----------------------------------------------------------------------------------------------------------


def test_sync_and_async_find_the_same_recordings(path: Path) -> None:
    from dspy.lm15 import ServerError

    script = ["one", "two two"]

    async def record() -> list[Any]:
        engine = AsyncScriptedEngine(ScriptedEngine(script, faults={3: ServerError("planned", status=500)}))
        with Tape(path, "record") as tape:
            player: Any = taped(engine, tape)
            whole = await player.complete(request("whole"))
            events = [event async for event in player.stream(request("streamed"))]
            with pytest.raises(ServerError):
                await player.complete(request("fails"))
            await player.aclose()
        return [whole, events]

    made = asyncio.run(record())
    with Tape(path, "replay") as tape:
        player = taped(None, tape)
        assert [player.complete(request("whole")), list(player.stream(request("streamed")))] == made
        with pytest.raises(ServerError, match="planned"):
            player.complete(request("fails"))
        player.close()

    async def replay() -> None:
        with Tape(path, "replay") as tape:
            player: Any = taped(None, tape, asynchronous=True)
            assert await player.complete(request("whole")) == made[0]
            assert [event async for event in player.stream(request("streamed"))] == made[1]
            with pytest.raises(ServerError, match="planned"):
                await player.complete(request("fails"))
            with pytest.raises(ServerError, match="planned"):
                async for _ in player.stream(request("fails")):
                    pass
            with pytest.raises(TapeMiss):
                await player.complete(request("never"))
            await player.aclose()

    asyncio.run(replay())


def test_an_async_stream_that_breaks_is_recorded_so(path: Path) -> None:
    from dspy.lm15 import TransportError

    async def record() -> None:
        engine = AsyncScriptedEngine(ScriptedEngine("one two", breaks={1: (1, TransportError("planned"))}))
        with Tape(path, "record") as tape, pytest.raises(TransportError):
            async for _ in taped(engine, tape).stream(request()):  # type: ignore[union-attr]
                pass

    asyncio.run(record())
    with Tape(path, "replay") as tape, pytest.raises(TransportError, match="planned"):
        list(taped(None, tape).stream(request()))
