"""Whose calls these are: each LM call belongs to the step and run that made it, whatever the thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import dspy
import pytest
from engine_helpers import alone, double

import dspex_lab as dx
from dspex_lab.pipelines._context import enclosing
from dspex_lab.testing import scripted_lm

# --- whose calls these are -------------------------------------------------------------------------------------------------


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
    result = lab.run(dx.pipeline("p", y=steps[make]), {"n": "1"}, options=dx.RunOptions(budget="0 calls"))
    assert result.status == "failed"
    assert "budget" in str(result.error)
    assert calls(lab) == []
