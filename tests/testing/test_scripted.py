"""The scripted model does what a test tells it to do, as DSPy would see a real one do it."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import cloudpickle
import dspy
import pytest

import dspex_lab.testing as testing
from dspex_lab.lms import from_portable, is_simulated, portable
from dspex_lab.testing import AsyncScriptedEngine, ScriptedEngine, scripted_lm

ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_fields_are_written_for_the_adapter(adapter: Any) -> None:
    lm = scripted_lm({"label": "a <b> & c", "scores": [1, 2], "ok": True})
    with dspy.context(lm=lm, adapter=adapter):
        found = dspy.Predict("text -> label, scores: list[int], ok: bool")(text="x")
    assert (found.label, found.scores, found.ok) == ("a <b> & c", [1, 2], True)
    assert lm.engine.calls == 1


def test_answers_come_in_turn_and_round_again() -> None:
    lm = scripted_lm(["one", {"answer": "two"}])
    assert [lm("x") for _ in range(3)] == [["one"], ['{\n  "answer": "two"\n}'], ["one"]]


def test_one_text_answers_every_call() -> None:
    lm = scripted_lm("always")
    assert [lm("x"), lm("y")] == [["always"], ["always"]]


def test_a_function_sees_what_was_asked() -> None:
    lm = scripted_lm(lambda prompt: {"answer": f"{prompt.question['text']} {len(prompt.demonstrations)}"})
    program = dspy.Predict("text -> answer")
    program.demos = [dspy.Example(text="a", answer="b")]
    with dspy.context(lm=lm):
        assert program(text="hello").answer == "hello 1"


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        scripted_lm([])


def test_faults_come_at_their_call() -> None:
    from dspy.lm15 import RateLimitError

    lm = scripted_lm("fine", faults={1: RateLimitError("slow down"), 2: ConnectionError})
    with pytest.raises(dspy.LMRateLimitError, match="slow down"):
        lm("x")
    with pytest.raises(dspy.LMError):
        lm("x")
    assert lm("x") == ["fine"]
    assert lm.engine.calls == 3


def test_sync_and_async_calls_count_together() -> None:
    lm = scripted_lm(["a", "b"])
    assert lm("x") == ["a"]
    assert asyncio.run(lm.acall("x")) == ["b"]
    assert lm.engine.calls == 2


def test_calls_are_counted_across_threads() -> None:
    engine = ScriptedEngine("x")
    threads = [threading.Thread(target=lambda: [engine.count() for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.calls == 2000


def test_the_delay_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("dspex_lab.testing._scripted.time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr("dspex_lab.testing._scripted.asyncio", SimpleNamespace(sleep=sleep))
    lm = scripted_lm("x", delay=0.5)
    lm("x")
    asyncio.run(lm.acall("x"))
    assert waited == [0.5, 0.5]


def test_a_delayed_async_call_can_be_cancelled() -> None:
    from dspy.lm15 import Message, Request

    engine = ScriptedEngine("x", delay=600.0)
    request = Request(model="m", messages=(Message.user("hello"),))

    async def run() -> None:
        call = asyncio.create_task(AsyncScriptedEngine(engine).complete(request))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(run())
    assert engine.calls == 1


def test_no_two_share_cached_answers() -> None:
    first, second = scripted_lm("one", cache=True), scripted_lm("two", cache=True)
    assert first.model != second.model
    assert (first("x"), second("x"), first("x")) == (["one"], ["two"], ["one"])
    assert first.engine.calls == 1
    assert scripted_lm("x").cache is False


def test_it_streams() -> None:
    lm = scripted_lm({"answer": "four words of text"})
    program = dspy.streamify(
        dspy.Predict("q -> answer"),
        is_async_program=True,
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
    )

    async def pieces() -> list[str]:
        return [p.chunk async for p in program(q="x") if isinstance(p, dspy.streaming.StreamResponse)]

    with dspy.context(lm=lm):
        assert "".join(asyncio.run(pieces())).strip() == "four words of text"


def test_the_sync_stream_ends_with_usage() -> None:
    from dspy.lm15 import Message, Request

    request = Request(model="m", messages=(Message.user("hello"),))
    engine = ScriptedEngine("two words")
    found = list(engine.stream(request))
    assert [e.type for e in found] == ["start", "delta", "delta", "end"]
    assert found[-1].usage.output_tokens == 3
    engine.close()
    asyncio.run(AsyncScriptedEngine(engine).aclose())


def test_it_is_simulated_and_can_be_pickled() -> None:
    lm = scripted_lm(lambda prompt: "again")
    lm("x")
    again = cloudpickle.loads(cloudpickle.dumps(lm))
    assert is_simulated(again)
    assert again("y") == ["again"]
    assert asyncio.run(again.acall("y")) == ["again"]
    assert again.engine.calls == 3


def test_it_travels_as_plain_data() -> None:
    lm = scripted_lm([{"answer": "x"}], delay=0.0)
    again = from_portable(portable(lm))
    with dspy.context(lm=again):
        assert dspy.Predict("q -> answer")(q="?").answer == "x"
    assert asyncio.run(again.acall("hello")) == ['{\n  "answer": "x"\n}']


def test_faults_do_not_travel_as_plain_data() -> None:
    with pytest.raises(TypeError, match="faults"):
        ScriptedEngine("x", faults={1: ValueError}).dump_state()


def test_all_public_names_can_be_had() -> None:
    assert all(getattr(testing, name) is not None for name in testing.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        testing.nothing_such  # noqa: B018
