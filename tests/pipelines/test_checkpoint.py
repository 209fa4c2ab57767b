"""Checkpoints: what was done is not done again, and nothing else is taken for it."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dspy
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.pipelines import Step, each, loop, parallel, when
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._fingerprint import fingerprint
from dspex_lab.pipelines.kinds import assert_, template
from dspex_lab.testing import scripted_lm

C = dx.RunOptions(checkpoint="c")


class Work:
    """Counts how often each step ran; ``broken`` names the steps that fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, name: str) -> None:
        self.ran.append(name)
        if name in self.broken:
            raise ValueError(f"{name} is broken")


@pytest.fixture
def work() -> Work:
    return Work()


def again(lab: dx.Lab, work: Work, what: Any, /, **fields: Any) -> dx.Result:
    """Run once more, with nothing broken, and forget what ran before."""
    work.ran.clear()
    work.broken.clear()
    return lab.run(what, fields, options=C)


# --- what is done again, and what is not -------------------------------------------------------------------------


def test_a_second_run_goes_on_where_the_first_failed_and_a_complete_one_is_forgotten(lab: dx.Lab, work: Work) -> None:
    def a(x: int) -> int:
        work("a")
        return x + 1

    def b(a: int) -> int:
        work("b")
        return a * 10

    whole = dx.pipeline("p", a=a, b=b)
    work.broken = {"b"}
    assert lab.run(whole, x=1, options=C).status == "partial"
    kept = lab.checkpoints()
    assert (kept["name"][0], kept["steps"][0]) == ("c", 1)
    result = again(lab, work, whole, x=1)
    assert result.outputs == {"a": 2, "b": 20}
    assert result.status == "complete"
    assert work.ran == ["b"]
    assert result.steps["a"].implementation == "checkpoint"
    assert lab.checkpoints().empty
    events = lab.sql("SELECT name, step FROM events WHERE starts_with(name, 'checkpoint')")
    assert list(events.itertuples(index=False, name=None)) == [("checkpoint.load", "a")]
    assert again(lab, work, whole, x=1).status == "complete"
    assert work.ran == ["a", "b"], "after a complete run it begins anew"


def test_without_the_option_nothing_is_kept(lab: dx.Lab) -> None:
    lab.run(dx.pipeline("p", a=lambda x: 1 / x), x=0)
    assert lab.checkpoints().empty


def test_a_mended_step_and_what_follows_from_it_is_done_again_and_nothing_else(lab: dx.Lab, work: Work) -> None:
    def a(x: int) -> int:
        work("a")
        return x

    def side(x: int) -> int:
        work("side")
        return x

    def b(a: int) -> int:
        work("b")
        return a

    def c(b: int, side: int) -> int:
        work("c")
        return b

    def end(c: int) -> int:
        work("end")
        return c

    work.broken = {"end"}
    lab.run(dx.pipeline("p", a=a, side=side, b=b, c=c, end=end), x=1, options=C)

    def mended(a: int) -> int:
        work("b")
        return a + 100

    result = again(lab, work, dx.pipeline("p", a=a, side=side, b=mended, c=c, end=end), x=1)
    assert work.ran == ["b", "c", "end"]
    assert result["end"] == 101


def test_a_mended_step_that_gives_the_same_costs_only_itself(lab: dx.Lab, work: Work) -> None:
    def b(a: int) -> int:
        work("b")
        return a

    def end(b: int) -> int:
        work("end")
        return b

    work.broken = {"end"}
    lab.run(dx.pipeline("p", a=lambda x: x, b=b, end=end), x=1, options=C)
    again(lab, work, dx.pipeline("p", a=lambda x: x * 1, b=b, end=end), x=1)
    assert work.ran == ["end"], "its value is what the next step sees"


def test_other_inputs_are_other_work(lab: dx.Lab, work: Work) -> None:
    def a(x: Any) -> Any:
        work("a")
        return 1

    def end(a: int) -> int:
        work("end")
        return a

    whole = dx.pipeline("p", a=a, end=end)
    for value, other in ((1, 2), (1, True), (1, 1.0), ("1", 1), ([1], (1,)), ({"a": 1}, {"a": 2})):
        work.broken = {"end"}
        lab.run(whole, {"x": value}, options=C)
        again(lab, work, whole, x=other)
        assert work.ran == ["a", "end"], (value, other)


