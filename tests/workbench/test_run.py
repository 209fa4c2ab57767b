"""Runs: what comes back, what is kept, and what is refused before anything runs."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import dspy
import pytest
from clocks import stop_until

import dspex_lab as dx
from dspex_lab.testing import scripted_lm


def double(x: int) -> int:
    return 2 * x


def boom(x: int) -> dict:
    if x >= 0:
        raise ValueError(f"no {x}")
    return {"broken": 1}


def test_a_run_of_native_steps_gives_every_field(lab: dx.Lab) -> None:
    made = dx.pipeline("p", y=double, z=lambda y: y + 1)
    result = lab.run(made, x=3)
    assert result.status == "complete"
    assert result.outputs == {"y": 6, "z": 7}
    assert [s.status for s in result.steps.values()] == ["complete", "complete"]
    assert result["z"] == 7
    assert result.raise_for_status() is result
    assert (result.tokens, result.cost, result.lm) == (None, None, None)


def test_a_single_function_module_or_signature_text_can_be_run(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"answer": "42"}]))
    assert lab.run(double, {"x": 2}).outputs == {"double": 4}
    assert lab.run(dspy.Predict("question -> answer"), question="?").outputs == {"answer": "42"}
    assert lab.run("question -> answer", question="?").outputs == {"answer": "42"}


def test_the_model_in_use_is_named_and_simulation_is_said(lab: dx.Lab) -> None:
    result = lab.run(dspy.Predict("text -> label: Literal['good', 'bad']"), text="a good day")
    assert result.simulated
    assert "offline" in (result.lm or "")
    assert result.tokens
    assert "simulated" in result.summary()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x' (int) is missing; step 'y' needs it"),
        ({"x": "3"}, "input 'x' does not fit step 'y': expected int, found '3' (str)"),
        ({"x": 1, "k": 1}, "'k' is not an input"),
        ({"xx": 1}, "'xx' is not an input. Did you mean 'x'?"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_anything_runs(lab: dx.Lab, inputs: dict[str, Any], message: str) -> None:
    calls = []

    def y(x: int) -> int:
        calls.append(x)
        return x

    with pytest.raises(dx.PipelineError) as caught:
        lab.run(dx.pipeline("p", y=y), inputs)
    assert message in str(caught.value)
    assert not calls
    assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == 0


def test_a_step_that_raises_keeps_the_others_and_the_store_has_it_all(lab: dx.Lab) -> None:
    made = dx.pipeline("p", y=double, broken=boom, after=lambda broken: broken, z=lambda y: y + 1)
    result = lab.run(made, x=3)
    assert result.status == "partial"
    assert result.outputs == {"y": 6, "z": 7}
    assert {n: s.status for n, s in result.steps.items()} == {
        "y": "complete",
        "broken": "failed",
        "after": "skipped",
        "z": "complete",
    }
    with pytest.raises(dx.PipelineError, match="step 'broken' failed: ValueError: no 3") as caught:
        result.raise_for_status()
    assert caught.value.step == "broken"
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.outcomes["y"].outputs == {"y": 6}
    run = lab.sql("SELECT * FROM runs").iloc[0]
    assert (run["status"], run["error_step"], run["error"]) == ("partial", "broken", "ValueError: no 3")
    spans = lab.sql("SELECT name, status FROM spans WHERE kind = 'step' ORDER BY name")
    assert dict(zip(spans["name"], spans["status"], strict=True)) == {
        "after": "skipped",
        "broken": "failed",
        "y": "complete",
        "z": "complete",
    }
    assert "error.native" in set(lab.sql("SELECT name FROM events")["name"])


def test_a_run_of_which_nothing_came_is_failed(lab: dx.Lab) -> None:
    assert lab.run(boom, x=1).status == "failed"


def test_on_error_continue_gives_none_and_fallback_gives_its_answer(lab: dx.Lab) -> None:
    went_on = lab.run(dx.pipeline("p", broken=dx.step(boom, on_error="continue"), seen=lambda broken: broken is None), x=1)
    assert (went_on.status, went_on.outputs["seen"]) == ("partial", True)
    other = lab.run(
        dx.pipeline(
            "p", broken=dx.step(boom, on_error="fallback", fallback=lambda x: {"broken": -x}), seen=lambda broken: broken
        ),
        x=1,
    )
    assert (other.status, other.outputs["seen"], other.steps["broken"].status) == ("partial", -1, "fallback")


def test_a_fallback_that_fails_is_told_with_the_first_error_as_its_cause(lab: dx.Lab) -> None:
    def worse(x: int) -> dict:
        raise KeyError("worse")

    result = lab.run(dx.pipeline("p", broken=dx.step(boom, on_error="fallback", fallback=worse)), x=1)
    assert result.status == "failed"
    assert isinstance(result.error, KeyError)
    assert isinstance(result.error.__cause__, ValueError)


def test_siblings_run_at_the_same_time(lab: dx.Lab) -> None:
    meeting = threading.Barrier(2, timeout=30)

    def left(x: int) -> int:
        return meeting.wait() and x

    def right(x: int) -> int:
        return meeting.wait() and x

    assert lab.run(dx.pipeline("p", left=left, right=right), x=1).status == "complete"


def test_a_step_starts_when_its_inputs_are_there_without_waiting_for_siblings(lab: dx.Lab) -> None:
    after_fast = threading.Event()

    def slow(x: int) -> bool:
        return after_fast.wait(30)

    def fast(x: int) -> int:
        return x

    def next_of_fast(fast: int) -> int:
        after_fast.set()
        return fast

    assert lab.run(dx.pipeline("p", slow=slow, fast=fast, next_of_fast=next_of_fast), x=1).outputs["slow"] is True


def test_async_steps_and_arun_work_from_the_callers_loop(lab: dx.Lab) -> None:
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    async def main() -> list[int]:
        results = await asyncio.gather(*(lab.arun(dx.pipeline("p", y=later), x=i) for i in range(3)))
        return [r["y"] for r in results]

    assert asyncio.run(main()) == [1, 2, 3]


def test_a_timeout_and_a_deadline_end_the_step_by_name(lab: dx.Lab) -> None:
    begun = threading.Event()

    async def endless(x: int) -> int:
        begun.set()
        await asyncio.Event().wait()
        return x

    async def until_the_deadline() -> dx.Result:
        begun.clear()
        stop_until(begun.is_set)
        return await lab.arun(dx.pipeline("p", y=endless), {"x": 1}, options=dx.RunOptions(deadline=60))

    result = lab.run(dx.pipeline("p", y=dx.step(endless, timeout=0.05)), x=1)
    assert "did not finish within its timeout" in str(result.error)
    assert "what was left of the deadline" in str(asyncio.run(until_the_deadline()).error)


def test_cancelling_arun_cancels_the_run_and_records_it(lab: dx.Lab) -> None:
    started, stopped = threading.Event(), threading.Event()

    async def endless(x: int) -> int:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return x

    async def main() -> None:
        work = asyncio.create_task(lab.arun(dx.pipeline("p", y=endless), x=1))
        await asyncio.to_thread(started.wait, 30)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())
    assert stopped.wait(30)
    deadline = time.monotonic() + 30
    while (found := lab.sql("SELECT status FROM runs")).empty:
        assert time.monotonic() < deadline, "the cancelled run was not recorded"
    assert found["status"][0] == "cancelled"


def test_a_wrong_value_between_steps_is_refused_before_the_model_is_called(lab: dx.Lab) -> None:
    lm = scripted_lm([{"answer": "42"}])
    lab.use(lm)
    result = lab.run(dx.pipeline("p", question=lambda x: x, ask=dspy.Predict("question: str -> answer")), x=5)
    assert result.steps["ask"].status == "failed"
    assert isinstance(result.error, dx.SignatureError)
    assert "question" in str(result.error)
    assert lab.sql("SELECT count(*) AS n FROM lm_calls")["n"][0] == 0


def test_an_answer_outside_its_range_fails_the_step(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"urgency": "7.0"}]))
    result = lab.predict("text -> urgency: float[0..1]", text="x")
    assert result.status == "failed"
    assert "urgency" in str(result.error)


def test_unknown_names_and_closed_labs_are_told(lab: dx.Lab) -> None:
    lab.pipelines["support"] = dx.pipeline("support", y=double)
    assert lab.run("support", x=1)["y"] == 2
    with pytest.raises(dx.ConfigurationError, match="Did you mean 'support'"):
        lab.run("suport", x=1)
    with pytest.raises(dx.PipelineError, match="which cannot be run"):
        lab.run(42)
    lab.close()
    lab.close()
    with pytest.raises(dx.ConfigurationError, match="closed"):
        lab.run(double, x=1)


def test_the_budget_refuses_the_call_that_would_come_after_it(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"answer": "42"}]))
    result = lab.run("question -> answer", {"question": "?"}, options=dx.RunOptions(budget="0 calls"))
    assert isinstance(result.error, dx.BudgetExceeded)
    assert lab.sql("SELECT count(*) AS n FROM lm_calls")["n"][0] == 0


def test_options_are_kept_with_the_run(lab: dx.Lab) -> None:
    lab.run(double, {"x": 1}, options=dx.RunOptions(session="s1", tags=("a", "b")))
    run = lab.sql("SELECT session, tags FROM runs").iloc[0]
    assert run["session"] == "s1"
    assert list(run["tags"]) == ["a", "b"]


def test_the_context_of_the_caller_reaches_the_steps(lab: dx.Lab) -> None:
    mine = scripted_lm([{"answer": "mine"}])
    with dspy.context(lm=mine):
        assert lab.run("question -> answer", question="?")["answer"] == "mine"
    with lab.context(mine) as chosen:
        assert chosen is mine
        assert dspy.Predict("question -> answer")(question="?").answer == "mine"


def test_waiting_on_the_labs_own_loop_is_refused_instead_of_hanging(lab: dx.Lab) -> None:
    async def nested(x: int) -> int:
        return lab.run(double, x=x)["double"]

    assert "arun" in str(lab.run(nested, x=1).error)

    async def right(x: int) -> int:
        return (await lab.arun(double, x=x))["double"]

    assert lab.run(right, x=1)["right"] == 2


def test_a_result_shows_shortly_however_large_it_is(lab: dx.Lab) -> None:
    result = lab.run(lambda x: "A" * 1_000_000, x=1)
    assert len(repr(result)) < 400
    assert len(repr(result.steps)) < 400
    assert len(result._repr_html_()) < 2000


def test_a_function_is_held_to_the_type_it_declares(lab: dx.Lab) -> None:
    def count(x: int) -> int:
        return "many"  # type: ignore[return-value]

    error = lab.run(count, x=1).error
    assert "gave a field 'count' that is not of its declared type: expected int, found 'many' (str)" in str(error)
