"""What every engine behind a ``dspy.LM`` must do, as tests that run over any of them.

::

    class TestMyEngine(EngineConformance):
        declared = Declared(tools=False, logprobs=False)

        def make(self, answer):
            return dspy.LM("mine/model", engine=MyEngine(answer), async_engine=..., cache=False, num_retries=0)

An engine that asks a server inherits :class:`ProviderConformance` instead, which adds what providers do wrong.
"""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from dspex_lab.testing._any_lm import aclose, ask, assembled, astream, close, echo, stream, text_of
from dspex_lab.testing._reply import Reply, ToolUse

TEXT = "one two three four"
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["billing", "card"]}},
    "required": ["label"],
    "additionalProperties": False,
}
TOOL: Mapping[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@dataclass(frozen=True)
class Declared:
    """What an engine can do; what it cannot is not asked of it.

    Attributes:
        scripted: it says what ``make(answer)`` was told; else only that its answers fit together is checked.
        streaming: it streams; ``live``: and each piece is handed out before the next is made.
        structured: it honours ``response_format``; ``tools`` and ``logprobs`` likewise.
        repeatable: the same request gets the same answer.
        usage: it counts tokens.
        saved: ``dump_state``/``load_state`` and the journey to a worker work.
        partial: what a broken stream had given is kept in the error, as ``error.partial``, an ``lm15.Response``.
        timeout: it can be told how long to wait.
        hides_key: a pickle of the LM does not hold the key.
    """

    scripted: bool = True
    streaming: bool = True
    live: bool = True
    structured: bool = True
    tools: bool = True
    logprobs: bool = True
    repeatable: bool = True
    usage: bool = True
    saved: bool = True
    partial: bool = True
    timeout: bool = True
    hides_key: bool = True


class EngineConformance:
    """Inherit, say what the engine can do (``declared``), and make its LM (:meth:`make`).

    ``known`` names the tests in which it is known to fall short, each with the reason: such a test is an expected failure,
    and fails when the engine has learned it.
    """

    declared: ClassVar[Declared] = Declared()
    known: ClassVar[Mapping[str, str]] = {}

    def make(self, answer: Any) -> Any:
        """Return a ``dspy.LM`` over the engine, without cache and retries (``cache=False, num_retries=0``).

        Args:
            answer: what it is to say: a text, a dict of fields, a :class:`Reply`, or a function such as :func:`echo`. An engine
                that is not ``scripted`` pays no heed to it.
        """
        raise NotImplementedError("say how the LM is made")

    # What the tests stand on.

    @pytest.fixture(autouse=True)
    def _conformance(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # DSPy and LiteLLM look prices up on the net otherwise
        name = request.node.originalname
        reason = self.known.get(request.node.name) or self.known.get(name)
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        with contextlib.ExitStack() as self._stack:
            yield

    def lm(self, answer: Any = TEXT) -> Any:
        """Return a new LM that is closed when the test is over."""
        lm = self.make(answer)
        self._stack.callback(close, lm)
        return lm

    def run(self, lm: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run async work and close the async half of the LM on the same loop."""

        async def whole() -> Any:
            try:
                return await work()
            finally:
                await aclose(lm)

        return asyncio.run(whole())

    def _need(self, what: str) -> None:
        if not getattr(self.declared, what):
            pytest.skip(f"the engine does not declare: {what}")

    # One call.

    def test_a_call_is_answered(self) -> None:
        lm = self.lm()
        response = lm(request=ask(lm))
        assert isinstance(response.text, str)
        assert response.finish_reason in ("stop", "length")
        assert response.model
        if self.declared.scripted:
            assert response.text == TEXT
            assert lm("Say it.") == [TEXT]

    def test_an_async_call_is_answered_alike(self) -> None:
        lm = self.lm()
        response = self.run(lm, lambda: lm.acall(request=ask(lm)))
        assert response.finish_reason in ("stop", "length")
        if self.declared.repeatable:
            assert response.text == lm(request=ask(lm)).text

    def test_tokens_are_counted(self) -> None:
        self._need("usage")
        lm = self.lm()
        for response in (lm(request=ask(lm)), self.run(lm, lambda: lm.acall(request=ask(lm)))):
            usage = response.usage
            assert usage.input_tokens > 0
            assert usage.output_tokens >= 0
            assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        lm("Say it.")
        assert lm.history[-1]["usage"]["prompt_tokens"] == usage.input_tokens

    def test_counts_of_tokens_are_the_providers(self) -> None:
        self._need("usage")
        self._need("scripted")
        lm = self.lm(Reply(TEXT, usage={"input_tokens": 1234, "output_tokens": 56}))
        usage = lm(request=ask(lm)).usage
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (1234, 56, 1290)

    def test_several_answers_are_given(self) -> None:
        lm = self.lm()
        assert len(lm("Say it.", n=3, temperature=0.7)) == 3

    def test_a_long_and_strange_prompt_arrives_whole(self) -> None:
        self._need("scripted")
        lm = self.lm(echo)
        text = 'ünïcødé 🙂 \u2028 "quotes" \\ {braces} </xml> \n\ttabs ' * 200
        assert lm(request=ask(lm, text)).text == f"answer to {text}"

    def test_what_it_says_is_read_by_dspys_adapters(self) -> None:
        self._need("scripted")
        import dspy

        lm = self.lm({"label": "billing", "score": 0.5})
        for adapter in (dspy.ChatAdapter(), dspy.JSONAdapter()):
            with dspy.context(lm=lm, adapter=adapter):
                found = dspy.Predict("text -> label, score: float")(text="my bill")
            assert (found.label, found.score) == ("billing", 0.5)

    def test_a_schema_is_followed(self) -> None:
        self._need("structured")
        lm = self.lm({"label": "billing"})
        asked = ask(lm, response_format={"type": "json_schema", "name": "found", "schema": dict(SCHEMA), "strict": True})
        for response in (lm(request=asked), self.run(lm, lambda: lm.acall(request=asked))):
            found = response.data
            assert set(found) == {"label"}
            assert found["label"] in ("billing", "card")

    def test_any_json_is_given_where_it_is_asked_for(self) -> None:
        self._need("structured")
        lm = self.lm({"label": "billing"})
        assert isinstance(lm(request=ask(lm, response_format={"type": "json_object"})).data, dict)

    def test_tools_are_called(self) -> None:
        self._need("tools")
        lm = self.lm(Reply(tools=[ToolUse("weather", {"city": "Zürich"}), ToolUse("weather", {"city": "Rome"})]))
        asked = ask(lm, "Which weather?", tools=[("weather", "The weather of a city.", TOOL)])
        for response in (lm(request=asked), self.run(lm, lambda: lm.acall(request=asked))):
            assert response.finish_reason == "tool_call"
            assert [(call.name, dict(call.input)) for call in response.tool_calls] == [
                ("weather", {"city": "Zürich"}),
                ("weather", {"city": "Rome"}),
            ]
            assert len({call.id for call in response.tool_calls}) == 2

    def test_log_probabilities_are_given_where_they_are_asked_for(self) -> None:
        self._need("logprobs")
        lm = self.lm()
        response = lm(request=ask(lm, logprobs=2))
        assert "".join(token.token for token in response.logprobs) == response.text
        assert all(token.logprob <= 0 for token in response.logprobs)
        assert not lm(request=ask(lm)).logprobs

    # Streams.

    def test_a_stream_gives_the_same_answer_in_pieces(self) -> None:
        self._need("streaming")
        lm = self.lm()
        events = list(stream(lm, ask(lm)))
        assert [events[0].type, events[-1].type] == ["start", "end"]
        assert {event.type for event in events[1:-1]} <= {"delta"}
        assert events[-1].finish_reason in ("stop", "length")
        if self.declared.usage:
            assert events[-1].usage.output_tokens >= 0
        if self.declared.repeatable:
            assert text_of(events) == lm(request=ask(lm)).text

    def test_an_async_stream_gives_the_same_answer_in_pieces(self) -> None:
        self._need("streaming")
        lm = self.lm()

        async def collect() -> list[Any]:
            return [event async for event in astream(lm, ask(lm))]

        events = self.run(lm, collect)
        assert [events[0].type, events[-1].type] == ["start", "end"]
        if self.declared.repeatable:
            assert text_of(events) == lm(request=ask(lm)).text

    def test_tools_are_called_in_a_stream(self) -> None:
        self._need("streaming")
        self._need("tools")
        lm = self.lm(Reply(tools=[ToolUse("weather", {"city": "Zürich"}), ToolUse("weather", {"city": "Rome"})]))
        asked = ask(lm, tools=[("weather", "The weather of a city.", TOOL)])
        response = assembled(asked, stream(lm, asked))
        assert [dict(call.input) for call in response.tool_calls] == [{"city": "Zürich"}, {"city": "Rome"}]
        assert response.finish_reason == "tool_call"

    def test_a_stream_can_be_left(self) -> None:
        self._need("streaming")
        lm = self.lm()
        events = stream(lm, ask(lm))
        assert next(events).type == "start"
        events.close()

        async def leave() -> None:
            events = astream(lm, ask(lm))
            assert (await anext(events)).type == "start"
            await events.aclose()

        self.run(lm, leave)
        assert lm(request=ask(lm)).finish_reason in ("stop", "length")

    def test_dspy_streams_it(self) -> None:
        self._need("streaming")
        self._need("scripted")
        import dspy

        lm = self.lm({"answer": TEXT})
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        program = dspy.streamify(dspy.Predict("question -> answer"), is_async_program=True, stream_listeners=[listener])

        async def pieces() -> str:
            with dspy.context(lm=lm):
                found = [p async for p in program(question="?")]
            return "".join(p.chunk for p in found if isinstance(p, dspy.streaming.StreamResponse))

        assert self.run(lm, pieces).strip() == TEXT

    # Many calls.

    def test_calls_from_many_threads_do_not_mix(self) -> None:
        lm = self.lm(echo)
        texts = [f"question {number}" for number in range(32)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda text: lm(request=ask(lm, text)).text, texts))
        if self.declared.scripted:
            assert found == [f"answer to {text}" for text in texts]

    def test_calls_from_many_tasks_do_not_mix(self) -> None:
        lm = self.lm(echo)
        texts = [f"question {number}" for number in range(32)]

        async def all_() -> list[str]:
            return [r.text for r in await asyncio.gather(*(lm.acall(request=ask(lm, text)) for text in texts))]

        found = self.run(lm, all_)
        if self.declared.scripted:
            assert found == [f"answer to {text}" for text in texts]

    def test_one_loop_after_the_other_can_use_it(self) -> None:
        lm = self.lm()
        for _ in range(3):
            assert asyncio.run(lm.acall(request=ask(lm))).finish_reason in ("stop", "length")
        assert self.run(lm, lambda: lm.acall(request=ask(lm))).finish_reason in ("stop", "length")

    def test_a_cancelled_call_is_over_and_the_next_is_answered(self) -> None:
        lm = self.lm()

        async def cancel() -> Any:
            call = asyncio.ensure_future(lm.acall(request=ask(lm)))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return await lm.acall(request=ask(lm))

        assert self.run(lm, cancel).finish_reason in ("stop", "length")

    def test_it_can_be_closed_again_and_again(self) -> None:
        lm = self.lm()
        lm(request=ask(lm))
        close(lm)
        close(lm)

        async def twice() -> None:
            await lm.acall(request=ask(lm))
            await aclose(lm)
            await aclose(lm)

        asyncio.run(twice())

    # As data.

    def test_it_is_saved_and_loaded(self) -> None:
        self._need("saved")
        import dspy

        lm = self.lm()
        state = json.loads(json.dumps(lm.dump_state()))
        again = dspy.LM.load_state(self.with_key(state), allow_custom_lm_class=True)
        self._stack.callback(close, again)
        self._same(lm, again)
        assert json.loads(json.dumps(again.dump_state())) == state

    def test_it_travels_to_a_worker(self) -> None:
        self._need("saved")
        from dspex_lab.lms import from_portable, portable

        lm = self.lm()
        again = from_portable(json.loads(json.dumps(portable(lm))))
        self._stack.callback(close, again)
        self._same(lm, again)

    def test_it_is_pickled_also_after_use(self) -> None:
        import cloudpickle

        lm = self.lm()
        lm(request=ask(lm))
        again = self.keyed(cloudpickle.loads(cloudpickle.dumps(lm)))
        self._stack.callback(close, again)
        self._same(lm, again)
        if not isinstance(lm.engine, str):
            assert type(pickle.loads(pickle.dumps(lm.engine))) is type(lm.engine)  # noqa: S301 - our own bytes

    def test_it_is_copied(self) -> None:
        lm = self.lm()
        for again in (lm.copy(temperature=0.5), copy.deepcopy(lm)):
            self._same(lm, again)

    def with_key(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a saved state with what was left out of it because it is secret."""
        return state

    def keyed(self, lm: Any) -> Any:
        """Give an LM that came out of a pickle what was left out because it is secret."""
        return lm

    def _same(self, lm: Any, again: Any) -> None:
        assert again.model == lm.model
        answers = (again(request=ask(again)), self.run(again, lambda: again.acall(request=ask(again))))
        if self.declared.scripted or self.declared.repeatable:
            assert [answer.text for answer in answers] == [lm(request=ask(lm)).text] * 2

    def test_its_threads_end_with_it(self) -> None:
        before = set(threading.enumerate())
        lm = self.lm()
        lm(request=ask(lm))
        self.run(lm, lambda: lm.acall(request=ask(lm)))
        close(lm)
        self._stack.close()
        left = [t for t in set(threading.enumerate()) - before if t.name.startswith("dspex")]
        for thread in left:
            thread.join(30)
        assert [t.name for t in left if t.is_alive()] == []
