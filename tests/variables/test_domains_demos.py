"""Demonstrations as a domain: what becomes plain and fixed, what is refused, and how they are searched."""

from __future__ import annotations

import datetime
import enum
import pathlib
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from domain_helpers import refusal
from pydantic import BaseModel

from dspex_lab.errors import VariableError
from dspex_lab.variables import Demos, Frozen, Plain


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Team(BaseModel):
    name: str


@dataclass
class Point:
    x: int


def test_demonstrations_are_examples_or_dicts_and_become_plain_and_fixed() -> None:
    import dspy

    example = dspy.Example(message="Card lost", team=Team(name="cards"), seen=datetime.date(2026, 1, 2)).with_inputs("message")
    rows = [{"message": "x", "tags": ("a", "b"), "colour": Colour.RED, "level": Level.HIGH, "scores": np.array([1.5])}, example]
    found = Demos().cast(rows, "x")
    assert found == (
        {"message": "x", "tags": ["a", "b"], "colour": "red", "level": 3, "scores": [1.5]},
        {"message": "Card lost", "team": {"name": "cards"}, "seen": "2026-01-02"},
    )
    rows[0]["message"] = "changed"  # type: ignore[index]
    assert found[0]["message"] == "x"
    with pytest.raises(TypeError, match="does not change"):
        found[0]["message"] = "y"
    assert dspy.Example(**found[1]).team == {"name": "cards"}


def test_other_values_in_demonstrations_become_plain_or_are_named() -> None:
    import dspy

    plain = Plain().cast({"p": pathlib.PurePosixPath("a/b"), "d": Point(3), "s": {2, 1}, "e": dspy.Example(a=1)}, "x")
    assert plain == {"p": "a/b", "d": {"x": 3}, "s": [1, 2], "e": {"a": 1}}
    assert "JSON has no builtins.object at [0]['image']" in refusal(Demos(), [{"image": object()}])
    assert "no such number at [1]['score']" in refusal(Demos(), [{}, {"score": float("nan")}])
    assert "a key is a text at [0]" in refusal(Demos(), [{1: 2}])
    assert "half of a pair at [0]['a']" in refusal(Demos(), [{"a": "\udfff"}])
    deep: list[Any] = []
    deep.append(deep)
    assert "contains itself" in refusal(Plain(), deep)


@pytest.mark.parametrize("value", ["abc", {"a": 1}, 5, [5], [None]])
def test_what_is_no_list_of_examples_is_refused(value: Any) -> None:
    assert "a dict or a dspy.Example" in refusal(Demos(), value)


def test_a_lone_example_is_no_list_of_them() -> None:
    import dspy

    assert "a list of demonstrations" in refusal(Demos(), dspy.Example(a=1))


def test_there_is_a_most_of_demonstrations() -> None:
    assert "more than 2 demonstrations" in refusal(Demos(most=2), [{}] * 3)
    for given in ({"most": -1}, {"candidates": "ab"}, {"candidates": {"a": 1}}):
        with pytest.raises(VariableError):
            Demos(**given)  # type: ignore[arg-type]


def test_demonstrations_are_searched_among_candidates() -> None:
    domain = Demos([[], [{"q": "a", "a": 1}], [{"q": "a", "a": True}]])
    assert domain.distribution().choices[0] == "0: (0) none"
    for candidate in domain.candidates:
        found = domain.from_distribution(domain.to_distribution(candidate))
        assert domain.equal(found, candidate)
    assert not domain.equal(domain.candidates[1], domain.candidates[2])
    assert (domain.first(), Demos().first()) == ((), ())


def test_a_frozen_dict_reads_and_pickles_like_a_dict_and_a_deep_copy_is_the_copiers() -> None:
    import copy

    frozen = Frozen({"a": [1]})
    assert pickle.loads(pickle.dumps(frozen)) == frozen == {"a": [1]}  # noqa: S301
    assert type(pickle.loads(pickle.dumps(frozen))) is Frozen  # noqa: S301
    assert copy.copy(frozen) is frozen
    mine = copy.deepcopy(frozen)
    mine["a"].append(2)
    mine["b"] = 1
    assert frozen == {"a": [1]}
    for act in (frozen.clear, lambda: frozen.update(a=1), lambda: frozen.pop("a"), lambda: frozen.setdefault("b", 1)):
        with pytest.raises(TypeError, match="does not change"):
            act()
