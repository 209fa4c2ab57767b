"""Steps made of other steps: when, each, parallel, loop and nested pipelines; and kinds of the user's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import dspy
import pytest
from clocks import stop_until

import dspex_lab as dx
from dspex_lab.pipelines import Shape, StepField
from dspex_lab.testing import scripted_lm


@pytest.fixture
def lab() -> Iterator[dx.Lab]:
    with dx.Lab(":memory:") as lab:
        yield lab


def double(n: int) -> int:
    return n * 2


def spans(lab: dx.Lab) -> dict[str, Any]:
    return {row["name"]: row for row in lab.sql("SELECT * FROM spans WHERE kind = 'step'").to_dict("records")}


# --- when -------------------------------------------------------------------------------------------------------------


def test_when_does_one_branch_and_gives_the_fields_of_both(lab: dx.Lab) -> None:
    def urgent(text: str) -> dict[str, Any]:
        return {"desk": "now", "why": text}

    def calm(text: str) -> dict[str, Any]:
        return {"desk": "later"}

    route = dx.pipeline("p", reply=dx.when("score > 0.8", urgent, calm))
    assert list(route.inputs) == ["score", "text"]
    assert list(route.outputs) == ["desk", "why"]
    assert lab.run(route, score=0.9, text="t").outputs == {"desk": "now", "why": "t"}
    result = lab.run(route, score=0.1, text="t")
    assert result.outputs == {"desk": "later", "why": None}
    assert (result.status, result.steps["reply"].implementation) == ("complete", "otherwise")
    assert list(result.steps["reply"].parts) == ["otherwise"]
    assert {"reply", "reply.then", "reply.otherwise"} == set(spans(lab))


def test_a_single_value_of_a_branch_is_named_like_the_step(lab: dx.Lab) -> None:
    made = dx.pipeline("p", reply=dx.when(lambda n: n > 3, double), after=lambda reply: f"<{reply}>")
    assert lab.run(made, n=5).outputs == {"reply": 10, "after": "<10>"}
    assert lab.run(made, n=1).outputs == {"reply": None, "after": "<None>"}


def test_an_async_test_chooses_too(lab: dx.Lab) -> None:
    async def big(n: int) -> bool:
        await asyncio.sleep(0)
        return n > 3

    assert lab.run(dx.when(big, double, lambda n: 0), n=5).outputs == {"when": 10}


def test_a_branch_that_fails_fails_the_step_and_names_it(lab: dx.Lab) -> None:
    result = lab.run(dx.pipeline("p", a=dx.when("n > 0", lambda n: 1 / 0), b=double), n=1)
    assert result.status == "partial"
    assert result.outputs == {"b": 2}
    assert "Step 'a.then' failed: ZeroDivisionError" in str(result.error)
    assert isinstance(result.error.__cause__, ZeroDivisionError)


def test_a_condition_on_a_wrong_value_says_which(lab: dx.Lab) -> None:
    result = lab.run(dx.pipeline("p", a=dx.when("n > 0", lambda n: n)), n=None)
    assert result.status == "failed"
    assert "n" in str(result.error)


@pytest.mark.parametrize("bad", ["n >", "__import__('os')", 3, str])
def test_what_is_no_condition_is_refused_at_definition(bad: Any) -> None:
    with pytest.raises(dx.PipelineError):
        dx.when(bad, double)


# --- each -------------------------------------------------------------------------------------------------------------


def test_each_gives_lists_in_order(lab: dx.Lab) -> None:
    def shout(word: str, mark: str = "!") -> str:
        return word.upper() + mark

    made = dx.pipeline("p", loud=dx.each("words", shout))
    assert str(made.inputs["words"].type) == "list[str]"
    assert lab.run(made, words=["a", "b"], mark="?").outputs == {"loud": ["A?", "B?"]}
    result = lab.run(made, words=["a"])
    assert result.outputs == {"loud": ["A!"]}
    assert list(result.steps["loud"].parts) == ["item[0]"]
    assert lab.run(made, words=[]).outputs == {"loud": []}
    assert spans(lab)["loud.item"]["data"] is not None


def test_each_is_bounded_and_runs_that_many_at_once(lab: dx.Lab) -> None:
    together = threading.Barrier(3)
    most, under_way, lock = 0, 0, threading.Lock()

    def meet(item: int) -> int:
        nonlocal most, under_way
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait(timeout=30)
        with lock:
            under_way -= 1
        return item

    result = lab.run(dx.pipeline("p", met=dx.each("items", meet, concurrency=3)), items=list(range(9)))
    assert result.outputs == {"met": list(range(9))}, result.error
    assert most == 3


def test_every_item_is_tried_and_those_that_came_are_kept(lab: dx.Lab) -> None:
    made = dx.pipeline("p", inverse=dx.each("ns", lambda n: 1 / n))
    result = lab.run(made, ns=[1, 0, 2, 0])
    assert result.status == "failed"
    assert "2 of 4 items failed; item 1: ZeroDivisionError" in str(result.error)
    assert [o.outputs.get("inverse") for o in result.steps["inverse"].parts.values()] == [1.0, None, 0.5, None]
    going_on = dx.pipeline("p", inverse=dx.each("ns", dx.step(lambda n: 1 / n, on_error="continue")))
    result = lab.run(going_on, ns=[1, 0, 2])
    assert result.outputs == {"inverse": [1.0, None, 0.5]}
    assert (result.status, result.steps["inverse"].status) == ("partial", "partial")
    assert "1 of 3 items: item 1: ZeroDivisionError" in result.steps["inverse"].note


@pytest.mark.parametrize("value", ["text", 3, None, {"a": 1}])
def test_each_wants_a_list(lab: dx.Lab, value: Any) -> None:
    result = lab.run(dx.pipeline("p", out=dx.each("items", lambda item: item)), items=value)
    assert result.status == "failed"
    assert "needs a list in 'items'" in str(result.error)


def test_which_input_receives_the_item_must_be_known() -> None:
    def both(a: int, b: int) -> int:
        return a + b

    with pytest.raises(dx.PipelineError, match=r"which input .* cannot be told.*item='a'"):
        dx.pipeline("p", out=dx.each("pairs", both))
    assert list(dx.pipeline("p", out=dx.each("pairs", both, item="b")).inputs) == ["pairs", "a"]
    for bad in (lambda: dx.each("no name", both), lambda: dx.each("a", both, concurrency=0), lambda: dx.each("a", 3)):
        with pytest.raises(dx.PipelineError):
            bad()


def test_a_model_answers_for_each_item(lab: dx.Lab) -> None:
    lab.use(scripted_lm(lambda request: {"label": "x" if "apple" in str(request) else "y"}))
    result = lab.run(dx.pipeline("p", labels=dx.each("texts", dspy.Predict("text -> label"))), texts=["apple", "pear"])
    assert result.outputs == {"label": ["x", "y"]}, result.error
    assert list(lab.sql("SELECT DISTINCT step FROM lm_calls")["step"]) == ["labels.item"]


# --- parallel ---------------------------------------------------------------------------------------------------------


def test_parallel_steps_run_at_the_same_time_as_one(lab: dx.Lab) -> None:
    together = threading.Barrier(2)

    def left(n: int) -> int:
        together.wait(timeout=30)
        return n

    def right(n: int) -> int:
        together.wait(timeout=30)
        return -n

    result = lab.run(dx.pipeline("p", both=dx.parallel(left, right), total=lambda left, right: left + right), n=3)
    assert result.outputs == {"left": 3, "right": -3, "total": 0}, result.error
    assert list(result.steps["both"].parts) == ["left", "right"]


def test_a_branch_that_failed_does_not_take_the_other_ones_fields(lab: dx.Lab) -> None:
    made = dx.pipeline(
        "p", both=dx.parallel(good=double, bad=lambda n: 1 / 0), after=lambda good: good + 1, never=lambda bad: bad
    )
    result = lab.run(made, n=1)
    assert result.outputs == {"good": 2, "after": 3}
    assert {n: o.status for n, o in result.steps.items()} == {"both": "failed", "after": "complete", "never": "skipped"}
    assert "Step 'both.bad' failed" in str(result.error)


def test_parallel_steps_may_not_need_each_other() -> None:
    with pytest.raises(dx.PipelineError, match="step 'b' needs 'a'"):
        dx.parallel(a=double, b=lambda a: a)
    with pytest.raises(dx.PipelineError, match="two steps are called 'double'"):
        dx.parallel(double, double)


# --- loop -------------------------------------------------------------------------------------------------------------


def test_a_loop_feeds_its_outputs_back_until_the_condition_holds(lab: dx.Lab) -> None:
    made = dx.pipeline("p", grow=dx.loop(dx.step(double, outputs=["n"]), until="n > limit"))
    result = lab.run(made, n=3, limit=20)
    assert result.outputs == {"n": 24}
    assert list(result.steps["grow"].parts) == ["round[0]", "round[1]", "round[2]"]


def test_a_loop_that_does_not_end_says_so(lab: dx.Lab) -> None:
    result = lab.run(dx.loop(lambda x: x, until=lambda x: False, limit=2), x=1)
    assert result.status == "partial"
    assert "2 rounds were not enough" in next(iter(result.steps.values())).note
    with pytest.raises(dx.PipelineError, match="limit=0"):
        dx.loop(double, until="n > 1", limit=0)


# --- nested -----------------------------------------------------------------------------------------------------------


def test_a_pipeline_is_a_step_of_another(lab: dx.Lab) -> None:
    inner = dx.pipeline("inner", twice=double, text=lambda twice: f"={twice}").with_defaults(n=4)
    outer = dx.pipeline("outer", calc=inner, end=lambda text: text + ".")
    assert list(outer.inputs) == ["n"]
    assert not outer.inputs["n"].required
    result = lab.run(outer, n=2)
    assert result.outputs == {"twice": 4, "text": "=4", "end": "=4."}
    assert lab.run(outer).outputs["end"] == "=8."
    told = spans(lab)
    assert told["calc.twice"]["parent_id"] in set(lab.sql("SELECT span_id FROM spans WHERE name = 'calc'")["span_id"])


def test_what_fell_back_inside_is_seen_outside(lab: dx.Lab) -> None:
    inner = dx.pipeline("inner", a=dx.step(lambda n: 1 / 0, on_error="fallback", fallback={"a": 7}))
    result = lab.run(dx.pipeline("outer", calc=inner), n=1)
    assert (result.status, result.outputs) == ("partial", {"a": 7})
    assert "ZeroDivisionError" in result.steps["calc"].note


def test_a_failure_two_levels_down_is_named_whole(lab: dx.Lab) -> None:
    deep = dx.pipeline("outer", mid=dx.pipeline("mid", low=dx.pipeline("low", ok=double, bad=lambda ok: 1 / 0)))
    result = lab.run(deep, n=1)
    assert result.outputs == {"ok": 2}, "what was computed is kept"
    assert str(result.error) == "Step 'mid.low.bad' failed: ZeroDivisionError: division by zero"


def test_a_timeout_around_a_nested_pipeline_stops_what_is_in_it(lab: dx.Lab) -> None:
    begun, stopped = threading.Event(), threading.Event()

    async def forever(n: int) -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return n

    async def main() -> dx.Result:
        stop_until(begun.is_set)
        return await lab.arun(dx.pipeline("outer", calc=dx.step(dx.pipeline("inner", a=forever), timeout=60)), n=1)

    result = asyncio.run(main())
    assert "did not finish within its timeout" in str(result.error)
    assert stopped.is_set()


def test_modules_of_inner_steps_are_predictors_and_come_back(lab: dx.Lab) -> None:
    lab.use(scripted_lm(lambda request: {"b": "yes"}))
    made = dx.pipeline(
        "p", group=dx.parallel(one=dx.predict("a -> b")), maybe=dx.when("b == 'yes'", dspy.Predict("b -> c"), double)
    )
    program = made.as_module(lab)
    assert [n for n, _ in program.named_predictors()] == ["group.one", "maybe.then"]
    program.group.one.demos = [dspy.Example(a="x", b="y")]
    learned = made.with_modules(program)
    assert learned.steps["group"].target.inner.steps["one"].target.demos == (dspy.Example(a="x", b="y"),)
    assert learned.steps["maybe"].target.then.kind == "dspy"


# --- options, and kinds of one's own ----------------------------------------------------------------------------------


def test_a_step_given_to_step_gets_more_options() -> None:
    first = dx.step(double, timeout=3)
    again = dx.step(first, cache=5)
    assert (again.timeout, again.cache, again.target) == (3, 5, double)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": 2}, "Say idempotent=True"),
        ({"retries": -1, "idempotent": True}, "no number of further tries"),
        ({"retries": True, "idempotent": True}, "no number of further tries"),
        ({"cache": 0}, "cache=0 is not a number of seconds"),
        ({"cache": "x"}, "cache='x'"),
        ({"timeout": True}, "timeout=True"),
        ({"kind": "explode"}, "There is no kind of step 'explode'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(dx.PipelineError, match=message):
        dx.step(double, **options)


def test_a_step_of_steps_has_no_pool() -> None:
    with pytest.raises(dx.PipelineError, match="kind 'when' runs in the kernel"):
        dx.step(dx.when("n > 1", double), pool="general")


def test_users_add_kinds(lab: dx.Lab) -> None:
    class Shell:
        def __init__(self, text: str) -> None:
            self.text = text

    @dx.step_kind
    class ShellKind(dx.Kind):
        name = "shell"

        def accepts(self, target: Any) -> bool:
            return isinstance(target, Shell)

        def shape(self, name: str, item: dx.Step) -> Shape:
            return Shape({"n": StepField("n", int)}, {name: StepField(name, str)})

        async def run(self, work: dx.Work, item: dx.Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
            value = await work.call(double, inputs)
            inner = await work.step("again", dx.step(double), {"n": value})
            work.degraded = "only a test"
            return {work.field: f"{item.target.text}{inner.outputs['again']}"}

    made = dx.pipeline("p", out=Shell("$"))
    result = lab.run(made, n=2)
    assert (result.outputs, result.steps["out"].status, result.steps["out"].note) == ({"out": "$8"}, "partial", "only a test")
    assert made.graph()["nodes"][0]["kind"] == "shell"
    with pytest.raises(dx.PipelineError, match="The kind 'when' is built in"):
        dx.step_kind(type("Mine", (dx.Kind,), {"name": "when"}))
    with pytest.raises(dx.PipelineError, match="which is no name"):
        dx.step_kind(type("Mine", (dx.Kind,), {"name": "a b"}))


def test_fields_of_other_types_are_refused_at_definition() -> None:
    def words(text: str) -> list[str]:
        return text.split()

    def count(words: int) -> int:
        return words

    with pytest.raises(dx.PipelineError, match=r"Step 'n' cannot take the field 'words' from step 'words': .*list\[str\]"):
        dx.pipeline("p", words=words, n=count)


def test_defaults_are_checked_when_they_are_given() -> None:
    made = dx.pipeline("p", y=double)
    with pytest.raises(dx.PipelineError, match="expected int"):
        made.with_defaults(n="3")
    with pytest.raises(dx.PipelineError, match="'m' is not an input"):
        made.with_defaults(m=3)
