"""What the scripted engine can say besides text, when it fails by chance, how long it waits, and what it remembers."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import cloudpickle
import dspy
import pytest
from dspy.lm15 import Config, FunctionTool, Message, Request, ServerError, ToolChoice
from dspy.lm15 import RateLimitError as TooMany

from dspex_lab.testing import AsyncScriptedEngine, Reply, ScriptedEngine, ToolUse, scripted_lm

TOOL = FunctionTool("search", "Search.", {"type": "object", "properties": {"q": {"type": "string"}}})
OTHER = FunctionTool("stop", "Stop.")


def ask(text: str = "say it", *, tools: Any = (), **config: Any) -> Request:
    return Request(model="scripted/x", messages=(Message.user(text),), tools=tuple(tools), config=Config(**config))


def whole(events: Any, request: Request) -> Any:
    from dspy._vendor.lm15.result import StreamAccumulator

    accumulator = StreamAccumulator(request)
    for event in events:
        accumulator.push(event)
    return accumulator.response()


def test_tools_thinking_and_text_come_together_and_stream() -> None:
    reply = Reply("well then", tools=[ToolUse("search", {"q": "a card"}), ToolUse("stop", id="mine")], thinking="let me see")
    engine, request = ScriptedEngine(reply), ask(tools=[TOOL, OTHER])
    for response in (engine.complete(request), whole(engine.stream(request), request)):
        assert [part.type for part in response.message.parts] == ["thinking", "text", "tool_call", "tool_call"]
        assert [(c.id, c.name, dict(c.input)) for c in response.tool_calls] == [
            ("call_0", "search", {"q": "a card"}),
            ("mine", "stop", {}),
        ]
        assert response.finish_reason == "tool_call"
    assert scripted_lm(reply)("x")[0]["text"] == "well then"


def test_a_refusal_is_no_text() -> None:
    engine = ScriptedEngine(Reply(refusal="I will not", finish="stop"))
    assert [(p.type, p.text) for p in engine.complete(ask()).message.parts] == [("refusal", "I will not")]
    assert whole(engine.stream(ask()), ask()).text == "I will not"


def test_fields_are_json_or_a_tool_where_the_request_wants_them_so() -> None:
    engine = ScriptedEngine({"q": "card"})
    assert json.loads(engine.complete(ask(response_format={"type": "json_object"})).text) == {"q": "card"}
    for choice in (ToolChoice("required"), ToolChoice("required", ("search",))):
        response = engine.complete(ask(tools=[TOOL], tool_choice=choice))
        assert dict(response.tool_calls[0].input) == {"q": "card"}
    several = engine.complete(ask(tools=[TOOL, OTHER], tool_choice=ToolChoice("required")))
    assert several.tool_calls == [], "which of them is not said"


def test_log_probabilities_are_given_where_they_are_asked_for() -> None:
    engine = ScriptedEngine(["two words", Reply("ab", logprobs=[("a", -1.0), ("b", -2.0)])])
    first, second = engine.complete(ask(logprobs=0)), engine.complete(ask(logprobs=0))
    assert [(t.token, t.logprob) for t in first.logprobs] == [("two ", -0.1), ("words", -0.1)]
    assert [(t.token, t.logprob) for t in second.logprobs] == [("a", -1.0), ("b", -2.0)]
    assert engine.complete(ask()).logprobs is None
    streamed = [whole(engine.stream(ask(logprobs=0)), ask(logprobs=0)) for _ in range(2)]
    assert [[t.token for t in r.logprobs] for r in streamed] == [["a", "b"], ["two ", "words"]]


def test_counts_of_tokens_are_those_it_was_told() -> None:
    engine = ScriptedEngine(["x", Reply("x", usage={"output_tokens": 7})], usage={"input_tokens": 5, "output_tokens": 6})
    usages = [engine.complete(ask()).usage for _ in range(2)]
    assert [(u.input_tokens, u.output_tokens, u.total_tokens) for u in usages] == [(5, 6, 11), (5, 7, 12)]


def test_faults_by_chance_depend_on_the_number_of_the_call_alone() -> None:
    def fates(seed: int) -> list[str]:
        engine = ScriptedEngine("x", chances={ServerError("down"): 0.3, TooMany("slow"): 0.2}, seed=seed)
        found = []
        for _ in range(200):
            try:
                found.append(engine.complete(ask()).text)
            except (ServerError, TooMany) as error:
                found.append(type(error).__name__)
        return found

    first = fates(1)
    assert first == fates(1) != fates(2)
    assert 40 < first.count("ServerError") < 80
    assert 25 < first.count("RateLimitError") < 60
    with pytest.raises(ValueError, match="at most 1"):
        ScriptedEngine("x", chances={ServerError("a"): 0.6, ServerError("b"): 0.6})


def test_delays_come_in_turn_or_from_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("dspex_lab.testing._scripted.time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr("dspex_lab.testing._scripted.asyncio", SimpleNamespace(sleep=sleep))
    engine = ScriptedEngine("x", delay=[0.1, 0.0, 0.3])
    for _ in range(3):
        engine.complete(ask())
    asyncio.run(AsyncScriptedEngine(engine).complete(ask()))
    list(ScriptedEngine("x", delay=lambda prompt: len(prompt.text)).stream(ask("four")))
    assert waited == [0.1, 0.3, 0.1, 4]
    assert ScriptedEngine("x", delay=[]).wait(1, engine.prompts[0]) == 0.0


def test_it_remembers_what_it_was_asked() -> None:
    lm = scripted_lm({"answer": "x"}, keep=2)
    with dspy.context(lm=lm):
        for text in "abc":
            dspy.Predict("question -> answer")(question=text)
    assert [prompt.question for prompt in lm.engine.prompts] == [{"question": "b"}, {"question": "c"}]
    assert [type(request) for request in lm.engine.requests] == [Request, Request]
    assert lm.engine.reached(3)
    assert not lm.engine.reached(4, timeout=0)
    again = cloudpickle.loads(cloudpickle.dumps(lm.engine))
    assert (again.prompts, again.calls) == ([], 3)
    asyncio.run(lm.acall("d"))
    assert lm.engine.prompts[-1].text == "d"


def test_what_is_plain_data_is_saved() -> None:
    engine = ScriptedEngine(["a", {"b": 1}], delay=[0.0, 0.0], usage={"input_tokens": 3})
    state = json.loads(json.dumps(engine.dump_state()))
    again = ScriptedEngine.load_state(state)
    assert again.dump_state() == state
    assert again.complete(ask()).usage.input_tokens == 3
    for odd in (
        ScriptedEngine(Reply("x")),
        ScriptedEngine([Reply("x")]),
        ScriptedEngine("x", delay=lambda prompt: 0.0),
        ScriptedEngine("x", chances={ServerError("down"): 0.1}),
    ):
        with pytest.raises(TypeError, match="no plain data"):
            odd.dump_state()


@pytest.mark.parametrize("script", [3, [3], [None]])
def test_what_is_no_script_is_refused(script: Any) -> None:
    with pytest.raises(TypeError):
        ScriptedEngine(script)
    with pytest.raises(TypeError, match="this is a int"):
        ScriptedEngine(lambda prompt: 3).complete(ask())
