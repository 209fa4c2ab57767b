"""What makes two requests of a step equal: its inputs, what it is, and the model."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.lms import asking_again
from dspex_lab.pipelines._cache import StepCache
from dspex_lab.pipelines._cache_key import NoKey, form, state
from dspex_lab.pipelines._step import step


def work(text: Any = None, n: Any = None) -> str:
    return ""


def key(inputs: dict[str, Any], target: Any = work, model: Any = None, **options: Any) -> Any:
    return StepCache().key(step(target, name="work", outputs=["out"], **options), inputs, model)


# --- what is equal --------------------------------------------------------------------------------------------------


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=True),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from(["True", "1", "1.0", "None", "i", "long"]),
)


values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.frozensets(scalars.filter(lambda v: v == v), max_size=3),
    ),
    max_leaves=8,
)


def told_apart(value: Any) -> Any:
    """Return a text in which everything that a step could tell apart differs; sets in one order."""
    if isinstance(value, frozenset):
        return f"frozenset{sorted(map(told_apart, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{','.join(map(told_apart, value))}]"
    if isinstance(value, dict):
        return f"dict[{','.join(f'{told_apart(k)}:{told_apart(v)}' for k, v in value.items())}]"
    return f"{type(value).__name__}:{value!r}"


@settings(max_examples=400, deadline=None)
@given(values, values)
def test_two_values_have_one_form_exactly_where_nothing_tells_them_apart(one: Any, two: Any) -> None:
    assert (form(one) == form(two)) == (told_apart(one) == told_apart(two))
    if form(one) == form(two):
        assert hash(form(one)) == hash(form(two))


def test_one_and_true_and_one_point_nought_are_three_inputs() -> None:
    assert len({key({"n": n}) for n in (1, True, 1.0, "1", b"1", [1], (1,), {1}, frozenset({1}), {"1": 1}, None)}) == 11
    assert len({form(0.0), form(-0.0), form(0), form(False)}) == 4
    assert form(float("nan")) == form(float("nan"))


def test_the_order_of_fields_does_not_count_that_of_a_dict_does() -> None:
    assert key({"text": "a", "n": 1}) == key({"n": 1, "text": "a"})
    assert key({"text": {"a": 1, "b": 2}}) != key({"text": {"b": 2, "a": 1}})
    assert key({"text": "a"}) != key({"text": "a", "n": None})
    assert key({"text": "a"}) != key({"n": "a"})


def test_long_texts_stand_in_the_key_as_digests() -> None:
    long = "x" * 100_000
    assert form(long) == form("x" * 100_000)
    assert form(long) != form(long[:-1] + "y")
    assert form("\ud800" * 300) != form("\ud801" * 300)
    assert form(b"x" * 1_000) != form(b"x" * 999 + b"y")
    assert len(repr(form(long))) < 200


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 2


@dataclass(slots=True)
class Point:
    x: int
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Place:
    x: int
    tags: list[str] = field(default_factory=list)


class Card(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    points: list[int] = []
    _hidden: int = pydantic.PrivateAttr(0)


class Tokened:
    def __init__(self, version: int) -> None:
        self.version = version
        self.lock = threading.Lock()

    def cache_token(self) -> int:
        return self.version


def card(hidden: int) -> Card:
    made = Card(name="a")
    made._hidden = hidden
    return made


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda: Point(1, ["a"]), lambda: Point(1, ["b"])),
        (lambda: Point(1), lambda: Place(1)),
        (lambda: Card(name="a", points=[1]), lambda: Card(name="a", points=[True, 2])),
        (lambda: Card(name="a", more=1), lambda: Card(name="a", more=2)),
        (lambda: card(1), lambda: card(2)),
        (lambda: Colour.RED, lambda: Colour.CRIMSON),
        (lambda: Tokened(1), lambda: Tokened(2)),
        (lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), lambda: datetime.datetime(2026, 1, 1)),
        (lambda: decimal.Decimal("1.0"), lambda: decimal.Decimal("1.00")),
        (lambda: UUID(int=1), lambda: UUID(int=2)),
        (lambda: Path("a"), lambda: "a"),
        (lambda: range(3), lambda: [0, 1, 2]),
        (lambda: bytearray(b"a"), lambda: b"a"),
        (lambda: {1, 2}, lambda: frozenset({1, 2})),
        (lambda: np.arange(4), lambda: np.arange(4.0)),
        (lambda: np.arange(4), lambda: np.arange(4).reshape(2, 2)),
        (lambda: np.array(["a", 1], dtype=object), lambda: np.array(["a", True], dtype=object)),
        (lambda: np.float32(1), lambda: np.float64(1)),
        (lambda: np.zeros(2, dtype=[("a", "i4")]), lambda: np.zeros(2, dtype=[("b", "i4")])),
        (lambda: frame(a=[1, 2]), lambda: frame(a=[1, 3])),
        (lambda: frame(a=[1, 2]), lambda: frame(b=[1, 2])),
        (lambda: frame(a=[1, 2]), lambda: frame(a=[1.0, 2.0])),
        (lambda: frame(a=["1", None]), lambda: frame(a=[1, None]).astype(object)),
        (lambda: frame(a=pd.array([1, None], dtype="Int64")), lambda: frame(a=pd.array([1, 2], dtype="Int64"))),
        (lambda: frame(a=[1, 2]), lambda: pd.DataFrame({"a": [1, 2]}, index=[5, 6])),
        (lambda: frame(a=pd.to_datetime(["2026-01-01"])), lambda: frame(a=pd.to_datetime(["2026-01-02"]))),
        (lambda: pd.Series([1, 2], name="a"), lambda: pd.Series([1, 2], name="b")),
        (lambda: pd.Index([1, 2]), lambda: pd.Index([1, 3])),
        (lambda: SimpleNamespace(a=1), lambda: SimpleNamespace(a=2)),
        (lambda: work, lambda: test_long_texts_stand_in_the_key_as_digests),
        (lambda: int, lambda: str),
        (lambda: list[int], lambda: list[str]),
    ],
)
def test_equal_values_made_twice_have_one_form_and_others_another(make: Callable[[], Any], other: Callable[[], Any]) -> None:
    if make() is not list[int]:
        assert form(make()) == form(make()) or isinstance(make(), type(list[int]))
    assert form(make()) != form(other())


def test_a_dspy_example_goes_by_its_fields() -> None:
    import dspy

    one = dspy.Example(q="a", a="b").with_inputs("q")
    assert form(one) == form(dspy.Example(q="a", a="b").with_inputs("q"))
    assert form(one) != form(dspy.Example(q="a", a="c").with_inputs("q"))
    assert form(one) != form(dspy.Example(q="a", a="b"))


def test_what_cannot_be_compared_is_not_cached_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    cache, item = StepCache(), step(work, name="work")
    circle: list[Any] = []
    circle.append(circle)
    with caplog.at_level(logging.WARNING, "dspex_lab"):
        for _ in range(3):
            assert cache.key(item, {"text": threading.Lock()}) is None
            assert cache.key(item, {"text": circle}) is None
    assert [r.getMessage().split(":")[0] for r in caplog.records if r.name == "dspex_lab"] == [
        "Step 'work' is not cached for a lock (TypeError",
        "Step 'work' is not cached for a list nested 64 deep",
    ]
    with pytest.raises(NoKey):
        form(threading.Lock())


def test_a_value_that_breaks_when_looked_at_is_not_cached() -> None:
    class Broken(Tokened):
        def cache_token(self) -> int:
            raise RuntimeError("no")

    assert key({"text": Broken(1)}) is None


# --- the step and the model -----------------------------------------------------------------------------------------


def test_a_function_is_itself() -> None:
    def make() -> Callable[[str], str]:
        def same(text: str) -> str:
            return text

        return same

    one, two = make(), make()
    assert key({}, one) == key({}, one)
    assert key({}, one) != key({}, two)
    assert key({}, one) != key({}, one, lm="openai/other")


def test_a_callable_object_goes_by_what_it_keeps() -> None:
    class Scale:
        def __init__(self) -> None:
            self.factor, self.lock = 2, threading.Lock()

        def __call__(self, n: int) -> int:
            return n * self.factor

        def method(self, n: int) -> int:
            return n * self.factor

    scale = Scale()
    before, method = key({}, scale), key({}, scale.method)
    assert key({}, scale) == before
    assert key({}, scale.method) == method
    scale.factor = 3
    assert key({}, scale) != before
    assert key({}, scale.method) != method
    assert state(functools.partial(work, n=1)) == state(functools.partial(work, n=1))
    assert state(functools.partial(work, n=1)) != state(functools.partial(work, n=True))


def test_a_module_goes_by_demonstrations_instructions_and_settings() -> None:
    import dspy

    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.k = 3
            self.answer = dspy.ChainOfThought("question -> answer")
            self.more = [dspy.Predict("answer -> grade")]
            self.lookup = {"a": threading.Lock()}
            self.card = Card(name="a")

        def forward(self, question: str) -> Any:
            return self.answer(question=question)

    program = Program()
    seen = [key({}, program)]

    def changed() -> None:
        now = key({}, program)
        assert key({}, program) == now
        assert now not in seen
        seen.append(now)

    program.answer.predict.demos = [dspy.Example(question="1", answer="2")]
    changed()
    program.answer.predict.demos[0]["answer"] = "3"
    changed()
    program.more[0].signature = program.more[0].signature.with_instructions("Be strict.")
    changed()
    program.more[0].signature.instructions = "Be lenient."
    changed()
    program.more[0].config = {"temperature": 1.0}
    changed()
    program.k = 4
    changed()
    program.card.points = [1]
    changed()
    program.lookup["a"] = threading.Lock()
    changed()
    program.answer.predict.lm = dspy.LM("openai/a")
    changed()
    program.answer.predict.lm = dspy.LM("openai/a", temperature=0.5)
    changed()
    program.history.append({"outputs": ["x"]})
    program.answer.predict.traces.append(1)
    assert key({}, program) == seen[-1]
    assert key({}, Program()) != key({}, Program())


def test_a_bare_predictor_goes_by_its_demonstrations() -> None:
    import dspy

    predict = dspy.Predict("question -> answer")
    before = key({"question": "1"}, predict)
    assert key({"question": "1"}, predict) == before
    predict.demos = [dspy.Example(question="1", answer="2")]
    assert key({"question": "1"}, predict) != before


def test_the_model_and_its_settings_count() -> None:
    import dspy

    lms = [dspy.LM("openai/a"), dspy.LM("openai/a", temperature=0.5), dspy.LM("openai/b"), None]
    assert len({key({}, model=lm) for lm in lms}) == 4
    assert key({}, model=dspy.LM("openai/a")) == key({}, model=dspy.LM("openai/a"))
    from dspex_lab.testing import scripted_lm

    assert key({}, model=scripted_lm("a", model="s/a")) != key({}, model=scripted_lm("b", model="s/a"))
    item = step(work)
    assert StepCache().key(item, {}, also="x") != StepCache().key(item, {}, also="y")
    assert StepCache().key(item, {}, field="x") != StepCache().key(item, {}, field="y")


def test_a_steps_inner_steps_count() -> None:
    import dspy

    from dspex_lab.pipelines import when

    predict = dspy.Predict("question -> answer")
    item = when("n > 1", predict)
    cache = StepCache()
    before = cache.key(item, {"n": 2, "question": "a"})
    assert cache.key(item, {"n": 2, "question": "a"}) == before
    predict.demos = [dspy.Example(question="1", answer="2")]
    assert cache.key(item, {"n": 2, "question": "a"}) != before


def test_a_request_that_is_asked_again_is_another_request() -> None:
    plain = key({"text": "a"})
    with asking_again("That was wrong."):
        again = key({"text": "a"})
        with asking_again("So was that."):
            third = key({"text": "a"})
    assert len({plain, again, third}) == 3
    assert key({"text": "a"}) == plain


def test_a_library_that_is_still_being_imported_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another thread imports it: it is there, and has nothing in it yet.
    for name in ("numpy", "pandas"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert form(b"x") == form(b"x")
    assert form(complex(1, 2)) != form(complex(1, 3))
