# ruff: noqa: E501
"""What `same` says of two pipelines that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import pytest
from round_trip_helpers import other, tidy

import dspex_lab as dx
from dspex_lab.pipelines import (
    Operation,
    parallel,
    pipeline,
    predict,
    same,
    step,
    when,
)

# --- what changed ---------------------------------------------------------------------------------------------------


def defined(source: str) -> Any:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(source, scope)  # noqa: S102 - the test's own text
    return scope["g"]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (lambda: {"a": tidy}, lambda: {"a": tidy, "b": tidy}, ["step 'b' added", "outputs added: b"]),
        (lambda: {"a": tidy, "b": tidy}, lambda: {"a": tidy}, ["step 'b' removed", "outputs removed: b"]),
        (lambda: {"a": tidy}, lambda: {"a": other}, ["step 'a': function was {m}:tidy, is {m}:other", "inputs added: k"]),
        (lambda: {"a": tidy, "b": tidy}, lambda: {"b": tidy, "a": tidy}, ["the order was a, b, is b, a", "outputs in another order: b, a"]),
        (lambda: {"a": step(tidy, timeout=1)}, lambda: {"a": step(tidy, timeout=2)}, ["step 'a': timeout was 1, is 2"]),
        (lambda: {"a": step(tidy, timeout=1)}, lambda: {"a": step(tidy)}, ["step 'a': timeout was 1, is not said any more"]),
        (lambda: {"a": tidy}, lambda: {"a": step(tidy, cache=True)}, ["step 'a': cache is True"]),
        (lambda: {"a": "Hi {{ x }}"}, lambda: {"a": "Hello {{ x }}"}, ["step 'a': template changed"]),
        (lambda: {"a": "Hi {{ x }}"}, lambda: {"a": tidy}, ["step 'a': type was lm, is native"]),
        (
            lambda: {"a": predict("x -> y, z: int")},
            lambda: {"a": predict("x -> y: list[str], z: int")},
            ["step 'a': signature: changed y: type from 'str' to 'list[str]'"],
        ),
        (
            lambda: {"a": predict(dx.signature("x -> y", name="A"))},
            lambda: {"a": predict("x -> y")},
            ["step 'a': signature: name was A, is none"],
        ),
        (
            lambda: {"a": when("x > 1", tidy)},
            lambda: {"a": when("x > 2", step(tidy, timeout=1), other)},
            ["step 'a': condition was x > 1, is x > 2", "step 'a': then.timeout is 1"],
        ),
        (
            lambda: {"a": parallel(b=tidy, c=tidy)},
            lambda: {"a": parallel(c=other, d=tidy)},
            ["step 'a': b removed", "step 'a': c.function was {m}:tidy, is {m}:other", "step 'a': d added"],
        ),
        (lambda: {"a": parallel(b=tidy, c=tidy)}, lambda: {"a": parallel(c=tidy, b=tidy)}, ["step 'a': the order was b, c, is c, b"]),
        (lambda: {"a": pipeline("q", b=tidy)}, lambda: {"a": pipeline("r", b=tidy)}, ["step 'a': name was q, is r"]),
        (lambda: {"a": defined("def g(x):\n  return x")}, lambda: {"a": defined("def g(x):\n  return 1")}, ["step 'a': the code of g changed"]),
        (lambda: {"a": defined("def g(x):\n  return x")}, lambda: {"a": defined("\n\ndef g(x):\n  return x")}, []),
        (lambda: {"a": defined("def g(x, k=1): ...")}, lambda: {"a": defined("def g(x, k=2): ...")}, ["step 'a': the code of g changed"]),
        (
            lambda: {"a": Operation("predict", dx.signature("x -> y"), (dspy.Example(x="1", y="2"),))},
            lambda: {"a": Operation("predict", dx.signature("x -> y"), (dspy.Example(x="1", y="2"), dspy.Example(x="1", y="2")))},
            ["step 'a': demos changed (1 → 2)"],
        ),
    ],
)  # fmt: skip
def test_same_says_what_changed(before: Any, after: Any, lines: list[str]) -> None:
    found = same(pipeline("p", **before()), pipeline("p", **after()))
    wanted = [line.replace("{m}", tidy.__module__) for line in lines]
    assert found[: len(wanted)] == wanted
    assert all(line.startswith(("inputs ", "outputs ", "step 'a': otherwise")) for line in found[len(wanted) :])


def test_same_compares_names_and_defaults() -> None:
    one = pipeline("p", a=tidy)
    assert same(one, pipeline("q", a=one.steps["a"])) == ["the name was 'p', is 'q'"]
    assert same(one.with_defaults(x=1), one.with_defaults(x=2)) == ["the default of 'x' was 1, is 2"]
    assert same(one, one.with_defaults(x=2)) == ["the default of 'x' is 2"]


CLASS = "import dataclasses, enum, pydantic\nfrom typing import TypedDict\n{}\ng = C"


@pytest.mark.parametrize(
    "body",
    [
        "class C(TypedDict):\n    a: int",
        "@dataclasses.dataclass\nclass C:\n    a: int = 1",
        "@dataclasses.dataclass(frozen=True, slots=True)\nclass C:\n    a: int",
        "class C(enum.Enum):\n    A = 1",
        "class C(pydantic.BaseModel):\n    a: int",
        "class C:\n    def m(self): return 1",
    ],
)
def test_a_class_defined_again_is_the_same_until_it_says_something_else(body: str) -> None:
    from dspex_lab.pipelines.files._refs import alike

    one = defined(CLASS.format(body))
    assert alike(one, defined(CLASS.format("\n\n" + body)))
    changed = body.replace("a: int", "a: str").replace("A = 1", "A = 2").replace("return 1", "return 2")
    assert not alike(one, defined(CLASS.format(changed)))
    assert not alike(one, defined(CLASS.format(body.replace("C", "D") + "\nC = D")))


# --- what is alike --------------------------------------------------------------------------------------------------


def test_alike_looks_into_partials_methods_and_cells() -> None:
    import functools

    from dspex_lab.pipelines.files._refs import alike

    class Touchy:
        def __eq__(self, other: object) -> bool:
            raise ValueError("no")

        __hash__ = None  # type: ignore[assignment]

        def method(self) -> int:
            return 1

    def cell(n: Any) -> Callable[[], Any]:
        return lambda: n

    assert alike(functools.partial(tidy, 1), functools.partial(tidy, 1))
    assert not alike(functools.partial(tidy, 1), functools.partial(tidy, 2))
    one, two = Touchy(), Touchy()
    assert alike(one.method, one.method)
    assert not alike(one.method, two.method)
    assert not alike(one, two)
    assert alike(cell(1), cell(1))
    assert not alike(cell(1), cell(2))
    assert not alike(1, True)