def test_a_step_that_changes_its_inputs_is_found_again(lab: dx.Lab, work: Work) -> None:
    def a(xs: list[int]) -> int:
        work("a")
        xs.append(99)
        return len(xs)

    def end(a: int) -> int:
        work("end")
        return a

    work.broken = {"end"}
    whole = dx.pipeline("p", a=a, end=end)
    lab.run(whole, xs=[1], options=C)
    again(lab, work, whole, xs=[1])
    assert work.ran == ["end"]


def test_steps_in_others_and_each_item_are_kept_apart(lab: dx.Lab, work: Work) -> None:
    def square(n: int) -> int:
        work(f"square {n}")
        return n * n

    def first(x: int) -> int:
        work("first")
        return x

    def last(first: int) -> int:
        work("last")
        return first

    inner = dx.pipeline("inner", first=first, last=last)
    whole = dx.pipeline("p", squares=each("ns", square, item="n"), inner=inner, both=parallel(u=lambda x: work("u")))
    work.broken = {"square 3", "last"}
    lab.run(whole, ns=[1, 2, 3, 4], x=5, options=C)
    kept = lab.store.checkpoint("c")
    assert set(kept) == {"squares.item[0]", "squares.item[1]", "squares.item[3]", "inner.first", "both.u", "both"}
    result = again(lab, work, whole, ns=[1, 2, 3, 4], x=5)
    assert sorted(work.ran) == ["last", "square 3"]
    assert result["squares"] == [1, 4, 9, 16]
    assert result["last"] == 5


def test_items_that_moved_are_done_again(lab: dx.Lab, work: Work) -> None:
    def square(n: int) -> int:
        work(f"square {n}")
        return n * n

    whole = dx.pipeline("p", squares=each("ns", square, item="n"))
    work.broken = {"square 3"}
    lab.run(whole, ns=[1, 2, 3], options=C)
    assert again(lab, work, whole, ns=[1, 3, 2])["squares"] == [1, 9, 4]
    assert work.ran == ["square 3", "square 2"]


def test_rounds_of_a_loop_and_branches_go_on(lab: dx.Lab, work: Work) -> None:
    def more(n: int) -> dict[str, int]:
        work(f"more {n}")
        return {"n": n + 1}

    whole = dx.pipeline("p", up=loop(more, until="n >= 4", limit=9))
    work.broken = {"more 2"}
    lab.run(whole, n=0, options=C)
    result = again(lab, work, whole, n=0)
    assert result["n"] == 4
    assert work.ran == ["more 2", "more 3"]


def test_a_partial_or_fallen_back_step_is_done_again(lab: dx.Lab, work: Work) -> None:
    def weak(x: int) -> int:
        work("weak")
        return x

    def end(weak: int) -> int:
        work("end")
        return weak

    whole = dx.pipeline("p", weak=dx.step(weak, on_error="fallback", fallback=-1), end=end)
    work.broken = {"weak", "end"}
    lab.run(whole, x=1, options=C)
    assert lab.checkpoints().empty
    assert again(lab, work, whole, x=1)["end"] == 1


def test_a_retried_step_is_kept_and_its_cache_is_not_asked_first(lab: dx.Lab, work: Work) -> None:
    tries: list[int] = []

    def shaky(x: int) -> int:
        tries.append(x)
        if len(tries) == 1:
            raise ValueError("once")
        return x

    def end(shaky: int) -> int:
        work("end")
        return shaky

    work.broken = {"end"}
    whole = dx.pipeline("p", shaky=dx.step(shaky, retries=1, idempotent=True, cache=True), end=end)
    lab.run(whole, x=1, options=C)
    assert again(lab, work, whole, x=1).status == "complete"
    assert len(tries) == 2


# --- how it is run -----------------------------------------------------------------------------------------------


def test_siblings_save_at_the_same_time(lab: dx.Lab, work: Work) -> None:
    barrier = threading.Barrier(12, timeout=60)

    def of(number: int) -> Callable[[int], int]:
        def sibling(x: int) -> int:
            barrier.wait()
            return x + number

        return sibling

    def end(s0: int) -> int:
        work("end")
        return s0

    whole = dx.pipeline("p", **{f"s{i}": of(i) for i in range(12)}, end=end)
    work.broken = {"end"}
    lab.run(whole, x=1, options=C)
    assert lab.checkpoints()["steps"][0] == 12
    barrier.abort()
    result = again(lab, work, whole, x=1)
    assert [result[f"s{i}"] for i in range(12)] == list(range(1, 13))


