"""The fields of native steps."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

import pydantic
import pytest

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import function_shape, misfit, split_result


class Row(TypedDict):
    left: int
    right: str


@dataclasses.dataclass
class Pair:
    left: int
    right: str


class Model(pydantic.BaseModel):
    left: int
    right: str


def typed(a: int) -> Row:
    return {"left": a, "right": "r"}


def data(a: int) -> Pair:
    return Pair(a, "r")


def model(a: int) -> Model:
    return Model(left=a, right="r")


def display(a: int):
    if a:
        return {"left": a, "right": "r"}
    return {"left": 0, "right": ""}


def display_typed(a: int) -> dict[str, Any]:
    def inner() -> str:
        return "not a return of ours"

    return {"left": a, "right": inner()}


@pytest.mark.parametrize("function", [typed, data, model, display, display_typed])
def test_a_record_gives_its_fields(function: Any) -> None:
    shape = function_shape("s", function)
    assert list(shape.outputs) == ["left", "right"]
    assert split_result("s", shape, function(3))["left"] == 3


def test_anything_else_gives_one_field_named_like_the_step() -> None:
    def plain(a, b=2):
        return a

    shape = function_shape("answer", plain)
    assert list(shape.outputs) == ["answer"]
    assert {n: f.required for n, f in shape.inputs.items()} == {"a": True, "b": False}
    assert split_result("answer", shape, {"left": 1}) == {"answer": {"left": 1}}


def test_a_dict_whose_keys_are_not_constant_is_one_field() -> None:
    def computed(a):
        return {str(a): 1}

    assert list(function_shape("s", computed).outputs) == ["s"]


def test_declared_outputs_win() -> None:
    shape = function_shape("s", lambda a: (a, a), ("x",))
    assert split_result("s", shape, (1, 1)) == {"x": (1, 1)}
    two = function_shape("s", lambda a: {"x": a, "y": a}, ("x", "y"))
    assert split_result("s", two, {"x": 1, "y": 2}) == {"x": 1, "y": 2}


def test_parameters_that_have_no_name_are_refused() -> None:
    def variable(*rows):
        return rows

    with pytest.raises(PipelineError, match="'rows'"):
        function_shape("s", variable)


def test_a_missing_field_is_named() -> None:
    shape = function_shape("s", typed)
    with pytest.raises(PipelineError, match="returned no 'right'"):
        split_result("s", shape, {"left": 1})
    with pytest.raises(PipelineError, match="returned int, not the fields left, right"):
        split_result("s", shape, 7)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (int, 3, "3"),
        (float, 3, "x"),
        (str, "a", 1),
        (list[int], [1], ["1"]),
        (int | None, None, "n"),
        (dict[str, int], {"a": 1}, [1]),
    ],
)
def test_values_are_held_to_their_type_strictly(kind: Any, good: Any, bad: Any) -> None:
    assert misfit(kind, good) is None
    why = misfit(kind, bad)
    assert why is not None
    assert "expected" in why
    assert type(bad).__name__ in why


def test_types_nobody_can_check_are_let_through() -> None:
    class Own:
        pass

    assert misfit(Own, Own()) is None
    assert misfit(Any, object()) is None
