"""Plain DSPy calls, recorded."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dspy
import pytest
from autolog_helpers import ANSWER, Log, Two, only

from dspex_lab.events import EVENT_NAMES, Event, Span
from dspex_lab.testing import scripted_lm

# --- modules --------------------------------------------------------------------------------------------------------


def test_a_module_is_a_run_with_what_it_was_given_gave_and_spent(log: Log) -> None:
    dspy.Predict("question -> answer")(question="Is it?")
    run = only(log)
    assert (run.kind, run.name, run.status, run.parent_id, run.error) == ("run", "Predict", "complete", None, None)
    assert run.inputs == {"question": "Is it?"}
    assert run.outputs == {"answer": "yes"}
    assert run.tags == ("autolog",)
    (call,) = log.calls
    assert call.run_id == call.span_id == run.run_id
    assert (run.prompt_tokens, run.completion_tokens) == (call.prompt_tokens, call.completion_tokens)
    assert run.prompt_tokens
    assert run.cost == 0.0
    assert run.simulated
    assert run.lm == dspy.settings.lm.model
    assert run.seconds >= call.seconds
    (span,) = log.of(Span)
    assert (span.span_id, span.kind, span.name, span.status) == (run.run_id, "run", "Predict", "complete")
    names = [event.name for event in log.of(Event)]
    assert names[0] == "run.start"
    assert names[-1] == "run.stop"
    assert set(names) <= EVENT_NAMES


def test_modules_inside_another_make_no_runs_of_their_own(log: Log) -> None:
    Two()(question="q")
    run = only(log)
    assert run.name == "Two"
    assert len(log.calls) == 2
    assert {call.run_id for call in log.calls} == {run.run_id}
    assert run.prompt_tokens == sum(call.prompt_tokens for call in log.calls)
    assert run.outputs == {"reasoning": "so", "answer": "yes"}


def test_an_async_call_is_a_run_and_those_at_once_do_not_mix(log: Log) -> None:
    async def go() -> None:
        await asyncio.gather(*(Two().acall(question=str(n)) for n in range(5)))

    asyncio.run(go())
    assert sorted(run.inputs["question"] for run in log.runs) == list("01234")
    for run in log.runs:
        assert len([call for call in log.calls if call.run_id == run.run_id]) == 2


def test_what_fails_is_a_failed_run_and_the_error_is_the_users(log: Log) -> None:
    class Broken(dspy.Module):
        def forward(self, **inputs: Any) -> Any:
            raise LookupError("no such desk")

        async def aforward(self, **inputs: Any) -> Any:
            raise LookupError("no such desk")

    for call in (lambda: Broken()(question="q"), lambda: asyncio.run(Broken().acall(question="q"))):
        with pytest.raises(LookupError, match="no such desk"):
            call()
    for run in log.runs:
        assert (run.status, run.error, run.outputs) == ("failed", "LookupError: no such desk", None)
        assert run.inputs == {"question": "q"}
    assert [span.error for span in log.of(Span)] == ["LookupError: no such desk"] * 2
    assert [event.name for event in log.of(Event)] == ["run.start", "run.error"] * 2


def test_an_lm_that_fails_is_recorded_with_its_run(log: Log) -> None:
    with dspy.context(lm=scripted_lm(ANSWER, faults={1: ValueError("gone")})), pytest.raises(dspy.LMError):
        dspy.Predict("question -> answer", temperature=0)(question="q")
    assert only(log).status == "failed"
    assert "gone" in log.calls[0].error
    assert "error.lm" in [event.name for event in log.of(Event)]


def test_a_call_that_is_cancelled_or_interrupted_is_a_cancelled_run(log: Log) -> None:
    class Slow(dspy.Module):
        def forward(self) -> Any:
            raise KeyboardInterrupt

        async def aforward(self) -> Any:
            begun.set()
            await asyncio.Event().wait()

    async def go() -> None:
        call = asyncio.create_task(Slow().acall())
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    begun = asyncio.Event()
    asyncio.run(go())
    with pytest.raises(KeyboardInterrupt):
        Slow()()
    assert [run.status for run in log.runs] == ["cancelled", "cancelled"]
    assert [run.error for run in log.runs] == ["CancelledError", "KeyboardInterrupt"]


def test_a_module_that_gives_anything_else_has_one_output(log: Log) -> None:
    class Plain(dspy.Module):
        def forward(self, a: int, b: int) -> Any:
            return a + b

    assert Plain()(1, b=2) == 3
    assert only(log).inputs == {"b": 2, "args": [1]}
    assert only(log).outputs == {"output": 3}


def test_inputs_are_taken_down_before_the_program_changes_them(log: Log) -> None:
    class Greedy(dspy.Module):
        def forward(self, items: list[str]) -> Any:
            items.clear()
            return dspy.Prediction(n=len(items))

    Greedy()(items=["a", "b"])
    assert only(log).inputs == {"items": ["a", "b"]}
    assert only(log).outputs == {"n": 0}


# --- LM calls outside any run ---------------------------------------------------------------------------------------


def test_an_lm_that_is_called_directly_is_recorded_without_a_run(log: Log) -> None:
    lm = dspy.settings.lm
    lm("hello")
    asyncio.run(lm.acall("hello"))
    assert log.runs == []
    assert [(call.run_id, call.span_id, call.model) for call in log.calls] == [(None, None, lm.model)] * 2
    assert all(call.outputs for call in log.calls)


def test_an_lm_call_that_fails_is_recorded(log: Log) -> None:
    with pytest.raises(dspy.LMError):
        scripted_lm(ANSWER, faults={1: ValueError("gone")})("hello")
    assert "gone" in log.calls[0].error


# --- threads --------------------------------------------------------------------------------------------------------


def test_programs_in_dspys_threads_are_runs_of_their_own(log: Log) -> None:
    program = Two()
    dspy.Parallel(num_threads=3, disable_progress_bar=True)([(program, {"question": str(n)}) for n in range(6)])
    assert sorted(run.inputs["question"] for run in log.runs) == list("012345")
    assert {run.parent_id for run in log.runs} == {None}
    assert len(log.calls) == 12


def test_threads_inside_a_program_belong_to_its_run(log: Log) -> None:
    class Wide(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = dspy.Predict("question -> answer")

        def forward(self) -> Any:
            pairs = [(self.step, {"question": str(n)}) for n in range(4)]
            dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
            return dspy.asyncify

    Wide()()
    assert {call.run_id for call in log.calls} == {only(log).run_id}
    assert len(log.calls) == 4


def test_a_plain_thread_records_too(log: Log) -> None:
    lm = dspy.settings.lm

    def work() -> None:
        dspy.Predict("question -> answer")(question="q", lm=lm)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert only(log).inputs == {"question": "q", "lm": f"<LM {lm.model}>"}


def test_asyncified_and_streamed_programs_are_runs(log: Log) -> None:
    asyncio.run(dspy.asyncify(Two())(question="a"))

    async def stream() -> list[Any]:
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        program = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener])
        return [piece async for piece in program(question="b")]

    pieces = asyncio.run(stream())
    assert isinstance(pieces[-1], dspy.Prediction)
    assert [(run.name, run.inputs["question"], run.status) for run in log.runs] == [
        ("Two", "a", "complete"),
        ("Predict", "b", "complete"),
    ]
    assert log.runs[1].prompt_tokens


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_an_evaluation_is_a_run_and_each_example_one_under_it(log: Log) -> None:
    devset = [dspy.Example(question=str(n), answer="yes").with_inputs("question") for n in range(4)]
    judge = scripted_lm("good")

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        judge("good?")
        return example.answer == prediction.answer

    result = dspy.Evaluate(devset=devset, metric=metric, num_threads=2, display_progress=False)(Two())
    assert result.score == 100.0
    nested, (whole,) = [r for r in log.runs if r.kind == "nested"], [r for r in log.runs if r.kind == "run"]
    assert (whole.name, whole.status, whole.parent_id) == ("Evaluate", "complete", None)
    assert whole.inputs == {"program": "Two", "metric": "metric", "examples": 4}
    assert whole.outputs == {"score": 100.0}
    assert sorted(r.inputs["question"] for r in nested) == list("0123")
    assert {r.parent_id for r in nested} == {whole.run_id}
    assert len(log.calls) == 12
    assert len([call for call in log.calls if call.run_id == whole.run_id]) == 4  # the metric's own
    assert whole.prompt_tokens == sum(call.prompt_tokens for call in log.calls)
    assert [e.name for e in log.of(Event) if e.name.startswith("run.")] == ["run.start", "run.stop"]


def test_an_evaluation_of_a_failing_program_has_failed_runs(log: Log) -> None:
    class Sometimes(dspy.Module):
        def forward(self, question: str) -> Any:
            if question == "1":
                raise LookupError("no")
            return dspy.Prediction(answer="yes")

    devset = [dspy.Example(question=str(n)).with_inputs("question") for n in range(3)]
    evaluate = dspy.Evaluate(devset=[], metric=lambda e, p: 1.0, num_threads=1, max_errors=10, provide_traceback=False)
    evaluate(Sometimes(), devset=devset)
    assert sorted(r.status for r in log.runs if r.kind == "nested") == ["complete", "complete", "failed"]
    assert log.runs[-1].inputs["examples"] == 3
    with pytest.raises(ValueError, match="at least one example"):
        evaluate(Sometimes())
    assert log.runs[-1].status == "failed"


def test_an_evaluation_inside_a_program_belongs_to_it(log: Log) -> None:
    class Tuned(dspy.Module):
        def forward(self) -> Any:
            devset = [dspy.Example(question="q").with_inputs("question")]
            dspy.Evaluate(devset=devset, metric=lambda e, p: 1.0, num_threads=1)(dspy.Predict("question -> answer"))
            return dspy.Prediction(done=True)

    Tuned()()
    assert only(log).name == "Tuned"
    assert {call.run_id for call in log.calls} == {only(log).run_id}


# --- programs that give pieces --------------------------------------------------------------------------------------


class Pieces(dspy.Module):
    """Gives its answer piece by piece, asking a model between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.step = dspy.Predict("question -> answer")

    def forward(self, count: int) -> Any:
        def give() -> Iterator[Any]:
            for n in range(count):
                yield self.step(question=str(n))
            if count > 5:
                raise LookupError("too many")
            return "end"

        return give()

    async def aforward(self, count: int) -> Any:
        async def give() -> AsyncIterator[Any]:
            for n in range(count):
                yield await self.step.acall(question=str(n))
            if count > 5:
                raise LookupError("too many")

        return give()


