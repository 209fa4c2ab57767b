"""Steps that fail in unusual ways: the run has a status, the others their outputs, the Lab its life."""

from __future__ import annotations

import asyncio
import threading
from typing import Annotated, Any

import dspy
import pydantic
import pytest
from guard_helpers import closed_under

import dspex_lab as dx
from dspex_lab.router import Implementation
from dspex_lab.testing import scripted_lm


def leave(x: int) -> int:
    raise SystemExit(3)


async def cancel_its_own(x: int) -> int:
    task = asyncio.ensure_future(asyncio.sleep(3600))
    task.cancel()
    return await task


@pytest.mark.parametrize("bad", [leave, cancel_its_own])
def test_an_exit_or_a_cancellation_of_its_own_is_a_failure_of_the_step(lab: dx.Lab, bad: Any) -> None:
    parallel = lab.run(dx.pipeline("p", bad=bad, fine=lambda x: x), x=1)
    assert (parallel.status, parallel.outputs) == ("partial", {"fine": 1})
    alone = lab.run(dx.pipeline("p", bad=bad), x=1)
    assert alone.status == "failed"
    assert list(lab.map(dx.pipeline("p", bad=bad, fine=lambda x: x), [{"x": 1}, {"x": 2}])["status"]) == ["partial"] * 2
    assert lab.run(lambda x: x, x=1).status == "complete", "the Lab lives on"


def test_an_exit_in_a_fallback_is_a_failure_too(lab: dx.Lab) -> None:
    made = dx.pipeline("p", y=dx.step(leave, on_error="fallback", fallback=leave), fine=lambda x: x)
    result = lab.run(made, x=1)
    assert (result.status, result.outputs) == ("partial", {"fine": 1})
    assert lab.run(lambda x: x, x=1).status == "complete"


def test_closing_the_lab_under_a_run_is_told_as_such() -> None:
    lab = dx.Lab(":memory:")
    running = threading.Event()

    async def endless(x: int) -> int:
        running.set()
        await asyncio.Event().wait()
        return x

    pipeline = dx.pipeline("p", y=endless, z=lambda x: x)
    caught = closed_under(lab, lambda: lab.run(pipeline, x=1), lambda: running.wait(30))
    assert isinstance(caught, dx.ConfigurationError)
    assert "closed while this ran" in str(caught)


def test_a_run_in_another_thread_is_let_finish_and_is_recorded(tmp_path: Any) -> None:
    lab = dx.Lab(tmp_path / "x.duckdb")
    running, go_on = threading.Event(), threading.Event()

    def wait(x: int) -> int:
        running.set()
        assert go_on.wait(30)
        return x

    thread = threading.Thread(target=lambda: lab.run(wait, x=1))
    thread.start()
    assert running.wait(30)
    closing = threading.Thread(target=lab.close)
    closing.start()
    go_on.set()
    closing.join(30)
    thread.join(30)
    with dx.Lab(tmp_path / "x.duckdb") as again:
        assert list(again.sql("SELECT status FROM runs")["status"]) == ["complete"]


def test_a_step_is_not_begun_once_the_deadline_has_passed(lab: dx.Lab) -> None:
    begun = []

    async def slow(x: int) -> int:
        await asyncio.Event().wait()
        return x

    made = dx.pipeline("p", slow=dx.step(slow, on_error="continue"), after=lambda slow: begun.append(slow))
    result = lab.run(made, {"x": 1}, options=dx.RunOptions(deadline=0.05))
    assert "was not begun" in str(result.steps["after"].error)
    assert isinstance(result.steps["after"].error.__cause__, TimeoutError)  # type: ignore[union-attr]
    assert not begun


def test_a_timeout_error_of_the_steps_own_keeps_its_words(lab: dx.Lab) -> None:
    def slow_database(x: int) -> int:
        raise TimeoutError("database said no")

    result = lab.run(dx.pipeline("p", y=dx.step(slow_database, timeout=60)), x=1)
    assert isinstance(result.error, TimeoutError)
    assert "database said no" in str(result.error)


@pytest.mark.parametrize("options", [{"deadline": 0}, {"deadline": -1}, {"deadline": float("nan")}, {"budget": -3}])
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(dx.ConfigurationError, match=next(iter(options))):
        dx.RunOptions(**options)


def test_a_pin_of_an_unknown_operation_is_refused(lab: dx.Lab) -> None:
    with pytest.raises(dx.ConfigurationError, match="Did you mean 'predict'"):
        lab.run(lambda x: x, {"x": 1}, options=dx.RunOptions(pin={"predikt": "dspy"}))


def test_callables_that_give_something_to_await_run_in_the_steps_scope(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"a": "yes"}]))

    class Asks:
        async def __call__(self, q: str) -> str:
            return (await dspy.Predict("q -> a").acall(q=q)).a

    asks = Asks()
    for target in (asks, lambda q: asks(q)):
        result = lab.run(dx.pipeline("p", a=dx.step(target, outputs=["a"])), q="?")
        assert result.outputs == {"a": "yes"}, result.error
        assert result.tokens


