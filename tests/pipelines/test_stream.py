"""A run as events: the first token at once, each with its field, and at the end what ``lab.run`` gives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy.clients.cache import Cache
from dspy.lm15 import ServerError

import dspex_lab as dx
from dspex_lab.lms.calls._streaming import Token
from dspex_lab.pipelines import Hub, StreamEvent, template
from dspex_lab.testing import Gate, Streams, scripted_lm

ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]
ANSWER = {"answer": "one two three", "score": 3}


@pytest.fixture(autouse=True)
def _cache_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache on the disk has a connection for each thread, which Python 3.13 misses when the thread ends."""
    monkeypatch.setattr(dspy, "cache", Cache(False, True, disk_cache_dir=""))


def named(adapter: Any) -> str:
    return type(adapter).__name__


def real(lm: Any) -> Any:
    """Let a scripted model pass for a provider's, whose calls run on the event loop."""
    lm.engine.simulated = lm._async_engine_spec.simulated = False
    return lm


def tokens(events: list[StreamEvent], **about: Any) -> list[tuple[str | None, str]]:
    found = [e for e in events if e.kind == "token" and all(e.data[k] == v for k, v in about.items())]
    return [(e.field, e.value) for e in found]


def text(events: list[StreamEvent], step: str, field: str | None) -> str:
    return "".join(e.value for e in events if (e.kind, e.step, e.field) == ("token", step, field))


def until(events: Iterator[StreamEvent], kind: str) -> StreamEvent:
    return next(e for e in events if e.kind == kind)


async def gather(stream: Any) -> list[StreamEvent]:
    return [event async for event in stream]


def asked() -> dx.Pipeline:
    return dx.pipeline("p", a=dspy.Predict("question -> answer, score: int"), size=lambda answer: len(answer))


# --- what is told -------------------------------------------------------------------------------------------------


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


# --- the same as a run --------------------------------------------------------------------------------------------

RECORDED = """
SELECT step, model, prompt_tokens, completion_tokens, cost, cache_hit, simulated, error, outputs
FROM lm_calls WHERE run_id = ? ORDER BY started
"""


def compare(lab: dx.Lab, plain: dx.Result, streamed: dx.Result) -> None:
    for name in ("status", "outputs", "prompt_tokens", "completion_tokens", "cost", "lm", "simulated", "name"):
        assert getattr(plain, name) == getattr(streamed, name), name
    compare_outcomes(plain, streamed)
    one, other = (lab.sql(RECORDED, [r.run_id]) for r in (plain, streamed))
    assert one.astype(str).equals(other.astype(str))
    assert len(one) > 0


def compare_outcomes(plain: dx.Result, streamed: dx.Result) -> None:
    assert [(s.name, s.status, s.outputs, repr(s.error)) for s in plain.steps.values()] == [
        (s.name, s.status, s.outputs, repr(s.error)) for s in streamed.steps.values()
    ]
    assert plain.outputs == streamed.outputs


@pytest.mark.parametrize("adapter", ADAPTERS, ids=named)
@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_a_streamed_run_gives_what_a_run_gives(lab: dx.Lab, adapter: Any, on_loop: bool) -> None:
    lm = lab.use(scripted_lm(ANSWER))
    if on_loop:
        real(lm)
    made = dx.pipeline("p", a=dspy.ChainOfThought("question -> answer, score: int"), size=lambda answer: len(answer))
    lm.engine.script = {"reasoning": "so it is", **ANSWER}
    with dspy.context(adapter=adapter, trace=[]):
        plain = lab.run(made, question="x")
        streamed = list(lab.stream(made, question="x"))[-1].result
    compare(lab, plain, streamed)
    history = [{k: e[k] for k in ("messages", "outputs", "usage", "cost", "kwargs")} for e in lm.history[-2:]]
    assert history[0] == history[1]
    assert lm.history[-1]["response"].message == lm.history[-2]["response"].message