def test_a_generator_is_one_run_that_ends_with_it(log: Log) -> None:
    answer = Pieces()(count=3)
    assert inspect.isgenerator(answer)
    assert log.runs == []

    def whole() -> Iterator[Any]:
        ended.append((yield from answer))

    ended: list[Any] = []
    assert len(list(whole())) == 3
    assert ended == ["end"]
    run = only(log)
    assert (run.name, run.status) == ("Pieces", "complete")
    assert run.outputs == {"pieces": 3, "last": {"answer": "yes"}}
    assert [call.run_id for call in log.calls] == [run.run_id] * 3
    dspy.Predict("question -> answer")(question="after")
    assert log.runs[-1].name == "Predict"


def test_an_async_generator_is_one_run(log: Log) -> None:
    async def go() -> int:
        return len([piece async for piece in await Pieces().acall(count=2)])

    assert asyncio.run(go()) == 2
    assert only(log).outputs == {"pieces": 2, "last": {"answer": "yes"}}
    assert len(log.calls) == 2


def test_pieces_that_break_off_are_kept(log: Log) -> None:
    async def fail() -> None:
        async for _ in await Pieces().acall(count=6):
            pass

    async def leave() -> None:
        answer = await Pieces().acall(count=3)
        await anext(answer)
        await answer.aclose()

    with pytest.raises(LookupError):
        list(Pieces()(count=6))
    with pytest.raises(LookupError):
        asyncio.run(fail())
    left = Pieces()(count=3)
    next(left)
    left.close()
    asyncio.run(leave())
    assert [run.status for run in log.runs] == ["failed", "failed", "cancelled", "cancelled"]
    assert [run.outputs["pieces"] for run in log.runs] == [6, 6, 1, 1]