def test_two_runs_at_once_cannot_have_the_same_name(lab: dx.Lab) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow(x: int) -> int:
        inside.set()
        assert go.wait(60)
        return x

    whole = dx.pipeline("p", slow=slow)
    results: list[dx.Result] = []
    thread = threading.Thread(target=lambda: results.append(lab.run(whole, x=1, options=C)))
    thread.start()
    assert inside.wait(60)
    with pytest.raises(dx.ConfigurationError, match="A run that is under way uses the checkpoint 'c'"):
        lab.run(dx.pipeline("q", a=lambda x: x), x=1, options=C)
    with pytest.raises(dx.ConfigurationError, match="under way uses the checkpoint 'c'"):
        lab.store.put_checkpoint("c", "s", "k", "{}") or lab.forget_checkpoint("c")
    assert lab.run(dx.pipeline("q", a=lambda x: x), x=1, options=dx.RunOptions(checkpoint="d")).status == "complete"
    go.set()
    thread.join()
    assert results[0].status == "complete"
    assert lab.run(whole, x=1, options=C).status == "complete", "it is free again"
    started = lab.sql("SELECT count(*) AS n FROM events WHERE name = 'run.start'")["n"][0]
    assert started == 3, "the one that was refused never began"


def test_another_labs_checkpoint_of_that_name_is_its_own() -> None:
    with dx.Lab(":memory:") as one, dx.Lab(":memory:") as other:
        nested = dx.pipeline("p", a=lambda x: other.run(dx.pipeline("q", b=lambda y: y), y=x, options=C)["b"])
        assert one.run(nested, x=3, options=C)["a"] == 3


def test_two_labs_of_one_file_share_its_checkpoints(tmp_path: Path) -> None:
    with dx.Lab(tmp_path / "lab.duckdb") as one, dx.Lab(tmp_path / "lab.duckdb") as other:
        refused = dx.pipeline("p", a=lambda x: other.run(dx.pipeline("q", b=lambda y: y), y=x, options=C)["b"])
        result = one.run(refused, x=3, options=C)
        assert "under way uses the checkpoint 'c'" in str(result.error)
        assert other.checkpoints().empty
        one.run(dx.pipeline("p", a=lambda x: x, b=lambda a: 1 / 0), x=1, options=C)
        assert list(other.checkpoints()["name"]) == ["c"]


