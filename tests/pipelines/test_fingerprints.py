"""Fingerprints: the same work is known again in another process, and other work is not taken for it."""

from __future__ import annotations

import datetime as dt
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest
from checkpoint_helpers import Loud, Order

import dspex_lab as dx
from dspex_lab.pipelines import Step, each, loop, parallel, when
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._fingerprint import fingerprint
from dspex_lab.pipelines.kinds import assert_, template
from dspex_lab.testing import scripted_lm

# --- fingerprints ----------------------------------------------------------------------------------------------------------


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