def test_an_answer_in_no_form_is_asked_for_again_as_in_a_run(lab: dx.Lab) -> None:
    lm = lab.use(scripted_lm(["no form at all", {"answer": "yes"}]))
    made = dx.pipeline("p", a=dspy.Predict("question -> answer"))
    plain = lab.run(made, question="x")
    events = list(lab.stream(made, question="x"))
    compare(lab, plain, events[-1].result)
    assert tokens(events, attempt=1) == [(None, "no"), (None, " form"), (None, " at"), (None, " all")]
    assert tokens(events, attempt=2) == [("answer", "yes")]
    assert len({e.data["call_id"] for e in events if e.kind == "token"}) == 2
    assert lm.engine.streams == Streams(2, 2, 2)


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_a_stream_that_breaks_before_anything_came_is_begun_again_as_a_call_is(lab: dx.Lab, on_loop: bool) -> None:
    broken = ServerError("gone")
    broken.retry_after = 0.0
    lm = scripted_lm({"answer": "one two"}, breaks={1: (0, broken)}, num_retries=1)
    lab.use(real(lm) if on_loop else lm)
    events = list(lab.stream(dx.pipeline("p", a=dspy.Predict("question -> answer")), question="x"))
    assert text([e for e in events if e.data and e.data.get("attempt") == 2], "a", "answer") == "one two"
    assert len({e.data["call_id"] for e in events if e.kind == "token"}) == 1
    assert lm.engine.streams == Streams(opened=2, ended=1, closed=2)
    assert events[-1].result.status == "complete"


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_a_stream_that_breaks_later_was_paid_for_and_is_begun_again_only_where_the_step_says_so(
    lab: dx.Lab, on_loop: bool
) -> None:
    lm = scripted_lm({"answer": "one two"}, breaks={1: (6, ServerError("gone"))}, num_retries=1)
    lab.use(real(lm) if on_loop else lm)
    events = list(lab.stream(dx.pipeline("p", a=dspy.Predict("question -> answer")), question="x"))
    assert text(events, "a", "answer") == "one"
    assert events[-1].result.status == "failed"
    assert "one" in events[-1].result.steps["a"].note
    assert lm.engine.streams == Streams(opened=1, closed=1)
    broken = ServerError("gone")
    broken.retry_after = 0.0
    again = scripted_lm({"answer": "one two"}, breaks={1: (6, broken)}, num_retries=1)
    lab.use(real(again) if on_loop else again)
    tried = list(lab.stream(dx.pipeline("p", a=dx.step(dspy.Predict("question -> answer"), retries=1)), question="x"))
    assert tried[-1].result.status == "complete"
    assert [e.data["attempt"] for e in tried if e.kind == "step.start"] == [1, 2]
    assert again.engine.streams == Streams(opened=2, ended=1, closed=2)


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_an_error_in_the_middle_leaves_what_was_told_and_a_partial_result(lab: dx.Lab, on_loop: bool) -> None:
    lm = scripted_lm({"answer": "one two three"}, breaks={1: (7, ConnectionError("cut off"))})
    lab.use(real(lm) if on_loop else lm)
    made = dx.pipeline("p", fine=lambda question: question.upper(), a=dspy.Predict("question -> answer"))
    events = list(lab.stream(made, question="x"))
    assert text(events, "a", "answer") == "one two"
    stop = next(e for e in events if e.kind == "step.stop" and e.step == "a")
    assert stop.data["status"] == "failed"
    result = events[-1].result
    assert (result.status, result.outputs) == ("partial", {"fine": "X"})
    assert "cut off" in str(result.error)
    assert lm.engine.streams == Streams(opened=1, closed=1)
    assert "cut off" in lab.sql("SELECT error FROM lm_calls")["error"][0]


def test_an_answer_from_the_cache_comes_at_once_and_says_so(lab: dx.Lab) -> None:
    lm = lab.use(scripted_lm(ANSWER, cache=True))
    made = asked()
    list(lab.stream(made, question="x"))
    events = list(lab.stream(made, question="x"))
    assert tokens(events, cached=True, whole=True, attempt=1) == [("answer", "one two three"), ("score", "3")]
    assert len(tokens(events)) == 2
    assert lm.engine.calls == 1
    assert list(lab.sql("SELECT cache_hit FROM lm_calls ORDER BY started")["cache_hit"]) == [False, True]
    compare(lab, lab.run(made, question="x"), events[-1].result)


# --- watchers -----------------------------------------------------------------------------------------------------


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


def test_a_step_on_a_pool_is_told_of_without_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSPEX_POOL_GENERAL_WORKERS", "1")
    with dx.Lab(":memory:") as lab:
        made = dx.pipeline("p", label=dx.step(dspy.Predict("text -> label: Literal['u', 'v']"), pool="general"))
        events = list(lab.stream(made, text="x"))
        assert [e.kind for e in events] == ["step.start", "field", "step.stop", "partial", "result"]
        assert events[-1].result["label"] in ("u", "v")

        async def go() -> None:
            assert [e.kind for e in await gather(lab.astream(made, text="x"))] == [e.kind for e in events]

        asyncio.run(go())


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
