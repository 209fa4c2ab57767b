"""Batching of like requests: who is put together, who fails, who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._batch import Batch, Batchers
from dspex_lab.pipelines._fields import Shape, StepField, function_shape

#: Longer than any test; a batch that waits for it waits for ever.
FOREVER = 3600.0


def run(work: Any) -> Any:
    return asyncio.run(work)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Calls:
    """A function for lists that keeps what it was given; it may be held back, and may fail."""

    def __init__(self, answer: Any = lambda xs: [x * 10 for x in xs], gate: asyncio.Event | None = None) -> None:
        self.answer, self.gate = answer, gate
        self.given: list[dict[str, list[Any]]] = []
        self.cancelled = 0

    async def __call__(self, inputs: dict[str, list[Any]]) -> Any:
        self.given.append(inputs)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return self.answer(inputs["x"])


def submit(batchers: Batchers, calls: Calls, x: Any, batch: Batch, **options: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(batchers.submit("f", "work", batch, {"x": x}, calls, **options))


def test_a_full_batch_is_called_at_once() -> None:
    async def main() -> None:
        calls, batchers = Calls(), Batchers()
        tasks = [submit(batchers, calls, x, Batch(3, FOREVER)) for x in range(6)]
        assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40, 50]
        assert calls.given == [{"x": [0, 1, 2]}, {"x": [3, 4, 5]}]

    run(main())


def test_an_incomplete_batch_is_called_after_the_window() -> None:
    async def main() -> None:
        calls, batchers = Calls(), Batchers()
        tasks = [submit(batchers, calls, x, Batch(16, 0.001)) for x in range(3)]
        assert await asyncio.gather(*tasks) == [0, 10, 20]
        assert calls.given == [{"x": [0, 1, 2]}]

    run(main())


@pytest.mark.parametrize(("window", "alone"), [(0.0, False), (FOREVER, True)])
def test_a_run_that_is_alone_waits_for_its_own_fan_out_only(window: float, alone: bool) -> None:
    async def main() -> None:
        calls, batchers = Calls(), Batchers()
        tasks = [submit(batchers, calls, x, Batch(16, window), alone=alone) for x in range(3)]
        assert await asyncio.gather(*tasks) == [0, 10, 20]
        assert calls.given == [{"x": [0, 1, 2]}]
        assert await submit(batchers, calls, 7, Batch(16, window), alone=alone) == 70

    run(main())


def test_requests_with_other_fields_or_another_function_are_not_mixed() -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def call(inputs: dict[str, list[Any]]) -> Any:
            seen.append(inputs)
            return [0] * len(next(iter(inputs.values())))

        batchers, batch = Batchers(), Batch(16, 0.0)
        await asyncio.gather(
            batchers.submit("f", "s", batch, {"x": 1}, call),
            batchers.submit("f", "s", batch, {"x": 2, "y": 3}, call),
            batchers.submit("g", "s", batch, {"x": 4}, call),
            batchers.submit("f", "s", batch, {"x": 5}, call),
        )
        assert seen == [{"x": [1, 5]}, {"x": [2], "y": [3]}, {"x": [4]}]

    run(main())


def test_a_failing_call_fails_all_its_members_with_the_same_error() -> None:
    problem = ValueError("no")

    def fail(_: Any) -> Any:
        raise problem

    async def main() -> None:
        batchers, calls = Batchers(), Calls(fail)
        found = await asyncio.gather(*[submit(batchers, calls, x, Batch(2, FOREVER)) for x in range(2)], return_exceptions=True)
        assert found == [problem, problem]

    run(main())


def test_an_exception_among_the_answers_fails_one_member() -> None:
    async def main() -> None:
        batchers, calls = Batchers(), Calls(lambda xs: [KeyError("this one") if x == 1 else x for x in xs])
        found = await asyncio.gather(*[submit(batchers, calls, x, Batch(3, FOREVER)) for x in range(3)], return_exceptions=True)
        assert found[0] == 0
        assert isinstance(found[1], KeyError)
        assert found[2] == 2

    run(main())


def test_stop_iteration_reaches_its_member_as_an_error() -> None:
    async def main() -> None:
        batchers, calls = Batchers(), Calls(lambda xs: [StopIteration("end")])
        with pytest.raises(RuntimeError, match="StopIteration: end"):
            await submit(batchers, calls, 1, Batch(1))

    run(main())


def test_a_dict_of_lists_gives_each_its_fields() -> None:
    async def main() -> None:
        batchers = Batchers()
        calls = Calls(lambda xs: {"double": [2 * x for x in xs], "name": [KeyError("bad") if x == 2 else str(x) for x in xs]})
        tasks = [submit(batchers, calls, x, Batch(3, FOREVER), gives=("double", "name")) for x in (1, 2, 3)]
        one, two, three = await asyncio.gather(*tasks, return_exceptions=True)
        assert (one, three) == ({"double": 2, "name": "1"}, {"double": 6, "name": "3"})
        assert isinstance(two, KeyError)

    run(main())


def test_a_numpy_array_is_a_list_of_plain_values() -> None:
    import numpy as np

    async def main() -> None:
        found = await submit(Batchers(), Calls(lambda xs: np.asarray(xs) * 2), 4, Batch(1))
        assert found == 8
        assert type(found) is int

    run(main())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda xs: xs[:1], r"Step 'work': the function was given 2 requests and returned 1 answer\."),
        (lambda xs: "ab", r"returns a list; it returned str"),
        (lambda xs: None, r"returns a list; it returned NoneType"),
        (lambda xs: {"a": xs}, r"returned no 'b'; it returned 'a'"),
        (lambda xs: {"a": xs, "b": [1]}, r"'work\.b': the function was given 2 requests and returned 1 answer"),
    ],
)
def test_what_does_not_answer_each_request_is_named(answer: Any, message: str) -> None:
    async def main() -> None:
        batchers, calls = Batchers(), Calls(answer)
        tasks = [submit(batchers, calls, x, Batch(2, FOREVER), gives=("a", "b")) for x in range(2)]
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, PipelineError)
            with pytest.raises(PipelineError, match=message):
                raise error

    run(main())


def test_cancelling_one_member_leaves_the_others_alone() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        batchers, calls = Batchers(), Calls(gate=gate)
        tasks = [submit(batchers, calls, x, Batch(3, FOREVER)) for x in range(3)]
        await turns()
        tasks[0].cancel()
        await turns()
        gate.set()
        assert await asyncio.gather(*tasks[1:]) == [10, 20]
        assert tasks[0].cancelled()
        assert calls.given == [{"x": [0, 1, 2]}]
        assert calls.cancelled == 0

    run(main())


def test_a_member_cancelled_before_the_call_is_not_in_it() -> None:
    async def main() -> None:
        batchers, calls = Batchers(), Calls()
        tasks = [submit(batchers, calls, x, Batch(3, FOREVER)) for x in range(2)]
        await turns()
        tasks[0].cancel()
        await turns()
        tasks.append(submit(batchers, calls, 2, Batch(3, FOREVER)))
        assert await asyncio.gather(*tasks[1:]) == [10, 20]
        assert calls.given == [{"x": [1, 2]}]

    run(main())


def test_when_all_are_cancelled_so_is_the_call() -> None:
    async def main() -> None:
        batchers, calls = Batchers(), Calls(gate=asyncio.Event())
        tasks = [submit(batchers, calls, x, Batch(2, FOREVER)) for x in range(2)]
        await turns()
        for task in tasks:
            task.cancel()
        await turns()
        assert calls.cancelled == 1

    run(main())


def test_when_all_are_cancelled_while_they_wait_nothing_is_called() -> None:
    async def main() -> None:
        batchers, calls = Batchers(), Calls()
        task = submit(batchers, calls, 1, Batch(2, 0.0))
        await asyncio.sleep(0)
        task.cancel()
        await turns()
        assert calls.given == []

    run(main())


def test_a_call_that_cancels_itself_is_the_members_failure() -> None:
    def fail(_: Any) -> Any:
        raise asyncio.CancelledError

    async def main() -> None:
        task = submit(Batchers(), Calls(fail), 1, Batch(1))
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_each_loop_has_batches_of_its_own() -> None:
    batchers, calls = Batchers(), Calls()
    for x in (1, 2):
        assert run(batchers.submit("f", "work", Batch(2, 0.0), {"x": x}, calls)) == x * 10
    assert calls.given == [{"x": [1]}, {"x": [2]}]


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 5),
    plan=st.lists(st.tuples(st.sampled_from(["ok", "bad", "cancel"]), st.integers(0, 3)), min_size=1, max_size=20),
    broken=st.booleans(),
)
def test_every_member_gets_exactly_its_own_answer(size: int, plan: list[tuple[str, int]], broken: bool) -> None:
    """Whatever the order of arrivals, failures and cancellations: no answer is lost, mixed up or given twice."""

    def answer(xs: list[int]) -> list[Any]:
        if broken and len(xs) == size:
            raise OSError("whole batch")
        return [LookupError(x) if plan[x][0] == "bad" else x for x in xs]

    async def main() -> None:
        gate = asyncio.Event()
        batchers, calls = Batchers(), Calls(answer, gate)
        tasks = []
        for x, (_, pause) in enumerate(plan):
            tasks.append(submit(batchers, calls, x, Batch(size, 0.0)))
            await turns(pause)
        for x, (what, _) in enumerate(plan):
            if what == "cancel":
                tasks[x].cancel()
        gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for x, ((what, _), value) in enumerate(zip(plan, found, strict=True)):
            batch = next((c["x"] for c in calls.given if x in c["x"]), None)
            if what == "cancel":
                assert isinstance(value, asyncio.CancelledError)
            elif broken and batch is not None and len(batch) == size:
                assert isinstance(value, OSError)
            elif what == "bad":
                assert isinstance(value, LookupError)
                assert value.args == (x,)
            else:
                assert value == x
        called = [x for c in calls.given for x in c["x"]]
        assert len(called) == len(set(called))
        assert all(len(c["x"]) <= size for c in calls.given)
        assert {x for x, (what, _) in enumerate(plan) if what != "cancel"} <= set(called)

    run(main())


# --- fields ---------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    label: str
    score: float


def test_the_fields_are_those_of_one_request() -> None:
    def embed(text: list[str], model: Sequence[Any], tags: tuple[int, ...], free, *, scale: list = [1]) -> list[float]:  # noqa: B006
        return []

    shape = Batch().shape(function_shape("vector", embed))
    assert {n: (f.type, f.required) for n, f in shape.inputs.items()} == {
        "text": (str, True),
        "model": (Any, True),
        "tags": (int, True),
        "free": (Any, True),
        "scale": (Any, False),
    }
    assert shape.outputs == {"vector": StepField("vector", float)}
    assert shape.whole == "vector"


def test_lists_of_records_and_records_of_lists_have_their_fields() -> None:
    def records(text: list[str]) -> list[Verdict]:
        return []

    def columns(text: list[str]) -> dict[str, list[int]]:
        return {"short": [], "long": []}

    shape = Batch().shape(function_shape("judge", records))
    assert (shape.whole, shape.outputs) == (None, {"label": StepField("label", str), "score": StepField("score", float)})
    shape = Batch().shape(function_shape("judge", columns))
    assert (shape.whole, shape.outputs) == (None, {"short": StepField("short", int), "long": StepField("long", int)})


@pytest.mark.parametrize("kind", [str, int, dict[str, int], bytes])
def test_a_function_of_single_values_is_refused(kind: Any) -> None:
    with pytest.raises(PipelineError, match=r"With batch= a function takes lists; 'x' is declared"):
        Batch().shape(Shape({"x": StepField("x", kind)}, {"y": StepField("y")}, "y"))
    with pytest.raises(PipelineError, match=r"With batch= a function gives lists; 'y' is declared"):
        Batch().shape(Shape({"x": StepField("x")}, {"y": StepField("y", kind)}, "y"))


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": True}, {"size": 1.5}, {"window": -1}, {"window": float("inf")}, {"window": "1"}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=next(iter(wrong))):
        Batch(**wrong)