def test_what_cannot_be_written_is_said_and_the_run_goes_on(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(lab.store, "put_checkpoint", full)
    result = lab.run(dx.pipeline("p", a=lambda x: x), x=1, options=C)
    assert result.status == "complete"
    told = lab.sql("SELECT data::VARCHAR AS data FROM events WHERE name = 'checkpoint.skip'")["data"]
    assert "could not be written: OSError: no space left" in told[0]


def test_a_shelf_that_cannot_be_read_leaves_the_name_free(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise dx.StoreError("it is broken", path=None)

    whole = dx.pipeline("p", a=lambda x: x)
    with monkeypatch.context() as patched:
        patched.setattr(lab.store, "checkpoint", broken)
        with pytest.raises(dx.StoreError, match="it is broken"):
            lab.run(whole, x=1, options=C)
    assert lab.run(whole, x=1, options=C).status == "complete"


def test_a_cancelled_run_keeps_what_is_done_and_frees_the_name(lab: dx.Lab, work: Work) -> None:
    reached = asyncio.Event()
    waits = True

    async def a(x: int) -> int:
        work("a")
        return x

    async def slow(a: int) -> int:
        work("slow")
        reached.set()
        if waits:
            await asyncio.sleep(600)
        return a

    async def main() -> None:
        task = asyncio.ensure_future(lab.arun(whole, x=1, options=C))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    whole = dx.pipeline("p", a=a, slow=slow)
    asyncio.run(main())
    waits = False
    reached = asyncio.Event()
    assert again(lab, work, whole, x=1).status == "complete"
    assert work.ran == ["slow"]


def test_a_streamed_run_tells_of_what_was_kept(lab: dx.Lab, work: Work) -> None:
    def end(a: int) -> int:
        work("end")
        return a

    whole = dx.pipeline("p", a=lambda x: x + 1, end=end)
    work.broken = {"end"}
    lab.run(whole, x=1, options=C)
    work.broken.clear()
    with lab.stream(whole, x=1, options=C) as events:
        fields = {(e.step, e.value) for e in events if e.kind == "field"}
    assert fields == {("a", 2), ("end", 2)}
    assert events.result.status == "complete"


@pytest.mark.parametrize("name", ["", "  ", 3])
def test_what_is_no_name_is_refused_before_anything_runs(lab: dx.Lab, work: Work, name: Any) -> None:
    with pytest.raises(dx.ConfigurationError, match="is no name"):
        lab.run(dx.pipeline("p", a=lambda x: work("a")), x=1, options=dx.RunOptions(checkpoint=name))
    assert not work.ran


def test_a_map_refuses_it_and_says_how_it_goes_on(lab: dx.Lab) -> None:
    with pytest.raises(dx.ConfigurationError, match="A map needs no checkpoint"):
        lab.map(dx.pipeline("p", a=lambda x: x), [{"x": 1}], options=C, progress=False)


def test_checkpoints_are_listed_and_forgotten(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=lambda x: x, end=lambda a: 1 / 0)
    for name in ("one", "two"):
        lab.run(whole, x="é" * 10, options=dx.RunOptions(checkpoint=name))
    listed = lab.checkpoints()
    assert list(listed.columns) == ["name", "steps", "bytes", "newest"]
    assert list(listed["name"]) == ["two", "one"]
    assert listed["bytes"][0] == len(lab.store.checkpoint("one")["a"][1].encode())
    lab.forget_checkpoint("two")
    assert list(lab.checkpoints()["name"]) == ["one"]
    with pytest.raises(dx.ConfigurationError, match=r"Nothing is kept under the checkpoint 'on'\. Did you mean 'one'"):
        lab.forget_checkpoint("on")


# --- values ------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class Loud(enum.StrEnum):
    YES = "yes"


@dataclasses.dataclass
class Point:
    x: int
    when: dt.date


class Order(pydantic.BaseModel):
    number: int
    at: dt.datetime
    colours: tuple[Colour, ...] = ()


TYPED: list[tuple[Any, Any]] = [
    (Order | None, Order(number=3, at=dt.datetime(2020, 1, 2, 3, 4), colours=(Colour.RED,))),
    (list[Order], [Order(number=1, at=dt.datetime(2020, 1, 2, tzinfo=dt.UTC))]),
    (Point | None, Point(1, dt.date(2020, 1, 2))),
    (dict[str, dt.datetime], {"at": dt.datetime(2020, 1, 2, tzinfo=dt.UTC)}),
    (dict[str, Any], {"a": [1, {"b": 2.0}]}),
    (Colour, Colour.RED),
    (dt.date, dt.date(2020, 1, 2)),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (bytes, b"abc"),
    (dict[int, str], {1: "a"}),
    (float, 0.1 + 0.2),
    (int | str, "3"),
    (Literal["a", "b"], "b"),
    (str | None, None),
    (Any, {"a": [1, 2.5, None, True, "é\u2028"]}),
]


def _renamed(give: Callable[[int], Point]) -> Callable[..., Point]:
    def made(n: int) -> Point:
        return give(n)

    return made


def run_with(lab: dx.Lab, kind: Any, value: Any) -> tuple[dx.Result, int]:
    """Give a value from a step that another one fails after, run again, and return the result and how often it was made."""
    made: list[Any] = []

    def give(x: int) -> Any:
        made.append(value)
        return value

    def end(give: Any) -> int:
        if len(made) and not again_now:
            raise ValueError("not yet")
        return 1

    give.__annotations__["return"] = kind
    whole = dx.pipeline("p", give=give, end=end)
    again_now: list[int] = []
    lab.run(whole, x=1, options=C)
    again_now.append(1)
    return lab.run(whole, x=1, options=C), len(made)


@pytest.mark.parametrize(("kind", "value"), TYPED, ids=lambda v: str(v)[:30])
def test_a_typed_value_comes_back_as_it_was(lab: dx.Lab, kind: Any, value: Any) -> None:
    result, made = run_with(lab, kind, value)
    assert made == 1
    assert result["give"] == value
    assert type(result["give"]) is type(value)


def test_a_record_comes_back_as_its_fields(lab: dx.Lab, work: Work) -> None:
    def give(x: int) -> Point:
        work("give")
        return Point(x, dt.date(2020, 1, 2))

    def end(when: dt.date) -> dt.date:
        work("end")
        return when

    work.broken = {"end"}
    give.__annotations__["x"] = int
    whole = dx.pipeline("p", n=lambda seed: seed, give=dx.step(_renamed(give)), end=end)
    lab.run(whole, seed=1, options=C)
    result = again(lab, work, whole, seed=1)
    assert work.ran == ["end"]
    assert result["end"] == dt.date(2020, 1, 2)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: "a"},
        {1, 2},
        Colour.RED,
        Loud.YES,
        np.float64(1.5),
        np.arange(3),
        float("nan"),
        object(),
        b"abc",
        Point(1, dt.date.today()),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_value_that_json_would_change_is_said_and_made_again(lab: dx.Lab, value: Any) -> None:
    result, made = run_with(lab, Any, value)
    assert made == 2
    assert result.status == "complete"
    told = lab.sql("SELECT step, data::VARCHAR AS data FROM events WHERE name = 'checkpoint.skip'")
    assert told["step"][0] == "give"
    assert "declare their types" in told["data"][0]


def test_a_value_that_cannot_be_compared_is_made_again(lab: dx.Lab) -> None:
    class Touchy(pydantic.BaseModel):
        n: int

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("do not compare me")

    result, made = run_with(lab, list[Touchy], [Touchy(n=1)])
    assert made == 2
    assert result.status == "complete"


def test_fields_that_came_or_went_are_not_the_same() -> None:
    from dspex_lab.pipelines import _checkpoint

    assert not _checkpoint._same({"a": 1}, {"a": 1, "b": 2}, Shape({}, {}))


def test_an_input_that_cannot_be_compared_is_said(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=lambda x: 1, end=lambda a: 1 / 0)
    lab.run(whole, x=threading.Lock(), options=C)
    told = lab.sql("SELECT data::VARCHAR AS data FROM events WHERE name = 'checkpoint.skip'")["data"]
    assert "an input cannot be compared" in told[0]


def test_a_secret_is_not_kept_and_not_masked(lab: dx.Lab) -> None:
    key = "sk-proj-" + "a1B2c3D4" * 5
    result, made = run_with(lab, str, key)
    assert made == 2
    assert result["give"] == key
    told = lab.sql("SELECT data::VARCHAR AS data FROM events WHERE name = 'checkpoint.skip'")["data"]
    assert "secret" in told[0]


def test_a_type_whose_serializer_fails_is_said(lab: dx.Lab) -> None:
    class Bad(pydantic.BaseModel):
        n: int

        @pydantic.field_serializer("n")
        def never(self, value: int) -> int:
            raise RuntimeError("no")

    result, made = run_with(lab, list[Bad], [Bad(n=1)])
    assert made == 2
    assert result.status == "complete"


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"give": "x"}', '{"other": 1}', "{", "null", '{"give": 1e999}'])
def test_what_is_kept_and_damaged_is_done_again(lab: dx.Lab, text: str) -> None:
    def give(x: int) -> int:
        return 7

    whole = dx.pipeline("p", give=give)
    key = fingerprint(whole.steps["give"], {"x": 1}, whole.shapes["give"])
    assert key is not None
    lab.store.put_checkpoint("c", "give", key, text)
    result = lab.run(whole, x=1, options=C)
    assert result["give"] == 7
    assert result.steps["give"].implementation == "give"
    lab.store.put_checkpoint("c", "give", key, '{"give": 8}')
    assert lab.run(whole, x=1, options=C)["give"] == 8, "so the key was the right one"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_whatever_json_can_say_comes_back_the_same(value: Any) -> None:
    from dspex_lab.pipelines import _checkpoint

    shape = Shape({}, {"v": StepField("v")}, "v")
    text = _checkpoint._written({"v": value}, shape)
    assert text is not None
    back = _checkpoint._read(text, shape)
    assert _checkpoint._same(back, {"v": value}, shape)
    assert repr(back) == repr({"v": value})