def test_generators_and_pools_of_operations_are_refused_when_defined() -> None:
    def values(x: int) -> Any:
        yield x

    with pytest.raises(dx.PipelineError, match="is a generator"):
        dx.pipeline("p", values=values)
    with pytest.raises(dx.PipelineError, match="no pool of its own"):
        dx.step(dx.predict("a -> b"), pool="general")


def test_fallbacks_are_checked_when_the_pipeline_is_defined_and_unwrapped(lab: dx.Lab) -> None:
    def broken(x: int) -> float:
        raise ValueError

    made = dx.pipeline("p", price=dx.step(broken, on_error="fallback", fallback={"price": 0.5}))
    assert lab.run(made, x=1)["price"] == 0.5
    with pytest.raises(dx.PipelineError, match="fallback's field 'price' does not fit"):
        dx.pipeline("p", price=dx.step(broken, on_error="fallback", fallback={"price": "free"}))
    lab.use(scripted_lm([{"price": "2.5"}]))
    asked = dx.pipeline("p", price=dx.step(broken, on_error="fallback", fallback=dspy.Predict("x: int -> price: float")))
    assert lab.run(asked, x=1).outputs == {"price": 2.5}


def refuse_two(n: int) -> int:
    if n == 2:
        raise RuntimeError("validator broke")
    return n


def take(n: Annotated[int, pydantic.AfterValidator(refuse_two)]) -> int:
    return n


def test_a_row_whose_check_raises_is_a_failed_row_and_the_map_goes_on(lab: dx.Lab) -> None:
    out = lab.map(take, [{"n": 1}, {"n": 2}, {"n": 3}])
    assert list(out["status"]) == ["complete", "failed", "complete"]
    assert "validator broke" in out["error"][1]


def test_modules_that_are_only_async_or_return_no_prediction(lab: dx.Lab) -> None:
    class OnlyAsync(dspy.Module):
        async def aforward(self, x: int) -> dspy.Prediction:
            return dspy.Prediction(y=x + 1)

    class Wrong(dspy.Module):
        def forward(self, x: int) -> str:
            return "text"

    assert lab.run(dx.pipeline("p", m=dx.step(OnlyAsync(), outputs=["y"])), x=1).outputs == {"y": 2}
    result = lab.run(dx.pipeline("p", m=dx.step(Wrong(), outputs=["y"])), x=1)
    assert "returned str, not a dspy.Prediction" in str(result.error)


def test_an_implementation_that_cannot_be_asked_or_built_gives_way_to_the_next(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"b": "yes"}]))

    def unbuildable(signature: Any) -> Any:
        raise ZeroDivisionError("build")

    def unaskable(operation: Any, inputs: Any) -> bool:
        raise ZeroDivisionError("can_run")

    lab.router.register("predict", Implementation("unbuildable", unbuildable), first=True)
    lab.router.register("predict", Implementation("unaskable", lambda s: len, can_run=unaskable), first=True)
    assert lab.predict("a -> b", a="x")["b"] == "yes"
    errors = lab.router.statistics().set_index("implementation")["last_error"]
    assert errors["unbuildable"] == "ZeroDivisionError: build"
    assert errors["unaskable"] == "ZeroDivisionError: can_run"


def test_an_implementation_registered_again_for_one_operation_replaces_the_old_one(lab: dx.Lab) -> None:
    contract = dx.signature("a -> b", name="One")
    for answer in ("v1", "v2"):

        @lab.router.implementation("predict(One)", name="mine")
        def mine(a: str, answer: str = answer) -> dict:
            return {"b": answer}

        assert lab.predict(contract, a="x")["b"] == answer


def test_what_a_step_does_to_its_inputs_does_not_change_the_record(lab: dx.Lab) -> None:
    def empty(items: list) -> int:
        items.clear()
        return 0

    lab.run(empty, items=[1, 2])
    assert (
        lab.sql("SELECT inputs FROM runs")["inputs"][0] == '{"items":[1,2]}'
        or "[1, 2]" in lab.sql("SELECT inputs FROM runs")["inputs"][0]
    )


@pytest.mark.parametrize(
    "source",
    ["a = f\nb, c = f, f", "a = f\nb = c = f", "a = f\na += f"],
)
def test_no_step_of_a_cell_is_lost_unsaid(source: str) -> None:
    from dspex_lab.pipelines import pipeline_from_source

    with pytest.raises(dx.PipelineError, match="one step under one name") as caught:
        pipeline_from_source("p", source, {"f": lambda x: x})
    assert caught.value.line == 2
    annotated = pipeline_from_source("p", "a: object = f\nb = lambda y: y", {"f": lambda x: x})
    assert list(annotated.steps) == ["a", "b"]
