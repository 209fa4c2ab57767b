"""A run as events: the first token at once, and each with its field."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from stream_helpers import ADAPTERS, ANSWER, asked, compare_outcomes, gather, named, real, text, tokens

import dspex_lab as dx
from dspex_lab.lms.calls._streaming import Token
from dspex_lab.pipelines import Hub, StreamEvent, template
from dspex_lab.testing import Gate, Streams, scripted_lm

pytestmark = pytest.mark.usefixtures("cache_in_memory")


def until(events: Iterator[StreamEvent], kind: str) -> StreamEvent:
    return next(e for e in events if e.kind == kind)


def test_a_run_is_told_from_its_first_step_to_its_result(lab: dx.Lab) -> None:
    lab.use(scripted_lm(ANSWER))
    events = list(lab.stream(asked(), question="x"))
    assert [(e.kind, e.step, e.field, e.value) for e in events if e.kind != "token"] == [
        ("step.start", "a", None, None),
        ("field", "a", "answer", "one two three"),
        ("field", "a", "score", 3),
        ("step.stop", "a", None, None),
        ("partial", None, None, ANSWER),
        ("step.start", "size", None, None),
        ("field", "size", "size", 13),
        ("step.stop", "size", None, None),
        ("partial", None, None, {**ANSWER, "size": 13}),
        ("result", None, None, {**ANSWER, "size": 13}),
    ]
    stop = next(e for e in events if e.kind == "step.stop")
    assert (stop.data["status"], stop.data["outputs"]) == ("complete", ANSWER)
    assert stop.data["seconds"] > 0
    assert events[-1].result is lab.last_result
    assert [e.result for e in events[:-1]] == [None] * (len(events) - 1)
    assert sorted(e.time for e in events) == [e.time for e in events]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=named)
@pytest.mark.parametrize("kind", ["sync", "async", "on the loop"])
def test_tokens_say_their_field_and_are_those_of_the_result(lab: dx.Lab, adapter: Any, kind: str) -> None:
    lm = lab.use(scripted_lm(ANSWER))
    if kind == "on the loop":
        real(lm)
    with dspy.context(adapter=adapter):
        made = asked()
        events = (
            list(lab.stream(made, question="x")) if kind == "sync" else asyncio.run(gather(lab.astream(made, question="x")))
        )
    assert text(events, "a", "answer") == "one two three"
    assert text(events, "a", "score") == "3"
    assert text(events, "a", None) == ""
    assert len(tokens(events)) > 3
    assert lm.engine.streams == Streams(1, 1, 1)
    about = next(e.data for e in events if e.kind == "token")
    calls = lab.sql("SELECT call_id, model FROM lm_calls")
    assert [about["call_id"], about["model"]] == list(calls.iloc[0])
    assert (about["attempt"], about["part"], about["whole"], about["cached"]) == (1, "text", False, False)
    assert about["simulated"] is (kind != "on the loop")


@pytest.mark.parametrize("adapter", ADAPTERS, ids=named)
@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_the_first_token_is_there_before_the_engine_has_made_the_second(lab: dx.Lab, adapter: Any, on_loop: bool) -> None:
    gate = Gate()
    lm = scripted_lm({"answer": "one two three"}, gate=gate, split=lambda t: [*t.partition("one ")])
    lab.use(real(lm) if on_loop else lm)
    with (
        dspy.context(adapter=adapter),
        lab.stream(dx.pipeline("p", a=dspy.Predict("question -> answer")), question="x") as events,
    ):
        gate.open(2)
        first = until(events, "token")
        assert (first.step, first.field, first.value.strip()) == ("a", "answer", "one")
        assert gate.reached(3)
        assert lm.engine.streams == Streams(opened=1), "the engine has more to say"
        gate.open()
        assert "".join(e.value for e in events if e.kind == "token").strip() == "two three"
    assert events.result["answer"] == "one two three"


def test_the_first_token_reaches_an_async_watcher_while_the_engine_waits(lab: dx.Lab) -> None:
    gate = Gate()
    lm = lab.use(real(scripted_lm({"answer": "one two"}, gate=gate, split=lambda t: [*t])))

    async def go() -> None:
        stream = lab.astream(dx.pipeline("p", a=dspy.Predict("question -> answer")), question="x")
        while (event := await anext(stream)).kind != "token":
            gate.open(len("[[ ## answer ## ]]\n") + 1)
        assert event.value == "o"
        assert lm.engine.streams == Streams(opened=1)
        gate.open()
        assert text([event, *await gather(stream)], "a", "answer") == "one two"

    asyncio.run(go())


def test_two_models_speak_at_the_same_time(lab: dx.Lab) -> None:
    gates = {name: Gate() for name in "ab"}
    modules = {}
    for name, gate in gates.items():
        modules[name] = dspy.Predict(f"question -> {name}")
        modules[name].set_lm(scripted_lm({name: "1 2 3"}, gate=gate, split=lambda t: [t[: t.index("1")], *"1 2 3"]))
    heard: list[tuple[str | None, str]] = []
    with lab.stream(dx.pipeline("p", **modules), question="x") as events:
        for gate in gates.values():
            gate.open(1)
        for name in "abba":
            gates[name].open(1)
            heard.append((until(events, "token").step, name))
            gates[name].open(1)  # the blank, which is held back
        for gate in gates.values():
            gate.open()
        rest = list(events)
    assert [step for step, _ in heard] == ["a", "b", "b", "a"]
    assert rest[-1].result.outputs == {"a": "1 2 3", "b": "1 2 3"}


def test_a_nested_pipeline_tells_of_its_steps_by_dotted_names(lab: dx.Lab) -> None:
    lab.use(scripted_lm({"answer": "one two"}))
    inner = dx.pipeline("inner", q=dspy.Predict("question -> answer"), size=lambda answer: len(answer))
    events = list(lab.stream(dx.pipeline("p", outer=inner, more=lambda size: size + 1), question="x"))
    assert text(events, "outer.q", "answer") == "one two"
    assert [e.step for e in events if e.kind == "step.stop"] == ["outer.q", "outer.size", "outer", "more"]
    partial = [e.value for e in events if e.kind == "partial"]
    assert partial == [{"answer": "one two", "size": 7}, {"answer": "one two", "size": 7, "more": 8}]


def test_native_predictors_stream_too(lab: dx.Lab) -> None:
    lm = lab.use(scripted_lm({"reasoning": "because of it", "answer": "one two"}))
    for made, fields in (
        (dx.predict("question -> answer"), ["answer"]),
        (dx.chain_of_thought("question -> answer"), ["reasoning", "answer"]),
    ):
        events = list(lab.stream(made, question="x"))
        step = events[0].step
        for field in fields:
            assert text(events, step, field) == {"reasoning": "because of it", "answer": "one two"}[field]
        assert events[-1].result["answer"] == "one two"
    assert lm.engine.streams == Streams(2, 2, 2)


def test_a_template_is_answered_by_its_only_field(lab: dx.Lab) -> None:
    lab.use(scripted_lm("[1, 2, 3]", split=lambda t: [*t]))
    events = list(lab.stream(dx.pipeline("p", said="Say {{ x }}.", read=template("Count {{ x }}.", returns=list[int])), x="it"))
    assert (text(events, "said", "said"), text(events, "read", "read")) == ("[1, 2, 3]", "[1, 2, 3]")
    assert len(tokens(events)) == 18
    assert events[-1].result.outputs == {"said": "[1, 2, 3]", "read": [1, 2, 3]}


def test_a_step_inside_another_says_itself_what_it_answers() -> None:
    hub = Hub(dx.pipeline("p", y=lambda x: x))
    data = {"call_id": "c", "part": "text"}
    said = Token("token", "outer.said", None, "word", 1.0, data)
    hub(StreamEvent("step.start", "outer.other", data={"kind": "lm", "outputs": ["a", "b"]}))
    hub(StreamEvent("step.start", "outer.said", data={"kind": "lm", "outputs": ["said"]}))
    hub(said)
    hub(said._replace(step="outer.other"))
    hub(said._replace(data={**data, "part": "thinking"}))
    assert hub.take().time > 0
    assert [(e.kind, e.field) for e in iter(hub.take, None)] == [
        ("step.start", None),
        ("token", "said"),
        ("token", None),
        ("token", None),
    ]


def test_native_steps_have_no_tokens(lab: dx.Lab) -> None:
    events = list(lab.stream(dx.pipeline("p", y=lambda x: x + 1, z=lambda y: -y), x=1))
    assert "token" not in {e.kind for e in events}
    assert events[-1].result.outputs == {"y": 2, "z": -2}


def test_a_model_asked_in_a_function_is_heard_without_a_field(lab: dx.Lab) -> None:
    lab.use(scripted_lm("plain words"))

    def say(x: str) -> str:
        return dspy.settings.lm(x)[0]

    async def asay(x: str) -> str:
        return (await dspy.settings.lm.acall(x))[0]

    events = list(lab.stream(dx.pipeline("p", one=say, two=asay), x="x"))
    assert (text(events, "one", None), text(events, "two", None)) == ("plain words", "plain words")
    assert events[-1].result.outputs == {"one": "plain words", "two": "plain words"}


def test_the_last_partial_result_is_the_result(lab: dx.Lab) -> None:
    def bad(x: int) -> int:
        raise ValueError("no")

    made = dx.pipeline(
        "p",
        x=dx.step(lambda x: x + 1, replaces=True),
        lost=dx.step(bad, on_error="continue"),
        saved=dx.step(bad, on_error="fallback", fallback=7),
        after=lambda x, lost: [x, lost],
        broken=bad,
        never=lambda broken: broken,
    )
    events = list(lab.stream(made, x=1))
    partial = [e.value for e in events if e.kind == "partial"]
    assert partial[-1] == events[-1].result.outputs
    assert events[-1].result.status == "partial"
    compare_outcomes(lab.run(made, x=1), events[-1].result)


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_field_whose_replacing_step_failed_is_in_no_later_partial_result(lab: dx.Lab, on_error: str) -> None:
    def bad(text: str) -> str:
        raise ValueError("no")

    made = dx.pipeline(
        "p",
        text=dx.step(lambda text: text.strip(), replaces=True),
        better=dx.step(bad, outputs=("text",), replaces=True, on_error=on_error),
        size=lambda text: len(text or ""),
        beside=lambda other: other + 1,
    )
    events = list(lab.stream(made, text=" x ", other=1))
    partial = [e.value for e in events if e.kind == "partial"]
    assert any(given.get("text") == "x" for given in partial)
    result = events[-1].result
    assert partial[-1] == result.outputs
    assert "text" not in result.outputs


def test_a_step_that_is_skipped_says_so_and_does_not_start(lab: dx.Lab) -> None:
    def bad(x: int) -> int:
        raise ValueError("no")

    inner = dx.pipeline("inner", broken=bad, never=lambda broken: broken)
    made = dx.pipeline("p", part=inner, lost=bad, after=lambda lost: lost, last=lambda after: after)
    events = list(lab.stream(made, x=1))
    told = {(e.step, e.data["status"]) for e in events if e.kind == "step.stop"}
    failed, skipped = {"part", "part.broken", "lost"}, {"part.never", "after", "last"}
    assert told == {(name, "failed") for name in failed} | {(name, "skipped") for name in skipped}
    assert {e.step for e in events if e.kind == "step.start"} == failed
    stop = next(e for e in events if e.kind == "step.stop" and e.step == "last")
    assert stop.data == {"status": "skipped", "seconds": 0.0, "outputs": {}}
    assert stop.time > 0
    assert events[-1].kind == "result"


def test_pieces_that_come_at_once_are_handed_out_before_the_next_is_read(lab: dx.Lab) -> None:
    lm = real(scripted_lm({"answer": "one two three four five six"}))
    lab.use(lm)

    async def first_of() -> int:
        async with lab.astream(dx.pipeline("p", a=dspy.Predict("question -> answer")), question="x") as events:
            async for event in events:
                if event.kind == "token":
                    return lm.engine.streams.ended
        raise AssertionError("nothing was written")

    assert asyncio.run(first_of()) == 0, "the whole stream was read before its first piece was handed out"