# --- models ------------------------------------------------------------------------------------------------------


def lm_of(*answers: Any, name: str = "scripted/here", **options: Any) -> Any:
    return scripted_lm(list(answers), model=name, **options)


def test_an_answer_is_kept_with_what_dspy_adds_to_it(lab: dx.Lab, work: Work) -> None:
    lm = lab.use(lm_of({"reasoning": "because", "a": 3}))

    def end(a: int) -> int:
        work("end")
        return a

    whole = dx.pipeline("p", a=dspy.ChainOfThought("x: str -> a: int"), end=end)
    work.broken = {"end"}
    lab.run(whole, x="1", options=C)
    result = again(lab, work, whole, x="1")
    assert lm.engine.calls == 1
    assert result.steps["a"].outputs == {"reasoning": "because", "a": 3}
    assert result.tokens is None, "nothing was asked"


@pytest.mark.parametrize(
    "made", [lambda: dspy.Predict("x -> a"), lambda: dx.predict("x -> a"), lambda: template("{{ x }}", output="a")]
)
def test_another_model_or_seed_is_other_work(lab: dx.Lab, work: Work, made: Any) -> None:
    def end(a: str) -> str:
        work("end")
        return a

    whole = dx.pipeline("p", s=made(), end=end)
    answers = [{"a": "1"}] if "template" not in str(whole.steps["s"].target) else ["1"]

    def asks(lm: Any, options: dx.RunOptions = C) -> int:
        lab.use(lm)
        work.broken = {"end"}
        lab.run(whole, x="1", options=options)
        return int(lm.engine.calls)

    assert asks(lm_of(*answers)) == 1
    assert asks(lm_of(*answers)) == 0, "the same model, made again"
    assert asks(lm_of(*answers, name="scripted/there")) == 1
    assert asks(lm_of(*answers, name="scripted/there", temperature=0.9)) == 1
    seeded = dx.RunOptions(checkpoint="c", seed=7)
    assert asks(lm_of(*answers, name="scripted/there", temperature=0.9), seeded) >= 0
    lab.use(lm_of(*answers, name="scripted/there", temperature=0.9))
    assert lab.run(whole, x="1", options=seeded).steps["s"].implementation == "checkpoint"


