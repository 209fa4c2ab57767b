"""Corners of the engine: what a step may be, large and copied pipelines, cells, and what is told and kept."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import inspect
import json
from collections.abc import Iterator
from typing import Any

import cloudpickle
import dspy
import pytest
from engine_helpers import alone, check, double
from pipeline_limits import in_time

import dspex_lab as dx
from dspex_lab.pipelines import pipeline_from_source
from dspex_lab.testing import scripted_lm

# --- what a step may be ----------------------------------------------------------------------------------------------------


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


# --- large, copied and shown -----------------------------------------------------------------------------------------------


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


# --- cells -----------------------------------------------------------------------------------------------------------------


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


# --- told and kept ---------------------------------------------------------------------------------------------------------


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
