"""What a step may raise, what limits it, what a failure takes with it, and what is said of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import stamina
from clocks import stop_until
from engine_helpers import alone, check, double, double_at_once, message_of, statuses
from pipeline_limits import LONG, in_time

import dspex_lab as dx
from dspex_lab.pipelines import Shape, StepField, _execution


class Odd(BaseException):
    """Neither an error nor an exit."""


# --- what a step may raise -------------------------------------------------------------------------------------------------


def first_of(n: int) -> int:
    return next(i for i in [] if i == n)


@pytest.mark.parametrize("beside", [{}, {"fine": double}], ids=["thread", "loop"])
def test_a_function_that_raises_stop_iteration_has_failed(lab: dx.Lab, beside: dict[str, Any]) -> None:
    result = in_time(lambda: lab.run(dx.pipeline("p", y=first_of, **beside), n=1))
    assert result.steps["y"].status == "failed"
    assert isinstance(result.steps["y"].error, RuntimeError)
    assert isinstance(result.steps["y"].error.__cause__, StopIteration)
    assert "raised StopIteration" in result.steps["y"].why


@pytest.mark.parametrize("order", [["odd", "waits"], ["waits", "odd"], ["at_once", "waits", "odd"]])
def test_what_ends_the_run_ends_the_branches_too(lab: dx.Lab, order: list[str]) -> None:
    stopped = []

    async def odd(n: int) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        raise Odd("odd")

    async def waits(n: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(n)
        return n

    steps = {"odd": odd, "waits": waits, "at_once": double_at_once}

    async def work() -> None:
        with pytest.raises(Odd):
            await lab.arun(dx.pipeline("p", **{n: steps[n] for n in order}, after=lambda odd: odd), n=1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0, "the caller was not cancelled"

    alone(work)
    assert stopped == [1]
    assert lab.last_result is not None
    ended = {"odd": "cancelled", "waits": "cancelled", "at_once": "complete"}
    assert statuses(lab.last_result) == {n: ended[n] for n in order}


def test_a_cancellation_in_a_fallback_is_a_failure_of_the_step(lab: dx.Lab) -> None:
    async def gives_up(n: int) -> int:
        raise asyncio.CancelledError("of its own")

    made = dx.pipeline("p", y=dx.step(lambda n: 1 / 0, on_error="fallback", fallback=gives_up), fine=double)
    result = lab.run(made, n=1)
    assert statuses(result) == {"y": "failed", "fine": "complete"}
    assert isinstance(result.error, asyncio.CancelledError)
    assert isinstance(result.error.__cause__, ZeroDivisionError)


def test_a_run_stopped_in_a_fallback_tells_of_the_step(lab: dx.Lab) -> None:
    reached = asyncio.Event()

    async def slow(n: int) -> int:
        reached.set()
        await asyncio.Event().wait()
        return n

    async def work() -> None:
        task = asyncio.create_task(
            lab.arun(dx.pipeline("p", y=dx.step(lambda n: 1 / 0, on_error="fallback", fallback=slow)), n=1)
        )
        await reached.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    alone(work)
    assert list(lab.sql("SELECT status FROM spans WHERE name = 'y'")["status"]) == ["cancelled"]


# --- deadline, timeout, retries --------------------------------------------------------------------------------------------


def test_the_deadline_reaches_runs_that_steps_begin(lab: dx.Lab) -> None:
    begun: list[int] = []
    recorded = threading.Event()

    async def endless(n: int) -> int:
        begun.append(n)
        await asyncio.Event().wait()
        return n

    async def clock() -> None:
        stop_until(lambda: begun)

    inner = dx.pipeline("inner", y=endless)

    def outer(n: int) -> str:
        result = lab.run(inner, n=n)
        return f"{result.status}: {result.error}"

    made = dx.pipeline("p", said=outer, beside=double)
    lab.bus.subscribe(lambda r: recorded.set() if getattr(r, "kind", None) == "nested" else None, live=False)
    lab._loop.run(clock())
    in_time(lambda: lab.run(made, {"n": 1}, options=dx.RunOptions(deadline=600)))
    assert recorded.wait(LONG), "the run around it may end first"
    [nested] = lab.sql("SELECT status, error, seconds FROM runs WHERE kind = 'nested'").to_dict("records")
    assert nested["status"] == "failed"
    assert "what was left of the deadline" in nested["error"]


def test_a_fallback_is_held_to_the_deadline(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_execution, "_GRACE", 600.0)
    begun: list[int] = []
    ended: list[str] = []

    async def endless(n: int) -> int:
        await asyncio.Event().wait()
        return n

    async def endless_too(n: int) -> int:
        begun.append(n)
        return await endless(n)

    def quick(n: int) -> int:
        return -n

    async def clock() -> None:
        # The grace is over when one fallback has ended, and the other one never will.
        loop = asyncio.get_running_loop()
        real = loop.time
        loop.time = lambda: real() + (3_600 if begun and "b" in ended else 0)  # type: ignore[method-assign]

    lab.bus.subscribe(lambda r: ended.append(r.name) if getattr(r, "kind", None) == "step" else None, live=False)
    lab._loop.run(clock())
    slow = dx.step(endless, on_error="fallback", fallback=endless_too)
    fine = dx.step(endless, on_error="fallback", fallback=quick)
    result = in_time(lambda: lab.run(dx.pipeline("p", a=slow, b=fine), {"n": 1}, options=dx.RunOptions(deadline=0.05)))
    assert statuses(result) == {"a": "failed", "b": "fallback"}
    assert "The fallback of step 'a' did not finish" in str(result.steps["a"].error)
    assert result.outputs == {"b": -1}


def test_only_the_last_try_is_told(lab: dx.Lab) -> None:
    tries = iter([True, False])

    def first(n: int) -> int:
        return n

    def second(first: int) -> int:
        if next(tries):
            raise OSError("gone")
        return first

    inner = dx.pipeline("inner", first=dx.step(first, outputs=["kept"]), second=lambda kept: second(kept))
    with stamina.set_testing(True, attempts=9, cap=True):
        result = lab.run(dx.pipeline("p", y=dx.step(inner, retries=3, idempotent=True)), n=1)
    assert result.status == "complete", result.error
    assert [o.status for o in result.steps["y"].parts.values()] == ["complete", "complete"]
    spans = lab.sql("SELECT name, status FROM spans WHERE name = 'y.second' ORDER BY started")
    assert list(spans["status"]) == ["failed", "complete"], "each try was recorded"


# --- what a failure takes with it ------------------------------------------------------------------------------------------


def hide(text: str) -> str:
    raise ValueError("cannot hide")


REDACTED = dx.pipeline(
    "clean", text=dx.step(lambda raw: raw.strip(), outputs=["text"]), hidden=dx.step(hide, outputs=["text"], replaces=True)
)


def test_an_earlier_version_does_not_stand_in_for_the_one_that_failed(lab: dx.Lab) -> None:
    alone_ = lab.run(REDACTED, raw=" secret ")
    assert (alone_.status, alone_.outputs) == ("partial", {})
    assert alone_.steps["text"].outputs == {"text": "secret"}, "it is not lost"
    nested = lab.run(dx.pipeline("p", clean=REDACTED, use=lambda text: f"said {text}"), raw=" secret ")
    assert (nested.status, nested.outputs) == ("failed", {})
    assert statuses(nested) == {"clean": "failed", "use": "skipped"}
    with pytest.raises(dx.PipelineError, match="cannot hide"):
        REDACTED.as_module(lab)(raw=" secret ")


def test_an_answer_that_was_not_accepted_goes_no_further(lab: dx.Lab) -> None:
    checked = check(double, "y > 5")
    result = lab.run(dx.pipeline("p", y=checked, z=lambda y: y), n=1)
    assert (result.status, result.outputs, statuses(result)) == ("failed", {}, {"y": "failed", "z": "skipped"})
    going_on = lab.run(dx.pipeline("p", y=dx.step(checked, on_error="continue"), z=lambda y: y), n=1)
    assert (going_on.status, going_on.outputs) == ("partial", {"z": None})


def test_a_suggestion_whose_next_try_fails_gives_the_answer_before(lab: dx.Lab) -> None:
    answers: Iterator[Any] = iter([3, OSError("gone")])

    def guess(n: int) -> int:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    result = lab.run(dx.pipeline("p", y=dx.suggest(guess, "y > 5", attempts=4)), n=1)
    assert (result.status, result.outputs, statuses(result)) == ("partial", {"y": 3}, {"y": "partial"})
    assert [o.status for o in result.steps["y"].parts.values()] == ["complete", "failed"]


def test_a_round_that_gives_up_gives_none(lab: dx.Lab) -> None:
    inner = dx.step(lambda n: 1 / 0, on_error="continue")
    result = lab.run(dx.pipeline("p", y=dx.loop(inner, until=lambda y: y is None)), n=1)
    assert (result.status, result.outputs) == ("partial", {"y": None})
    asked = lab.run(dx.pipeline("p", y=dx.loop(double, until=lambda y: 1 / 0), z=lambda y: y), n=1)
    assert (asked.outputs, statuses(asked)) == ({}, {"y": "failed", "z": "skipped"})
    assert asked.steps["y"].parts["round[0]"].outputs == {"y": 2}


def test_a_run_of_which_something_came_is_partial(lab: dx.Lab) -> None:
    result = lab.run(dx.pipeline("p", n=dx.pipeline("inner", a=lambda x: x, b=lambda x: 1 / 0)), x=1)
    assert (result.status, result.outputs, statuses(result)) == ("partial", {"a": 1}, {"n": "failed"})


def test_a_fallback_that_fails_does_not_take_what_came(lab: dx.Lab) -> None:
    inner = dx.pipeline("inner", a=lambda x: x, b=lambda x: 1 / 0)
    made = dx.pipeline("p", n=dx.step(inner, on_error="fallback", fallback=hide), after=lambda a: a + 1)
    result = lab.run(made, x=1)
    assert (result.status, result.outputs, statuses(result)) == (
        "partial",
        {"a": 1, "after": 2},
        {"n": "failed", "after": "complete"},
    )


def test_an_item_may_see_the_whole_list(lab: dx.Lab) -> None:
    def rank(item: int, items: list) -> int:
        return sorted(items).index(item)

    assert lab.run(dx.pipeline("p", ranks=dx.each("items", rank, item="item")), items=[30, 10, 20]).outputs == {
        "ranks": [2, 0, 1]
    }
    loose = dx.each("items", lambda item, items: sorted(items).index(item), item="item")
    result = lab.run(dx.pipeline("p", ranks=loose), {"items": iter([3, 1])})
    assert result.outputs == {"ranks": [1, 0]}, result.error


class Silent(dx.Kind):
    """Gives less than it says."""

    name = "silent_edges"

    def accepts(self, target: Any) -> bool:
        return target == "silent"

    def shape(self, name: str, item: Any) -> Shape:
        return Shape({"n": StepField("n")}, {name: StepField(name), "other": StepField("other")})

    async def run(self, work: Any, item: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        given: Any = {"odd": 3, "full": {work.name: 1, "other": 2}, "short": {work.name: 1}}[inputs["n"]]
        return given  # type: ignore[no-any-return]


def test_a_kind_that_gives_less_than_it_says_has_failed(lab: dx.Lab) -> None:
    dx.step_kind(Silent)
    made = dx.pipeline("p", y="silent", z=lambda other: other)
    assert lab.run(made, n="full").outputs == {"y": 1, "other": 2, "z": 2}
    short = lab.run(made, n="short")
    assert statuses(short) == {"y": "failed", "z": "skipped"}
    assert "gave no 'other'" in str(short.error)
    assert statuses(lab.run(made, n="odd")) == {"y": "failed", "z": "skipped"}


# --- what is said of a failure ---------------------------------------------------------------------------------------------


def test_a_failure_deep_inside_is_named_once(lab: dx.Lab) -> None:
    low = dx.pipeline("low", bad=lambda n: 1 / 0)
    result = lab.run(dx.pipeline("p", top=dx.when("n > 0", dx.pipeline("mid", low=low))), n=1)
    assert message_of(result) == "ended failed: Step 'top.then.low.bad' failed: ZeroDivisionError: division by zero"

    def text(n: int) -> int:
        return "text"  # type: ignore[return-value]

    hint = "Correct the function, or the type it declares."
    inner = dx.pipeline("inner", z=text)
    for made in (inner, dx.pipeline("p", y=inner), dx.pipeline("p", y=dx.pipeline("q", x=inner))):
        assert message_of(lab.run(made, n=1)).count(hint) == 1
    each = dx.pipeline("p", y=dx.each("ns", text, item="n"))
    assert message_of(lab.run(each, ns=[1])).count("on_error='continue'") == 1
    direct = message_of(lab.run(dx.pipeline("p", y=text), n=1))
    assert direct.startswith("ended failed: Step 'y' gave a field 'y' that is not of its declared type")
    assert direct.count(hint) == 1


def test_a_run_that_is_partial_without_an_error_says_why(lab: dx.Lab) -> None:
    said = message_of(lab.run(dx.pipeline("p", y=dx.suggest(double, "y > 5", "Too small.")), n=1))
    assert said == "ended partial: step 'y' gave less than wanted: Too small. (asked 2 times)"