def test_a_program_with_other_demonstrations_is_other_work(lab: dx.Lab, work: Work) -> None:
    lm = lab.use(lm_of({"a": "1"}))

    def end(a: str) -> str:
        work("end")
        return a

    whole = dx.pipeline("p", inner=dx.pipeline("i", a=dspy.Predict("x -> a")), end=end)
    program = whole.as_module(lab)
    for expected in (1, 1):
        work.broken = {"end"}
        lab.run(program, x="1", options=C)
        assert lm.engine.calls == expected
    program.inner.a.demos = [dspy.Example(x="0", a="0")]
    lab.run(program, x="1", options=C)
    assert lm.engine.calls == 2


# --- fingerprints ------------------------------------------------------------------------------------------------

FACTOR = 2


def helper(x: int) -> int:
    return x * FACTOR


def uses_helper(x: int) -> int:
    return helper(x)


class Adder:
    def __init__(self, n: int) -> None:
        self.n, self.lock, self.seen = n, threading.Lock(), []

    def __call__(self, x: int) -> int:
        return x + self.n

    def method(self, x: int) -> int:
        return x - self.n


def adds(n: int) -> Callable[[int], int]:
    return lambda x: x + n


def with_default(n: int) -> Callable[..., int]:
    return lambda x, k=n: x + k


def with_keyword(n: int) -> Callable[..., int]:
    return lambda x, *, k=n: x + k


def mark(target: Any) -> str | None:
    return fingerprint(target if isinstance(target, Step) else dx.step(target), {"x": 1})


def predictor(signature: Any = "x -> y", **changes: Any) -> Any:
    made = dspy.Predict(signature)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Own(dspy.Module):
    def __init__(self, k: int = 1) -> None:
        super().__init__()
        self.k, self.ask = k, dspy.Predict("x -> y")

    def forward(self, x: str) -> dspy.Prediction:
        return self.ask(x=x)


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "lambda": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "what a closure holds": (lambda: adds(1), lambda: adds(2)),
    "a default": (lambda: with_default(1), lambda: with_default(2)),
    "a keyword default": (lambda: with_keyword(1), lambda: with_keyword(2)),
    "a partial": (lambda: functools.partial(pow, exp=2), lambda: functools.partial(pow, exp=3)),
    "a method": (lambda: Adder(1).method, lambda: Adder(2).method),
    "a callable": (lambda: Adder(1), lambda: Adder(2)),
    "which method": (lambda: Adder(1).method, lambda: Adder(1).__call__),
    "a predictor's types": (lambda: predictor("x -> y"), lambda: predictor("x -> y: int")),
    "its fields": (lambda: predictor("x -> y"), lambda: predictor("x -> y, z")),
    "its instructions": (lambda: predictor(), lambda: predictor(dspy.Signature("x -> y", "Do it."))),
    "its demonstrations": (lambda: predictor(), lambda: predictor(demos=[dspy.Example(x="1", y="2")])),
    "its settings": (lambda: predictor(), lambda: predictor(config={"temperature": 1.0})),
    "its model": (lambda: predictor(), lambda: predictor(lm=scripted_lm(lambda p: {}, model="scripted/own"))),
    "a module's attributes": (lambda: Own(1), lambda: Own(2)),
    "an operation": (lambda: dx.predict("x -> y"), lambda: dx.predict("x -> y: int")),
    "which operation": (lambda: dx.predict("x -> y"), lambda: dx.chain_of_thought("x -> y")),
    "a template": (lambda: template("{{ x }}!"), lambda: template("{{ x }}?")),
    "its type": (lambda: template("{{ x }}!"), lambda: template("{{ x }}!", returns=int)),
    "a condition": (lambda: when("x > 1", helper), lambda: when("x > 2", helper)),
    "a condition's function": (lambda: when(lambda x: x > 1, helper), lambda: when(lambda x: x > 2, helper)),
    "a branch": (lambda: when("x > 1", adds(1)), lambda: when("x > 1", adds(2))),
    "a limit": (lambda: loop(helper, until="x > 1", limit=2), lambda: loop(helper, until="x > 1", limit=3)),
    "an end": (lambda: loop(helper, until=lambda x: x > 1), lambda: loop(helper, until=lambda x: x > 3)),
    "a check": (lambda: assert_(helper, lambda x: x > 1), lambda: assert_(helper, lambda x: x > 3)),
    "its attempts": (lambda: assert_(helper, "x > 1", attempts=2), lambda: assert_(helper, "x > 1", attempts=3)),
    "an item's step": (lambda: each("xs", adds(1)), lambda: each("xs", adds(2))),
    "an inner step": (
        lambda: dx.pipeline("p", a=parallel(u=adds(1))),
        lambda: dx.pipeline("p", a=parallel(u=adds(2))),
    ),
    "a default of a pipeline": (
        lambda: dx.pipeline("p", a=helper).with_defaults(x=1),
        lambda: dx.pipeline("p", a=helper).with_defaults(x=2),
    ),
    "a step's model": (
        lambda: dx.step(predictor(), lm="openai/one"),
        lambda: dx.step(predictor(), lm="openai/two"),
    ),
    "outputs": (lambda: dx.step(helper, outputs=["a"]), lambda: dx.step(helper, outputs=["b"])),
}


