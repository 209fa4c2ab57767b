"""A watched call of any engine is the call DSPy makes, told piece by piece where it can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dspy
import pytest
from dspy.lm15 import (
    Message,
    Response,
    StreamDeltaEvent,
    StreamEndEvent,
    StreamStartEvent,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    ToolCallDelta,
    ToolCallPart,
    UnsupportedFeatureError,
    Usage,
)
from streaming_helpers import Watch, watch

from dspex_lab.lms import CONTEXT_KEY, install
from dspex_lab.lms.calls._gateway import install_gateway
from dspex_lab.lms.calls._live_engine import LiveEngine
from dspex_lab.lms.calls._streaming import system_of
from dspex_lab.testing import Streams, scripted_lm

__all__ = ["watch"]

pytestmark = pytest.mark.usefixtures("cache_in_memory")


class Rich:
    """An engine whose answer has thinking, text and a tool call."""

    def complete(self, request: Any) -> Response:
        call = ToolCallPart(id="c1", name="look", input={"at": "it"})
        message = Message.assistant([ThinkingPart("hm so"), TextPart("well"), call])
        return Response(id="r", model=request.model, message=message, finish_reason="tool_call", usage=Usage(input_tokens=1))

    def stream(self, request: Any) -> Iterator[Any]:
        yield StreamStartEvent(id="r", model=request.model)
        for text in ("hm ", "so"):
            yield StreamDeltaEvent(ThinkingDelta(text, part_index=0))
        yield StreamDeltaEvent(TextDelta("well", part_index=1))
        yield StreamDeltaEvent(ToolCallDelta(input='{"at": ', part_index=2, id="c1", name="look"))
        yield StreamDeltaEvent(ToolCallDelta(input='"it"}', part_index=2))
        yield StreamEndEvent(finish_reason="tool_call", usage=Usage(input_tokens=1))


def test_thinking_and_tool_calls_are_told_apart_and_the_answer_is_whole(watch: Watch) -> None:
    streamed = dspy.LM("rich/1", engine=Rich(), cache=False)("say it")
    assert watch.told == [
        ("thinking", None, "hm "),
        ("thinking", None, "so"),
        ("text", None, "well"),
        ("tool_call", None, '{"at": '),
        ("tool_call", None, '"it"}'),
    ]
    assert watch.tokens[3].data["tool"] == "look"
    with dspy.context(**{CONTEXT_KEY: None}):
        assert streamed == dspy.LM("rich/2", engine=Rich(), cache=False)("say it")


class Whole(Rich):
    stream = None  # type: ignore[assignment]


class Refuses(Rich):
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def stream(self, request: Any) -> Iterator[Any]:
        self.asked += 1
        raise self.error
        yield


class AsyncRefuses:
    def __init__(self, error: Exception) -> None:
        self.inner = Refuses(error)

    async def complete(self, request: Any) -> Response:
        return self.inner.complete(request)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        for event in self.inner.stream(request):
            yield event


WHOLE = [("thinking", None, "hm so"), ("text", None, "well")]


@pytest.mark.parametrize("engine", [Whole(), Refuses(NotImplementedError()), Refuses(UnsupportedFeatureError("no"))])
def test_an_engine_that_cannot_stream_is_told_as_a_whole(watch: Watch, engine: Any) -> None:
    lm = dspy.LM("rich/3", engine=engine, async_engine=AsyncRefuses(NotImplementedError()), cache=False)
    assert lm("say it")[0]["text"] == "well"
    assert watch.told == WHOLE
    assert all(t.data["whole"] and not t.data["cached"] and t.data["attempt"] == 1 for t in watch.tokens)
    asyncio.run(lm.acall("say it"))
    assert watch.told == [*WHOLE, *WHOLE]
    assert [c.call_id for c in watch.calls] == list(dict.fromkeys(t.data["call_id"] for t in watch.tokens))


class Stops(Rich):
    """Says that it cannot stream when it has begun to."""

    def stream(self, request: Any) -> Iterator[Any]:
        yield StreamStartEvent(id="r", model=request.model)
        raise NotImplementedError("after all")


def test_what_was_begun_is_not_asked_for_twice(watch: Watch) -> None:
    class AsyncStops(AsyncRefuses):
        def __init__(self) -> None:
            self.inner = Stops()  # type: ignore[assignment]

    lm = dspy.LM("rich/4", engine=Stops(), async_engine=AsyncStops(), cache=False, num_retries=0)
    with pytest.raises(dspy.LMError, match="after all"):
        lm("say it")
    with pytest.raises(dspy.LMError, match="after all"):
        asyncio.run(lm.acall("say it"))
    assert "after all" in watch.calls[0].error


def test_several_candidates_are_told_one_after_the_other(watch: Watch) -> None:
    lm = scripted_lm([{"answer": "one"}, {"answer": "two"}])
    with dspy.context(lm=lm):
        made = dspy.Predict("question -> answer", n=2)(question="x")
    assert made.completions.answer == ["one", "two"]
    assert [(t.field, t.value, t.data["candidate"], t.data["whole"]) for t in watch.tokens] == [
        ("answer", "one", 0, True),
        ("answer", "two", 1, True),
    ]
    assert lm.engine.streams == Streams()


def test_log_probabilities_are_asked_for_without_a_stream(watch: Watch) -> None:
    lm = scripted_lm("one two")
    lm("say it", logprobs=True)
    assert lm.engine.streams == Streams()
    assert watch.told == [("text", None, "one two")]


def test_a_dummy_model_is_told_as_a_whole(watch: Watch) -> None:
    with dspy.context(lm=dspy.utils.DummyLM([{"answer": "one two"}])):
        assert dspy.Predict("question -> answer")(question="x").answer == "one two"
    assert [(t.field, t.value, t.data["whole"], t.data["simulated"]) for t in watch.tokens] == [
        ("answer", "one two", True, True)
    ]


def test_a_request_is_streamed_too(watch: Watch) -> None:
    lm = scripted_lm({"answer": "one two"})
    system = dspy.ChatAdapter().format(dspy.Signature("question -> answer"), [], {"question": "x"})[0]["content"]
    request = dspy.lm15.Request(model=lm.model, system=system, messages=[Message.user([TextPart("x")])])
    assert lm(request).text == lm(request=request).text
    assert [(t.field, t.value) for t in watch.tokens] == [("answer", "one"), ("answer", " two")] * 2
    lm.engine.script = "plain"
    lm.cache = True
    lm(request)
    del watch.tokens[:]
    lm(request)
    assert [(t.value, t.data["cached"]) for t in watch.tokens] == [("plain", True)]


def test_the_system_message_is_found_wherever_it_stands() -> None:
    text = {"role": "system", "content": "do it"}
    user = {"role": "user", "content": "x"}
    parts = {"role": "developer", "content": [{"type": "text", "text": "do "}, {"type": "text", "text": "it"}]}
    request = dspy.lm15.Request(model="m", system=[TextPart("do "), TextPart("it")], messages=[Message.user([TextPart("x")])])
    for args, kwargs in [
        ((), {"messages": [text, user]}),
        ((), {"messages": [parts, user]}),
        ((None, [text, user]), {}),
        ((request,), {}),
        ((), {"request": request}),
    ]:
        assert system_of(args, kwargs) == "do it"
    for args, kwargs in [
        (("hello",), {}),
        ((), {"messages": [user]}),
        ((), {"messages": [{"role": "system", "content": None}]}),
    ]:
        assert system_of(args, kwargs) == ""


def test_nothing_changes_where_nobody_watches() -> None:
    lm = scripted_lm("one two")
    made = Watch()
    made.listen = None  # type: ignore[assignment]
    with dspy.context(**{CONTEXT_KEY: made.recorder()}):
        assert lm("say it") == ["one two"]
    assert (lm.engine.streams, made.tokens, len(made.calls)) == (Streams(), [], 1)
    assert lm("say it") == ["one two"]


def test_streaming_is_installed_once() -> None:
    from dspy.clients import execution

    install()
    before = execution._engine
    install_gateway()
    assert execution._engine is before


def test_once_nobody_watches_no_call_begins_or_goes_on(watch: Watch) -> None:
    lm = scripted_lm("one two three")
    watch.__class__ = type(
        "Leaves", (Watch,), {"__call__": lambda self, t: self.tokens.append(t) or setattr(self, "closed", True)}
    )
    with pytest.raises(asyncio.CancelledError):
        lm("say it")
    assert lm.engine.streams == Streams(opened=1, closed=1)
    with pytest.raises(asyncio.CancelledError):
        lm("say it")
    assert lm.engine.calls == 1
    watch.closed = False
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(lm.acall("say it"))
    assert lm.engine.streams == Streams(opened=2, closed=2)


def test_a_plain_function_may_watch() -> None:
    made = Watch()
    made.listen = made.tokens.append  # type: ignore[assignment]
    with dspy.context(**{CONTEXT_KEY: made.recorder()}):
        assert scripted_lm("one two")("say it") == ["one two"]
    assert [t.value for t in made.tokens] == ["one ", "two"]


def test_a_program_that_streams_by_itself_is_heard_as_well(watch: Watch) -> None:
    lm = scripted_lm({"answer": "one two"})

    async def go() -> list[Any]:
        program = dspy.streamify(
            dspy.Predict("question -> answer"),
            stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
            is_async_program=True,
        )
        with dspy.context(lm=lm):
            return [value async for value in program(question="x")]

    got = asyncio.run(go())
    assert "".join(v.chunk for v in got[:-1]) == "one two"
    assert "".join(t.value for t in watch.tokens) == "one two"
    assert lm.engine.streams == Streams(1, 1, 1)
    wrapped = LiveEngine(lm.engine, live=_Silent())
    assert [e.type for e in wrapped.stream(dspy.lm15.Request(model="m", messages=[Message.user([TextPart("x")])]))][-1] == "end"
    assert wrapped.calls == 2, "what it does not know is the engine's own"


class _Silent:
    def begin(self) -> None: ...

    def event(self, event: Any) -> None: ...


def test_dspys_own_parallel_threads_are_heard(watch: Watch) -> None:
    lm = scripted_lm(lambda prompt: {"answer": prompt.question["question"]})
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=lm):
        dspy.Parallel(num_threads=4, disable_progress_bar=True)(
            [(predict, dspy.Example(question=str(i)).with_inputs("question")) for i in range(8)]
        )
    assert sorted(t.value for t in watch.tokens) == [str(i) for i in range(8)]
    assert len({t.data["call_id"] for t in watch.tokens}) == 8
