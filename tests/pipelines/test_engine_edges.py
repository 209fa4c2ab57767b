"""Corners of the engine: what is stopped, whose calls these are, what a step may be, and what a failure takes with it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import functools
import gc
import inspect
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cloudpickle
import dspy
import pytest
import stamina

import dspex_lab as dx
from dspex_lab.pipelines import Shape, StepField, _execution, pipeline_from_source
from dspex_lab.pipelines._context import enclosing
from dspex_lab.testing import scripted_lm

LONG = 60.0


class Odd(BaseException):
    """Neither an error nor an exit."""


def in_time(work: Callable[[], Any]) -> Any:
    """Return what ``work`` gives, or fail where it hangs."""
    found: list[Any] = []

    def carry_out() -> None:
        try:
            found.append((work(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=carry_out, daemon=True)
    thread.start()
    thread.join(LONG)
    assert found, "it hangs"
    if found[0][1] is not None:
        raise found[0][1]
    return found[0][0]


def alone(work: Callable[[], Any]) -> Any:
    """Run a coroutine on a loop of its own, and hold that it leaves no task and no complaint behind."""
    complaints: list[Any] = []

    async def go() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: complaints.append(about))
        try:
            return await work()
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}
            gc.collect()

    try:
        return in_time(lambda: asyncio.run(go()))
    finally:
        gc.collect()
        assert not complaints


check = dx.assert_


def double(n: int) -> int:
    return n * 2


async def double_at_once(n: int) -> int:
    return n * 2


@pytest.fixture(scope="module")
def shared() -> Iterator[dx.Lab]:
    """A Lab for what asks nothing of the store."""
    with dx.Lab(":memory:") as made:
        yield made


def statuses(result: dx.Result) -> dict[str, str]:
    return {n: o.status for n, o in result.steps.items()}


# --- what a step may raise ----------------------------------------------------------------------------------------------


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


# --- stopping -----------------------------------------------------------------------------------------------------------


def test_a_step_that_ignores_its_end_lets_nothing_begin_after_it(lab: dx.Lab) -> None:
    reached, begun = asyncio.Event(), []

    async def stubborn(n: int) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return n
        return 0

    async def waits(n: int) -> int:
        reached.set()
        await asyncio.Event().wait()
        return n

    async def after(stubborn: int) -> int:
        begun.append(stubborn)
        return stubborn

    made = dx.pipeline("p", waits=waits, stubborn=stubborn, after=after, too=lambda stubborn: begun.append(stubborn))

    async def work() -> None:
        task = asyncio.create_task(lab.arun(made, n=1))
        await reached.wait()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    alone(work)
    assert begun == []
    assert lab.last_result is not None
    assert statuses(lab.last_result) == {"waits": "cancelled", "stubborn": "complete"}


def nest(inner: Any) -> dict[str, Any]:
    """Return each way in which a step may be in another."""
    return {
        "each": dx.each("ns", inner, item="n", concurrency=3),
        "parallel": dx.parallel(one=inner, other=double_at_once),
        "pipeline": dx.pipeline("inner", quick=double_at_once, slow=inner),
        "when": dx.when("n > 0", inner),
        "loop": dx.loop(inner, until="loop > 0"),
        "assert": check(inner, lambda n: True),
    }


@pytest.mark.parametrize("kind", ["each", "parallel", "pipeline", "when", "loop", "assert"])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_what_is_stopped_inside_is_stopped_whole(shared: dx.Lab, kind: str, how: str) -> None:
    reached, ended = asyncio.Event(), []

    async def endless(n: int) -> int:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(n)
        return n

    step = nest(endless)[kind]
    made = dx.pipeline("p", **{kind: dx.step(step, timeout=0.05) if how == "timeout" else step}, beside=double)
    given = {"n": 1, "ns": [1, 2, 3]}
    given = {n: v for n, v in given.items() if n in made.inputs}
    many = 3 if kind == "each" else 1

    async def work() -> None:
        task = asyncio.create_task(shared.arun(made, given if "n" in given else {**given, "n": 1}))
        if how == "cancel":
            await reached.wait()
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == (how == "cancel")

    alone(work)
    assert len(ended) == many
    result = shared.last_result
    assert result is not None
    outer = result.steps[kind]
    assert outer.status == ("cancelled" if how == "cancel" else "failed")
    assert [o.status for o in outer.parts.values()].count("cancelled") == many
    spans = shared.sql("SELECT name, status FROM spans WHERE run_id = ? AND name LIKE '%.%'", [result.run_id])
    assert list(spans["status"]).count("cancelled") == many


def test_a_run_stopped_before_its_last_step_began_is_not_complete(lab: dx.Lab) -> None:
    async def at_once(n: int) -> int:
        return n

    async def work() -> None:
        me, task = asyncio.current_task(), asyncio.create_task(lab.arun(dx.pipeline("p", a=at_once, b=at_once), n=1))
        # As a Lab that is closed does: before the second branch had its first turn.
        asyncio.get_running_loop().call_soon(lambda: [t.cancel() for t in asyncio.all_tasks() if t is not me])
        await asyncio.wait([task])
        assert task.cancelled()

    alone(work)
    result = lab.last_result
    assert result is not None
    assert (result.status, result.cancelled, result.outputs) == ("partial", True, {"a": 1})
    assert message_of(result) == "ended partial: it was stopped. Kept: the outputs of 'a'."


@pytest.mark.parametrize("names", ["y", "yz"], ids=["sequential", "branches"])
def test_a_run_given_up_with_its_loop_is_recorded(lab: dx.Lab, names: str) -> None:
    async def endless(n: int) -> int:
        reached.set()
        await asyncio.Event().wait()
        return n

    async def begin() -> None:
        task: Any = asyncio.ensure_future(lab.arun(dx.pipeline("p", **dict.fromkeys(names, endless)), n=1))
        task._log_destroy_pending = False
        await reached.wait()
        await asyncio.sleep(0)

    reached, loop = asyncio.Event(), asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    gc.collect()
    assert list(lab.sql("SELECT status FROM runs")["status"]) == ["cancelled"]
    assert enclosing(lab.id) is None


# --- deadline, timeout, retries -------------------------------------------------------------------------------------------


def test_the_deadline_reaches_runs_that_steps_begin(lab: dx.Lab) -> None:
    async def endless(n: int) -> int:
        await asyncio.Event().wait()
        return n

    inner = dx.pipeline("inner", y=endless)

    def outer(n: int) -> str:
        result = lab.run(inner, n=n)
        return f"{result.status}: {result.error}"

    made = dx.pipeline("p", said=outer, beside=double)
    in_time(lambda: lab.run(made, {"n": 1}, options=dx.RunOptions(deadline=0.2)))
    [nested] = lab.sql("SELECT status, error, seconds FROM runs WHERE kind = 'nested'").to_dict("records")
    assert nested["status"] == "failed"
    assert "what was left of the deadline" in nested["error"]


def test_a_fallback_is_held_to_the_deadline(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_execution, "_GRACE", 0.05)

    async def endless(n: int) -> int:
        await asyncio.Event().wait()
        return n

    def quick(n: int) -> int:
        return -n

    slow = dx.step(endless, on_error="fallback", fallback=endless)
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


# --- what a failure takes with it ---------------------------------------------------------------------------------------


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


# --- what is said of a failure --------------------------------------------------------------------------------------------


def message_of(result: dx.Result) -> str:
    with pytest.raises(dx.PipelineError) as caught:
        result.raise_for_status()
    return str(caught.value).removeprefix(f"Run {result.run_id} ")


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


# --- whose calls these are ------------------------------------------------------------------------------------------------


def ask(question: str) -> str:
    answer: str = dspy.settings.lm(question)[0]
    return answer


def ask_in_dspys_threads(questions: list[str]) -> list[str]:
    found = dspy.Parallel(num_threads=2, disable_progress_bar=True)([(ask, {"question": q}) for q in questions])
    return list(found)


@pytest.fixture
def models(lab: dx.Lab) -> tuple[Any, Any]:
    return lab.use(scripted_lm("from the lab's")), scripted_lm("from its own")


def calls(lab: dx.Lab) -> list[tuple[str, str]]:
    found = lab.sql("SELECT step, outputs FROM lm_calls ORDER BY started")
    return [(r["step"], json.loads(r["outputs"])[0]) for r in found.to_dict("records")]


def test_a_quick_step_after_others_has_its_own_calls_and_model(lab: dx.Lab, models: tuple[Any, Any]) -> None:
    async def quick(slow: str) -> str:
        return ask("q")

    async def broken(quick: str) -> str:
        raise ValueError("no")

    async def last(broken: str) -> str:
        return ask("q")

    def slow(n: int) -> str:
        return ask("s")

    rescued = dx.step(broken, on_error="fallback", fallback=lambda quick: ask("f"))
    made = dx.pipeline("p", slow=dx.step(slow, lm=models[1]), quick=quick, broken=rescued, last=last)
    assert made.quick == (False, True, True, True)
    result = lab.run(made, n=1)
    assert result.outputs == {
        "slow": "from its own",
        "quick": "from the lab's",
        "broken": "from the lab's",
        "last": "from the lab's",
    }, result.error
    assert [step for step, _ in calls(lab)] == ["slow", "quick", "broken", "last"]


def test_calls_of_steps_at_the_same_time_belong_to_each(lab: dx.Lab, models: tuple[Any, Any]) -> None:
    gate = asyncio.Barrier(3)

    async def one(n: int) -> list[str]:
        await gate.wait()
        first = ask("1")
        await gate.wait()
        return [first, ask("1")]

    async def two(n: int) -> list[str]:
        await gate.wait()
        found = (await dspy.settings.lm.acall("2"))[0]
        await gate.wait()
        return [found, await asyncio.to_thread(ask, "2")]

    async def three(n: int) -> list[str]:
        await gate.wait()
        await gate.wait()
        return ask_in_dspys_threads(["3", "3"])

    made = dx.pipeline("p", one=one, two=two, three=three, sync=lambda n: ask("s"))

    async def work() -> dx.Result:
        return await lab.arun(made, n=1)

    result = alone(work)
    assert result.status == "complete", result.error
    told = sorted(step if isinstance(step, str) else "" for step, _ in calls(lab))
    # A step that names DSPy is known in DSPy's own threads too; what hides it behind a function is known to the run.
    assert told == ["", "", "one", "one", "sync", "two", "two"]
    assert set(lab.sql("SELECT run_id FROM lm_calls")["run_id"]) == {result.run_id}


def test_a_step_that_names_dspy_is_known_in_its_threads(lab: dx.Lab, models: tuple[Any, Any]) -> None:
    async def three(n: int) -> list[str]:
        found = dspy.Parallel(num_threads=2, disable_progress_bar=True)([(ask, {"question": q}) for q in "ab"])
        return list(found)

    async def other(n: int) -> int:
        return n

    made = dx.pipeline("p", three=three, other=other)
    assert made.quick == (False, True)
    assert lab.run(made, n=1).status == "complete"
    assert [step for step, _ in calls(lab)] == ["three", "three"]


def test_a_lab_within_another_keeps_to_itself(lab: dx.Lab, models: tuple[Any, Any]) -> None:
    with dx.Lab(":memory:") as other:
        other.use(scripted_lm("from the other"))
        inner = dx.pipeline("inner", y=lambda n: ask("i"))

        async def outer(n: int) -> list[str]:
            return [ask("1"), (await other.arun(inner, n=n)).outputs["y"], ask("2")]

        result = lab.run(dx.pipeline("p", said=outer), n=1)
        assert result.outputs == {"said": ["from the lab's", "from the other", "from the lab's"]}
        assert calls(lab) == [("said", "from the lab's")] * 2
        assert calls(other) == [("y", "from the other")]
        assert list(other.sql("SELECT kind FROM runs")["kind"]) == ["run"]


@pytest.mark.parametrize("ending", ["complete", "failed", "cancelled"])
def test_what_was_around_a_run_is_there_after_it(lab: dx.Lab, models: tuple[Any, Any], ending: str) -> None:
    from dspy.dsp.utils.settings import thread_local_overrides

    reached = asyncio.Event()

    async def quick(n: int) -> int:
        ask("q")
        if ending == "failed":
            raise ValueError("no")
        if ending == "cancelled":
            reached.set()
            await asyncio.Event().wait()
        return n

    made = dx.pipeline("p", slow=lambda n: n, quick=quick, nested=dx.pipeline("i", deep=quick))

    async def seen() -> Any:
        before = thread_local_overrides.get(), enclosing(lab.id)
        with contextlib.suppress(asyncio.CancelledError):
            await lab.arun(made, n=1)
        assert (thread_local_overrides.get(), enclosing(lab.id)) == before
        assert thread_local_overrides.get() is before[0]
        return before[1]

    async def work() -> None:
        with dspy.context(adapter=dspy.JSONAdapter(), mark="mine"):
            task = asyncio.create_task(seen())
            if ending == "cancelled":
                await reached.wait()
                task.cancel()
            assert await task is None
            assert dspy.settings.mark == "mine"

    alone(work)

    async def within(n: int) -> bool:
        before = dspy.settings.lm, enclosing(lab.id)
        await lab.arun(dx.pipeline("inner", a=double, b=lambda a: ask("x")), n=1)
        return (dspy.settings.lm, enclosing(lab.id)) == before

    assert lab.run(dx.pipeline("p", same=within, beside=double), n=1).outputs["same"] is True


def test_a_run_in_dspys_own_thread_belongs_to_the_step(lab: dx.Lab, models: tuple[Any, Any]) -> None:
    inner = dx.pipeline("inner", y=lambda n: ask("i"))

    def many(n: int) -> list[str]:
        found = dspy.Parallel(num_threads=2, disable_progress_bar=True)([(run_one, {"n": i}) for i in range(2)])
        return list(found)

    def run_one(n: int) -> str:
        answer: str = lab.run(inner, n=n).outputs["y"]
        return answer

    result = lab.run(dx.pipeline("p", said=many), n=1)
    assert result.status == "complete", result.error
    nested = lab.sql("SELECT parent_id FROM runs WHERE kind = 'nested'")
    assert list(nested["parent_id"]) == [result.run_id] * 2
    assert [step for step, _ in calls(lab)] == ["y", "y"]


@pytest.mark.parametrize("make", ["quick", "sync", "nested", "dspy"])
def test_the_budget_holds_in_every_kind_of_step(lab: dx.Lab, make: str) -> None:
    lab.use(scripted_lm({"y": "words"}))

    async def quick(n: str) -> str:
        return ask("q")

    steps = {
        "quick": quick,
        "sync": lambda n: ask("s"),
        "nested": lambda n: lab.run(lambda n: ask("s"), n=n).raise_for_status().outputs,
        "dspy": dspy.Predict("n -> y"),
    }
    result = lab.run(dx.pipeline("p", y=steps[make]), {"n": "1"}, options=dx.RunOptions(budget=0.0))
    assert result.status == "failed"
    assert "budget" in str(result.error)
    assert calls(lab) == []


# --- what a step may be -------------------------------------------------------------------------------------------------


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, n: Any) -> Any:
        return n


class AsyncCall:
    async def __call__(self, n: int) -> int:
        return n + 1

    async def acall(self, n: int) -> int:
        raise AssertionError("it is called as it is")


class Methods:
    def sync(self, n: int) -> int:
        return n

    async def later(self, n: int) -> int:
        return n


def promised(n: int) -> Any:
    async def later() -> int:
        return n + 1

    return later()


CALLABLES: dict[str, tuple[Any, Any]] = {
    "unhashable": (Unhashable(), 1),
    "cached unhashable": (dx.step(Unhashable(), cache=True), 1),
    "async call": (AsyncCall(), 2),
    "bound": (Methods().sync, 1),
    "async bound": (Methods().later, 1),
    "partial": (functools.partial(lambda n, k: n + k, k=2), 3),
    "positional partial": (functools.partial(lambda k, n: n + k, 2), 3),
    "partial of async": (functools.partial(Methods().later), 1),
    "awaitable": (promised, 2),
}


@pytest.mark.parametrize("name", CALLABLES)
@pytest.mark.parametrize("beside", [{}, {"fine": double}], ids=["thread", "loop"])
def test_all_that_can_be_called_is_a_step(shared: dx.Lab, name: str, beside: dict[str, Any]) -> None:
    target, wanted = CALLABLES[name]
    result = shared.run(dx.pipeline("p", y=target, **beside), n=1)
    assert result.status == "complete", result.error
    assert result.outputs["y"] == wanted


def test_like_requests_to_what_has_no_hash_are_put_together(lab: dx.Lab) -> None:
    batched = dx.step(Unhashable(), batch=dx.Batch(size=3))
    result = lab.run(dx.pipeline("p", y=dx.each("ns", batched, item="n")), ns=[1, 2, 3])
    assert result.outputs == {"y": [1, 2, 3]}, result.error


class Yields:
    def __call__(self, n: int) -> Iterator[int]:
        yield n


def a_generator(n: int) -> Iterator[int]:
    yield n


async def an_async_generator(n: int) -> Any:
    yield n


@pytest.mark.parametrize("target", [a_generator, an_async_generator, functools.partial(a_generator), Yields()])
def test_a_generator_is_refused_by_the_name_of_its_step(target: Any) -> None:
    for made in (lambda: dx.pipeline("p", tokens=target), lambda: dx.pipeline("p", tokens=dx.step(target, kind="native"))):
        with pytest.raises(dx.PipelineError, match=r"Step 'tokens': .* is a generator"):
            made()


@pytest.mark.parametrize("target", [max, len, print, dict.get])
def test_builtins_without_names_say_so(target: Any) -> None:
    with pytest.raises(dx.PipelineError, match="Step 'y'"):
        dx.pipeline("p", y=target)


@pytest.mark.parametrize("name", ["a.b", "item[0]", "", " ", ".", "]"])
def test_a_name_that_could_be_an_inner_steps_is_refused(name: str) -> None:
    with pytest.raises(dx.PipelineError, match="is no name of a step"):
        dx.pipeline("p", **{name: double})
    with pytest.raises(dx.PipelineError, match="is no name of a step"):
        dx.step(double, name=name)


def test_odd_names_and_those_of_a_pipelines_own_parts_are_fine(lab: dx.Lab) -> None:
    names = ["name", "steps", "inputs", "outputs", "run", "self", "quick", "pipeline", "déjà", "my step", "1"]
    made = dx.pipeline("p", **dict.fromkeys(names, double))
    result = lab.run(made, n=1)
    assert result.outputs == dict.fromkeys(names, 2)
    assert list(result.steps) == names


def test_one_step_may_stand_in_several_places(lab: dx.Lab) -> None:
    once = dx.step(double, cache=True)
    made = dx.pipeline("p", a=once, b=once, many=dx.each("ns", once, item="n"), inner=dx.pipeline("i", c=once))
    assert lab.run(made, n=1, ns=[1, 2]).outputs == {"a": 2, "b": 2, "many": [2, 4], "c": 2}


# --- large, copied and shown --------------------------------------------------------------------------------------------

MANY = 2_000


def passing(name: str) -> Any:
    def function(**fields: Any) -> Any:
        return fields[name]

    function.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)])  # type: ignore[attr-defined]
    return function


def test_a_pipeline_of_thousands_of_steps_is_no_deep_recursion(lab: dx.Lab) -> None:
    chain = {f"s{i}": passing(f"s{i - 1}" if i else "x") for i in range(MANY)}
    for steps in (chain, dict(reversed(chain.items()))):
        made = dx.pipeline("p", **steps)
        assert made.structure.sequential
        assert in_time(lambda made=made: lab.run(made, x=7)).outputs[f"s{MANY - 1}"] == 7
    wide = dx.pipeline("p", **{f"s{i}": passing("x") for i in range(MANY // 10)}, last=lambda s0, s7: s0 + s7)
    assert in_time(lambda: lab.run(wide, x=7)).outputs["last"] == 14


def test_a_circle_of_thousands_is_named() -> None:
    with pytest.raises(dx.PipelineError, match="'s0' needs 's1999' from 's1999'"):
        dx.pipeline("p", **{f"s{i}": passing(f"s{(i - 1) % MANY}") for i in range(MANY)})


def every_kind() -> dx.Pipeline:
    return dx.pipeline(
        "all",
        a=dx.when("x > 0", lambda x: x, lambda x: -x),
        b=dx.each("xs", lambda item: item),
        c=dx.parallel(p=lambda x: x, q=lambda x: x),
        d=dx.loop(lambda x: x + 1, until="d > 0"),
        e=check(lambda x: x, "e > 0"),
        f=dx.pipeline("inner", g=lambda x: x),
        s=dx.suggest(lambda x: x, lambda s: True),
        r=dx.retrieve(lambda query: [query], query="word"),
    )


def test_copies_of_every_kind_run_the_same(lab: dx.Lab) -> None:
    made = every_kind()
    given = {"x": 1, "xs": [1, 2], "word": "w"}
    wanted = lab.run(made, given)
    assert wanted.status == "complete", wanted.error
    assert json.dumps(made.graph())
    assert "<svg" in made.graph().svg()
    for other in (
        dx.pipeline("all", **copy.deepcopy(made.steps)),
        cloudpickle.loads(cloudpickle.dumps(made)),
        dx.pipeline("all", **cloudpickle.loads(cloudpickle.dumps(made.steps))),
    ):
        assert lab.run(other, given).outputs == wanted.outputs
        assert list(other.inputs) == list(made.inputs)


def test_an_optimizers_copy_still_knows_whose_modules_are_whose(lab: dx.Lab) -> None:
    made = dx.pipeline(
        "p",
        r=dx.when("x != ''", dspy.Predict("x -> r"), dspy.Predict("x -> r")),
        e=dx.each("xs", dspy.Predict("x -> e"), item="x"),
        n=dx.pipeline("inner", deep=dx.loop(dspy.Predict("x -> l"), until="l != ''")),
    )
    program = made.as_module(lab).deepcopy()
    names = ["r.then", "r.otherwise", "e.item", "n.deep.round"]
    assert [n for n, _ in program.named_predictors()] == names
    for name, predictor in program.named_predictors():
        predictor.demos = [dspy.Example(x=name, r="1", e="1", l="1")]
    lab.use(scripted_lm(lambda request: {"r": "1", "e": "2", "l": "3"}))
    assert dict(program(x="a", xs=["b"])) == {"r": "1", "e": ["2"], "l": "3"}
    learned = made.with_modules(program).as_module(lab)
    assert [p.demos[0].x for _, p in learned.named_predictors()] == names
    assert all(not p.demos for _, p in made.as_module(lab).named_predictors()), "the pipeline is as it was"


# --- cells --------------------------------------------------------------------------------------------------------------

CELLS = {
    "in an argument of an argument": ("r = when(\n    'a > 1',\n    each('x y',\n         f),\n)", 3, 5),
    "a condition": ("x = f\n\ny = when('a >',\n   f)", 3, 5),
    "a name in a list": ("a = [\n    1,\n    nothing,\n]", 3, 5),
    "a function of the cell": ("def h(v):\n    return each('no name', v)\n\nk = (1,\n  h(f))", 5, 3),
    "in a step": ("a = f\nb = when('x > 1', each('xs', lambda p, q: p))", 2, 1),
    "in an inner pipeline": ("a = f\nb = pipeline('i', k=lambda z: z, z=lambda k: k)", 2, 5),
    "no Python": ("a = f\nreturn a", 2, 1),
    "no step": ("a = f\nb = 3", 2, 1),
}


@pytest.mark.parametrize("name", CELLS)
def test_what_is_wrong_within_a_statement_is_told_by_its_own_line(name: str) -> None:
    source, line, column = CELLS[name]
    known = {"when": dx.when, "each": dx.each, "pipeline": dx.pipeline, "f": lambda item: item}
    with pytest.raises(dx.PipelineError) as caught:
        pipeline_from_source("p", source, known)
    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)


# --- told and kept ------------------------------------------------------------------------------------------------------


def test_one_who_begins_to_watch_in_the_middle_changes_nothing(lab: dx.Lab) -> None:
    seen: list[Any] = []

    async def first(n: int) -> int:
        lab.bus.subscribe(seen.append)
        return n

    async def second(first: int) -> int:
        return first

    result = lab.run(dx.pipeline("p", first=first, second=second, third=lambda second: second), n=1)
    assert result.status == "complete"
    assert [r.name for r in seen if getattr(r, "kind", None) == "step"] == ["first", "second", "third"]
    assert len(lab.sql("SELECT * FROM spans WHERE kind = 'step'")) == 3


def test_a_checkpoint_holds_items_rounds_and_inner_steps(lab: dx.Lab) -> None:
    done: list[str] = []
    broken = True

    def note(what: str) -> None:
        done.append(what)

    def item(n: int) -> int:
        note(f"item {n}")
        return n

    def twice(x: int) -> int:
        note(f"round {x}")
        return x * 2

    def last(total: int) -> int:
        if broken:
            raise OSError("gone")
        return total

    made = dx.pipeline(
        "p",
        items=dx.each("ns", item, item="n"),
        rounds=dx.loop(dx.step(twice, outputs=["x"]), until="x > 4"),
        inner=dx.pipeline("i", total=lambda items, x: sum(items) + x, last=last),
    )
    options = dx.RunOptions(checkpoint="edges")
    assert lab.run(made, {"ns": [1, 2], "x": 1}, options=options).status == "partial"
    assert sorted(done) == ["item 1", "item 2", "round 1", "round 2", "round 4"]
    done.clear()
    broken = False
    result = lab.run(made, {"ns": [1, 2], "x": 1}, options=options)
    assert (result.status, result.outputs["last"], done) == ("complete", 11, [])


def test_a_batch_goes_on_without_a_run_that_was_stopped(lab: dx.Lab) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    seen: list[list[int]] = []

    async def many(n: list[int]) -> list[int]:
        seen.append(list(n))
        begun.set()
        await go_on.wait()
        return [i * 10 for i in n]

    made = dx.pipeline("p", y=dx.step(many, batch=dx.Batch(size=2, window=30)))

    async def work() -> None:
        one, two = (asyncio.create_task(lab.arun(made, n=i)) for i in (1, 2))
        await begun.wait()
        one.cancel()
        await asyncio.wait([one])
        go_on.set()
        assert (await two).outputs == {"y": 20}
        assert one.cancelled()

    alone(work)
    assert seen == [[1, 2]]


def test_a_watched_stream_is_the_run(lab: dx.Lab) -> None:
    seen: list[Any] = []
    lab.bus.subscribe(seen.append)
    made = dx.pipeline("p", a=dx.when("n > 0", double), b=dx.each("ns", double, item="n"))
    events = list(lab.stream(made, n=1, ns=[1, 2]))
    result = events[-1].result
    assert result is not None
    assert result.outputs == {"a": 2, "b": [2, 4]}
    assert [e.step for e in events if e.kind == "step.stop"].count("b.item") == 2
    assert {r.name for r in seen if getattr(r, "kind", None) == "step"} == {"a", "a.then", "b", "b.item"}


def test_a_variable_of_the_callers_context_reaches_every_step(lab: dx.Lab) -> None:
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="none")
    mine.set("set")

    async def quick(n: int) -> str:
        return mine.get()

    made = dx.pipeline("p", a=lambda n: mine.get(), b=quick, c=dx.each("ns", lambda item: mine.get()))
    assert lab.run(made, n=1, ns=[1]).outputs == {"a": "set", "b": "set", "c": ["set"]}