@pytest.mark.parametrize("what", PAIRS)
def test_other_work_has_another_mark_and_the_same_work_the_same(what: str) -> None:
    one, other = PAIRS[what]
    assert mark(one()) == mark(one())
    assert mark(one()) is not None
    assert mark(one()) != mark(other())


def test_a_function_is_other_work_where_what_it_uses_was_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark(uses_helper)
    monkeypatch.setitem(globals(), "FACTOR", 3)
    after = mark(uses_helper)
    assert before != after
    monkeypatch.setitem(globals(), "helper", lambda x: x)
    assert mark(uses_helper) not in (before, after)


def class_with(n: int, where: str) -> type:
    """A class of the user's own of which one part says ``n``."""
    values = dict.fromkeys(("static", "klass", "prop", "base"), 0) | {where: n}
    static, klass, prop, base = values.values()

    class Base:
        def deep(self) -> int:
            return base

    class Made(Base):
        @staticmethod
        def still() -> int:
            return static

        @classmethod
        def of(cls) -> int:
            return klass

        @property
        def value(self) -> int:
            return prop

        def __call__(self, x: int) -> int:
            return x

    return Made


@pytest.mark.parametrize("where", ["static", "klass", "prop", "base"])
def test_every_part_of_a_class_belongs_to_the_work_of_its_objects(where: str) -> None:
    assert mark(class_with(1, where)()) == mark(class_with(1, where)())
    assert mark(class_with(1, where)()) != mark(class_with(2, where)())


def test_what_an_object_holds_is_compared_as_far_as_it_can_be() -> None:
    def holding(value: Any) -> Any:
        made = Adder(1)
        made.held = value  # type: ignore[attr-defined]
        return made

    class Odd:
        def __reduce__(self) -> Any:
            raise TypeError("not to be pickled")

    for one, other in (
        (np.arange(3), np.arange(4)),
        (dt.date(2020, 1, 1), dt.date(2020, 1, 2)),
        ({"a": {1, 2}}, {"a": {1, 3}}),
        (Order(number=1, at=dt.datetime(2020, 1, 1)), Order(number=2, at=dt.datetime(2020, 1, 1))),
        (Loud.YES, "yes"),
        (dspy.LM("openai/one", api_key="k"), dspy.LM("openai/two", api_key="k")),
        (subprocess.run, subprocess.call),
        (list[int], list[str]),
    ):
        assert mark(holding(one)) == mark(holding(one)), one
        assert mark(holding(one)) != mark(holding(other)), one
    for same in (threading, threading.Lock(), Odd(), sys.stdout):
        assert mark(holding(same)) == mark(holding(same))


