"""A tape plays back exactly what was recorded: answers, usage, errors, pieces of streams; by the request, in any order."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspex_lab.errors import ConfigurationError, LMError
from dspex_lab.lms.tape._engine import taped, taped_embedder
from dspex_lab.lms.tape._errors import error_data, error_from
from dspex_lab.lms.tape._tape import Tape, TapeError, TapeMiss
from dspex_lab.resilience import Retry
from dspex_lab.testing import AsyncScriptedEngine, ScriptedEngine


def request(text: str = "hello", model: str = "test/model", **config: Any) -> Any:
    from dspy.lm15 import Config, Message, Request

    return Request(model=model, messages=(Message.user(text),), config=Config(**config))


def recorded(path: Path, script: Any, *texts: str, **options: Any) -> ScriptedEngine:
    engine = ScriptedEngine(script, **options)
    with Tape(path, "record") as tape:
        for text in texts:
            try:
                taped(engine, tape).complete(request(text))
            except Exception as error:
                assert "planned" in str(error)  # noqa: PT017 - it is on the tape
    return engine


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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demo.jsonl"


@pytest.fixture(params=[".jsonl", ".jsonl.gz"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"demo{request.param}"


# --- whole answers ----------------------------------------------------------------------------------------------------


def test_what_was_recorded_is_played_back_without_an_engine(either: Path) -> None:
    engine = ScriptedEngine(["one", "two"])
    with Tape(either, "record") as tape:
        answers = [taped(engine, tape).complete(request(text)) for text in ("a", "b")]
    assert (tape.recorded, engine.calls) == (2, 2)
    with Tape(either, "replay") as tape:
        player = taped(None, tape, asynchronous=False)
        assert [player.complete(request(text)) for text in ("b", "a")] == answers[::-1]  # another order
        assert (tape.replayed, len(tape)) == (2, 2)


def test_an_answer_keeps_all_it_had(path: Path) -> None:
    from dspy.lm15 import DataPart, Message, Response, TextPart, ThinkingPart, ToolCallPart, Usage

    parts = [
        ThinkingPart("hm"),
        TextPart("yes \ud83d\u2028"),
        ToolCallPart("1", "f", {"z": [1.5], "a": None}),
        DataPart({"a": 1}),
    ]
    whole = Response(
        id="r1",
        model="real",
        message=Message.assistant(parts),
        finish_reason="tool_call",
        usage=Usage(10, 20, reasoning_tokens=5),
        provider_data={"service_tier": "flex"},
    )

    class Engine:
        def complete(self, request: Any) -> Any:
            return whole

    with Tape(path, "record") as tape:
        taped(Engine(), tape).complete(request())
    with Tape(path, "replay") as tape:
        again = taped(None, tape).complete(request())
    assert again == whole
    assert list(again.tool_calls[0].input) == ["z", "a"]  # DSPy writes them out in their order


def test_a_call_is_found_by_all_that_is_asked_and_nothing_else(path: Path) -> None:
    from dspy.lm15 import FunctionTool, Message, Request

    recorded(path, "one", "a")
    others = [
        request("b"),
        request("a", model="test/other"),
        request("a", temperature=0.5),
        Request(model="test/model", messages=(Message.user("a"),), tools=(FunctionTool(name="f", parameters={}),)),
        Request(model="test/model", messages=(Message.user("a"),), system="be kind"),
    ]
    with Tape(path, "replay") as tape:
        for other in others:
            with pytest.raises(TapeMiss):
                taped(None, tape).complete(other)
        assert taped(None, tape).complete(request("a")).text == "one"


def test_several_answers_to_one_request_come_in_their_order_then_the_last_again(path: Path) -> None:
    recorded(path, ["one", "two"], "a", "a")
    with Tape(path, "replay") as tape:
        assert [taped(None, tape).complete(request("a")).text for _ in range(3)] == ["one", "two", "two"]
        tape.rewind()
        assert taped(None, tape).complete(request("a")).text == "one"


def test_an_exact_tape_has_no_answer_more(path: Path) -> None:
    recorded(path, ["one", "two"], "a", "a")
    with Tape(path, "replay", exact=True) as tape:
        player: Any = taped(None, tape)
        asked = player.asked(request("a"))
        for _ in range(2):
            assert tape.has(asked)
            player.complete(request("a"))
        assert not tape.has(asked)
        with pytest.raises(TapeMiss, match="recorded 2 times, and this is one more"):
            player.complete(request("a"))


def test_rollouts_are_kept_apart(path: Path) -> None:
    engine = ScriptedEngine(["one", "two"])
    with Tape(path, "record") as tape:
        for rollout in (1, 2):
            taped(engine, tape, rollout=rollout).complete(request("a"))
    with Tape(path, "replay") as tape:
        assert [taped(None, tape, rollout=r).complete(request("a")).text for r in (2, 1, 2)] == ["two", "one", "two"]
        with pytest.raises(TapeMiss, match=r"rollout_id is [12] on the tape and None here"):
            taped(None, tape).complete(request("a"))


def test_many_threads_find_each_its_own(path: Path) -> None:
    engine = ScriptedEngine(lambda prompt: f"answer to {prompt.text}")
    texts = [f"question {i % 40}" for i in range(160)]
    with Tape(path, "record") as tape, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda text: taped(engine, tape).complete(request(text)), texts))
    assert tape.recorded == 160
    with Tape(path, "replay") as tape, ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda text: taped(None, tape).complete(request(text)), texts[::-1]))
    assert again == made[::-1]
    assert tape.replayed == 160


def test_answers_stand_in_the_order_in_which_they_were_asked_for(path: Path) -> None:
    first_may_end, second_ended = threading.Event(), threading.Event()

    class Engine:
        def __init__(self) -> None:
            self.first, self.second = ScriptedEngine("first"), ScriptedEngine("second")

        def complete(self, request: Any) -> Any:
            if first_may_end.is_set():
                return self.second.complete(request)
            first_may_end.set()
            assert second_ended.wait(30)
            return self.first.complete(request)

    with Tape(path, "record") as tape:
        player = taped(Engine(), tape)
        slow = threading.Thread(target=player.complete, args=(request("a"),))
        slow.start()
        assert first_may_end.wait(30)
        player.complete(request("a"))
        second_ended.set()
        slow.join(30)
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()[1:]] == [2, 1]
    with Tape(path, "replay") as tape:
        assert [taped(None, tape).complete(request("a")).text for _ in range(2)] == ["first", "second"]


# --- modes ------------------------------------------------------------------------------------------------------------


def test_once_records_where_there_is_no_tape_and_plays_back_where_there_is(path: Path) -> None:
    engine = ScriptedEngine("one")
    for mode, calls in (("record", 1), ("replay", 1)):
        with Tape(path) as tape:
            assert tape.mode == mode
            taped(engine, tape).complete(request())
        assert engine.calls == calls


def test_fill_asks_the_engine_for_what_is_missing_and_only_then(path: Path) -> None:
    recorded(path, "old", "a")
    engine, told = ScriptedEngine("new"), []
    with Tape(path, "fill", told=lambda *each: told.append(each)) as tape:
        player = taped(engine, tape)
        assert [player.complete(request(text)).text for text in ("a", "b", "b", "a")] == ["old", "new", "new", "old"]
        assert (engine.calls, tape.recorded, tape.replayed, tape.missed) == (1, 1, 3, 1)
    assert [(name, data["tape"], data["model"], data["line"]) for name, data in told] == [
        ("tape.miss", "demo.jsonl", "test/model", 2)
    ]
    with Tape(path, "replay") as tape:
        assert taped(None, tape).complete(request("b")).text == "new"


def test_an_exact_tape_that_is_filled_grows_by_the_calls_it_lacks(path: Path) -> None:
    recorded(path, "one", "a")
    engine = ScriptedEngine(["two", "three"])
    with Tape(path, "fill", exact=True) as tape:
        assert [taped(engine, tape).complete(request("a")).text for _ in range(3)] == ["one", "two", "three"]
    with Tape(path, "replay", exact=True) as tape:
        assert [taped(None, tape).complete(request("a")).text for _ in range(3)] == ["one", "two", "three"]


def test_a_new_recording_replaces_what_it_asks_again_and_removes_nothing(path: Path) -> None:
    recorded(path, ["old a", "old a again", "old b"], "a", "a", "b")
    before = path.read_bytes()
    recorded(path, "new a", "a")
    assert path.read_bytes().startswith(before)
    with Tape(path, "replay") as tape:
        player = taped(None, tape)
        assert [player.complete(request(text)).text for text in ("a", "a", "b")] == ["new a", "new a", "old b"]
        assert len(tape) == 2


@pytest.mark.parametrize(("name", "mode"), [("none", "replay"), ("all", "record"), ("new_episodes", "fill")])
def test_the_names_of_vcrpy_are_understood(path: Path, name: str, mode: str) -> None:
    recorded(path, "one", "a")
    with Tape(path, name) as tape:
        assert tape.mode == mode
        assert repr(tape) == f"Tape('demo.jsonl', '{mode}', 1 calls)"


def test_a_mode_or_speed_that_is_none_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'replay'"):
        Tape(path, "reply")
    for speed in (0, -1, float("nan"), True, "fast"):
        with pytest.raises(ConfigurationError, match="speed"):
            Tape(path, speed=speed)  # type: ignore[arg-type]


# --- misses -----------------------------------------------------------------------------------------------------------


def test_a_miss_names_the_nearest_call_and_what_differs(path: Path) -> None:
    engine, told = ScriptedEngine("one"), []
    with Tape(path, "record") as tape:
        for text in ("Where is my card? It was sent two weeks ago.", "How do I top up?"):
            taped(engine, tape).complete(request(text, temperature=0.7, max_tokens=100))
    with Tape(path, "replay", told=lambda *each: told.append(each)) as tape, pytest.raises(TapeMiss) as caught:
        taped(None, tape).complete(request("Where is my card? It was sent two days ago.", temperature=0.0, max_tokens=100))
    assert str(caught.value) == (
        "This call of 'test/model' is not on demo.jsonl. The nearest of 2 recorded calls is line 2: config.temperature is 0.7 "
        "on the tape and 0.0 here; messages[0].parts[0].text is …'t was sent two weeks ago.' on the tape and "
        "…'t was sent two days ago.' here. Record it with mode='fill' and a key, or run what was recorded."
    )
    assert isinstance(caught.value, LMError)
    assert caught.value.engine == "test/model"
    ((name, data),) = told
    assert name == "tape.miss"
    assert (data["line"], len(data["differs"])) == (2, 2)
    json.dumps(data)


def test_a_miss_is_not_tried_again(path: Path) -> None:
    with Tape(path, "record"):
        pass
    with Tape(path, "replay") as tape, pytest.raises(TapeMiss, match="Nothing is recorded on it") as caught:
        taped(None, tape).complete(request())
    assert not Retry(attempts=3).covers(caught.value)


def test_another_model_and_more_differences_than_are_told(path: Path) -> None:
    recorded(path, "one", "a")
    with Tape(path, "replay") as tape:
        with pytest.raises(TapeMiss, match="line 2: model is 'test/model' on the tape and 'test/other' here"):
            taped(None, tape).complete(request("a", model="test/other"))
        with pytest.raises(TapeMiss, match=r"config\.seed is nothing on the tape and 3 here.*; and 1 more\."):
            taped(None, tape).complete(request("a", model="test/other", seed=3, top_p=0.5, temperature=1.0))


# --- streams ----------------------------------------------------------------------------------------------------------


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


# --- pace -------------------------------------------------------------------------------------------------------------


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


# --- async ------------------------------------------------------------------------------------------------------------


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


# --- errors -----------------------------------------------------------------------------------------------------------


def all_errors() -> list[Any]:
    from dspy import lm15
    from dspy.lm15 import Message, Response, Usage
    from dspy.utils import exceptions

    part = Response(id=None, model="m", message=Message.assistant("half"), finish_reason="stop", usage=Usage(7, 3))
    fields = {"status": 429, "provider": "openai", "provider_code": "x", "request_id": "r", "retry_after": 3.0}
    return [
        lm15.RateLimitError("slow down", **fields, rate_limit_headers={"x-left": ["0"]}),
        lm15.AuthError("no", provider="openai", env_keys=("OPENAI_API_KEY",), status=401),
        lm15.ContextLengthError("too long", status=400),
        lm15.UnsupportedModelError("no such model", status=404),
        lm15.TimeoutError("slow"),
        lm15.TransportError("broken"),
        lm15.NotConfiguredError("no key", provider="openai", env_keys=("A", "B")),
        lm15.UnsupportedFeatureError("no", feature="config.top_k"),
        lm15.StreamAssemblyError("cut", partial=part, part_index=1),
        exceptions.LMServerError("down", model="a/b", status=500),
        exceptions.LMUnsupportedFeatureError("no", model="a/b", feature="x"),
        ValueError("no number"),
        ConnectionError("gone"),
    ]


@pytest.mark.parametrize("number", range(13))
def test_errors_come_back_as_they_were(number: int) -> None:
    from dspy.clients.errors import wrap_error

    error = all_errors()[number]
    again = error_from(json.loads(json.dumps(error_data(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    for name in ("code", "status", "provider", "provider_code", "request_id", "retry_after", "env_keys", "feature", "partial"):
        assert getattr(again, name, None) == getattr(error, name, None), name
    assert dict(getattr(again, "rate_limit_headers", None) or {}) == dict(getattr(error, "rate_limit_headers", None) or {})
    # What DSPy makes of it is the same, too.
    one, two = wrap_error(error, model="a/b"), wrap_error(again, model="a/b")
    assert (type(one), str(one)) == (type(two), str(two))


def test_an_error_of_a_class_of_ones_own_becomes_what_dspy_makes_of_it() -> None:
    from dspy.clients.errors import wrap_error
    from dspy.lm15 import LM15Error

    class Mine(Exception):
        pass

    again = error_from(error_data(Mine("odd")))
    assert type(again) is LM15Error
    assert str(wrap_error(again, model="m")) == str(wrap_error(Mine("odd"), model="m"))


@pytest.mark.parametrize("name", ["SystemExit", "Popen", "__import__", "CollectionLimitError", "Response"])
@pytest.mark.parametrize("family", ["lm15", "dspy", "python", "other"])
def test_no_class_is_made_that_is_not_an_error_of_engines(name: str, family: str) -> None:
    from dspy import LMError as DSPyLMError
    from dspy.lm15 import LM15Error

    made = error_from({"family": family, "class": name, "message": "m"})
    assert type(made) is LM15Error or isinstance(made, DSPyLMError)


def test_failures_are_on_the_tape_in_their_place(path: Path) -> None:
    from dspy.lm15 import RateLimitError

    recorded(path, "one", "a", "a", faults={1: RateLimitError("planned", status=429, retry_after=1.0)})
    with Tape(path, "replay") as tape:
        with pytest.raises(RateLimitError) as caught:
            taped(None, tape).complete(request("a"))
        assert caught.value.retry_after == 1.0
        assert taped(None, tape).complete(request("a")).text == "one"


# --- what cannot be recorded ------------------------------------------------------------------------------------------


def test_an_answer_that_cannot_be_written_is_not_withheld(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Engine:
        def complete(self, request: Any) -> Any:
            return "no response at all"

        def stream(self, request: Any) -> Iterator[Any]:
            yield "no event at all"

    with Tape(path, "record") as tape:
        player: Any = taped(Engine(), tape)
        assert player.complete(request()) == "no response at all"
        assert list(player.stream(request())) == ["no event at all"]
    late = taped(ScriptedEngine("one"), tape)
    assert late.complete(request()).text == "one"
    assert (tape.lost, tape.recorded) == (3, 0)
    assert "could not be written on the tape" in caplog.text
    assert "the tape is closed" in caplog.text


def test_a_full_disk_loses_that_call_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    true = os.write
    with Tape(path, "record") as tape:
        player = taped(ScriptedEngine(["one", "two"]), tape)

        def half(fd: int, data: Any) -> int:
            if fd == tape._writer._fd:  # type: ignore[union-attr]
                if len(data) < 100:
                    raise OSError(28, "No space left on device")
                return true(fd, data[:-50])
            return true(fd, data)

        monkeypatch.setattr(os, "write", half)
        assert player.complete(request("a")).text == "one"
        monkeypatch.setattr(os, "write", true)
        player.complete(request("b"))
        assert (tape.lost, tape.recorded) == (1, 1)
    with Tape(path, "replay") as tape:
        assert taped(None, tape).complete(request("b")).text == "two"
        assert (len(tape), tape.cut) == (1, 0)


def test_a_call_too_large_to_be_read_again_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_lab.lms.tape._tape.LONGEST_LINE", 1000)
    with Tape(path, "record") as tape:
        assert taped(ScriptedEngine("x" * 2000), tape).complete(request()).text == "x" * 2000
        assert tape.lost == 1


# --- workers, copies --------------------------------------------------------------------------------------------------


def test_what_a_worker_recorded_in_memory_comes_home(path: Path) -> None:
    with Tape(None, "record") as there:
        taped(ScriptedEngine(["one", "two"]), there).complete(request("a"))
        list(taped(ScriptedEngine("one two"), there).stream(request("b")))
    lines = json.loads(json.dumps(there.lines()))
    with Tape(path, "record") as home:
        home.extend(lines)
        for bad in ("{", "{}", '{"kind": "complete"}'):
            with pytest.raises(TapeError, match="Line 1"):
                home.extend([bad])
    with Tape(path, "replay") as tape:
        assert taped(None, tape).complete(request("a")).text == "one"
        assert len(list(taped(None, tape).stream(request("b")))) == 4
    assert repr(there) == "Tape(None, 'record', 0 calls)"


def test_a_copied_model_is_recorded_on_the_same_tape_and_none_travels(path: Path) -> None:
    with Tape(path, "record") as tape:
        player: Any = taped(ScriptedEngine("one"), tape)
        assert copy.deepcopy(player) is player
        assert copy.deepcopy(tape) is tape
        assert bool(tape)
        with pytest.raises(TypeError, match="stays in its process"):
            player.dump_state()
        assert player.simulated is True
        assert not hasattr(player, "complete_legacy")
        assert not hasattr(player, "nothing")
        assert repr(player) == "TapedEngine(ScriptedEngine, Tape('demo.jsonl', 'record', 0 calls))"
        player.close()


def test_who_uses_a_tape_hears_of_its_end_once(path: Path) -> None:
    heard: list[bool] = []
    with Tape(path, "record") as tape:
        tape.on_close(lambda: heard.append(tape.closed))
    tape.close()
    assert (heard, tape.closed) == ([False], True)


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_vectors_are_played_back_to_the_last_bit(path: Path) -> None:
    import dspy

    def embed(texts: Any) -> Any:
        return np.random.default_rng(len(texts[0])).normal(size=(len(texts), 7)).astype(np.float32)

    with Tape(path, "record") as tape:
        made = taped_embedder(embed, tape, "test/embed")(["a", "bc"])
    with Tape(path, "replay", speed=1000.0) as tape:
        player = taped_embedder(None, tape, "test/embed")
        np.testing.assert_array_equal(player(["a", "bc"]), made)
        np.testing.assert_array_equal(dspy.Embedder(player, caching=False)(["a", "bc"]), made)
        with pytest.raises(TapeMiss, match="texts"):
            player(["other"])


def test_an_embedder_that_fails_does_so_again(path: Path) -> None:
    def embed(texts: Any) -> Any:
        raise ValueError("planned")

    with Tape(path, "record") as tape, pytest.raises(ValueError, match="planned"):
        taped_embedder(embed, tape, "test/embed")(["a"])
    with Tape(path, "replay") as tape, pytest.raises(ValueError, match="planned"):
        taped_embedder(None, tape, "test/embed")(["a"])