def test_a_cell_that_is_not_filled_yet_and_what_lies_too_deep_have_a_mark() -> None:
    def early(x: int) -> int:
        return later

    before = mark(early)
    later = 3
    assert before is not None
    assert mark(early) != before
    nested: Any = 1
    for _ in range(30):
        nested = [nested]
    assert mark(functools.partial(lambda x, deep: x, deep=nested)) is not None
    circle: list[Any] = []
    circle.append(circle)
    assert mark(functools.partial(lambda x, deep: x, deep=circle)) is not None


def test_a_counter_or_list_that_a_function_changes_does_not_count() -> None:
    space: dict[str, Any] = {"seen": [], "n": 0}
    exec(  # noqa: S102 - as a cell is
        "def f(x):\n    global n\n    n += 1\n    seen.append(x)\n    return x", space
    )
    before = mark(space["f"])
    space["f"](1)
    assert mark(space["f"]) == before


def test_functions_that_call_themselves_and_each_other_have_a_mark() -> None:
    space: dict[str, Any] = {}
    exec(  # noqa: S102 - as a cell is
        "def even(x):\n    return x == 0 or odd(x - 1)\ndef odd(x):\n    return x != 0 and even(x - 1)", space
    )
    assert mark(space["even"]) != mark(space["odd"])


def test_different_built_in_functions_are_different_work() -> None:
    def step_of(function: Any) -> Step:
        return dx.step(functools.partial(function), outputs=["y"])

    assert mark(step_of(len)) != mark(step_of(sorted))
    assert mark(step_of("a".join)) != mark(step_of("b".join))


def test_the_types_of_the_fields_belong_to_the_mark() -> None:
    item = dx.step(helper)
    marks = {
        fingerprint(item, {"x": 1}, Shape({"x": StepField("x", one)}, {"y": StepField("y", other)}, "y"))
        for one in (int, str)
        for other in (int, str)
    }
    assert len(marks) == 4


def test_secrets_and_addresses_of_a_model_do_not_count() -> None:
    def with_key(key: str) -> Any:
        return predictor(lm=dspy.LM("openai/gpt-5-mini", api_key=key, api_base=f"http://127.0.0.1/{key}"))

    assert mark(with_key("a")) == mark(with_key("b"))


SCRIPT = """
import dataclasses, enum, functools, datetime as dt, sys
import dspy, pydantic
import dspex_lab as dx
from dspex_lab.pipelines import each, loop, parallel, when
from dspex_lab.pipelines.kinds import assert_, template
from dspex_lab.pipelines._fingerprint import fingerprint

class Colour(enum.Enum):
    RED = 1
class Order(pydantic.BaseModel):
    number: int
    tags: set[str]
@dataclasses.dataclass
class Point:
    x: int
class Adder:
    def __init__(self, n): self.n, self.names = n, {"a", "b", "c"}
    def __call__(self, x): return x in {"one", "two", "three", "four"}
    def method(self, x): return x
class Own(dspy.Module):
    def __init__(self):
        super().__init__()
        self.k, self.ask = 3, dspy.ChainOfThought("x -> y: list[int]")
    def forward(self, x): return self.ask(x=x)
def adds(n): return lambda x: x + n
def plain(x: int, *, k=("a", Colour.RED)) -> dict[str, int]:
    return {"y": x, "z": len({"p", "q", "r"})}
ask = dspy.Predict("x -> y: dict[str, int]")
ask.demos = [dspy.Example(x="1", y={"a": 1})]
targets = [plain, adds(2), functools.partial(plain, k=4), Adder(1), Adder(1).method, Own(), ask, dspy.ChainOfThought("x -> y"),
    dx.predict("x -> y"),
    dx.chain_of_thought("x -> y: float[0..1]"), template("{{ x }}"), when(lambda x: x in {"a", "b"}, plain),
    loop(plain, until="x > 3"), each("x", adds(1)), parallel(a=adds(1), b=plain), assert_(plain, "x > 1"),
    dx.pipeline("p", a=plain, b=Adder(3))]
inputs = {"x": {"a", "b", "c", "d"}, "o": Order(number=1, tags={"x", "y", "z"}), "p": Point(1), "c": Colour.RED,
    "d": dt.date(2020, 1, 1), "f": frozenset({"k", "l", "m"}), "g": plain, "t": list[int], "u": Order}
for target in targets:
    print(fingerprint(dx.step(target), inputs))
"""


def test_marks_are_the_same_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "marks.py"
    script.write_text(SCRIPT, encoding="utf-8")
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(done.stdout.split())
    assert found[0] == found[1]
    assert len(set(found[0])) == len(found[0]) == 17
    assert "None" not in found[0]
